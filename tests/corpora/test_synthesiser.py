import base64
import io
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import synth_data
from espnet_plugin.corpora import espeak, synthesiser, synthesiser_speech
from espnet_plugin.corpora.augment import RATE, rms
from espnet_plugin.corpora.synthesiser import SynthesisError, decode, make_synthesiser
from espnet_plugin.corpora.synthesiser_config import SynthesiserConfig, Voice, read_config
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import DataDir, read_table

VOICES = "voices:\n  - {name: v1, cs: mix1, ms: m1, en: e1}\n  - {name: v2, cs: mix2}\n"
V1 = Voice("v1", {"cs": "mix1", "ms": "m1", "en": "e1"})


def sound(seconds: float, hertz: float = 440.0, rate: int = 22_050, gain: float = 0.3) -> bytes:
    wave = gain * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_lines(path: Path, *markups: str) -> Path:
    with open(path, "w") as file:
        for markup in markups:
            text = markup.replace("[", "").replace("]", "")
            lang = "cs" if "[" in markup else "ms"
            record = {"text": text, "lang": lang, "markup": markup, "from": "corpus.txt:7"}
            file.write(json.dumps(record) + "\n")
    return path


def speak(lines: Path, output: Path, config: Path | str, *more: str) -> dict[str, Any]:
    command = ["speak", "--lines", str(lines), "--output", str(output), "--synthesiser"]
    synth_data.main([*command, str(config), *more])
    return json.loads((output / "synthetic.json").read_text())


LINES = ["Saya [like this car], murah.", "Dia [is very tired] hari ini.", "Jom [lunch] sekarang."]


# ---- configuration


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: comand\n", r"kind: 'comand' \(did you mean command\?\)"),
        ("kind: command\ncomand: x\n", r"unknown setting 'comand' \(did you mean command\?\)"),
        ("kind: command\n" + VOICES, "command: empty; a program is needed"),
        ("kind: command\ncommand: say '{text}\n" + VOICES, "command: No closing quotation"),
        ("kind: command\ncommand: say {txt}\n" + VOICES, r"\{txt\} in '\{txt\}': no such place"),
        ("kind: command\ncommand: say {voice}\n" + VOICES, "nothing is told what to say"),
        ("kind: command\ncommand: say {text}\n", "voices: none"),
        ("kind: http\nurl: ftp://h/{text}\n" + VOICES, "url: 'ftp://h/{text}'; http://HOST"),
        ("kind: http\nurl: http://h/{text}{output}\n" + VOICES, r"\{output\} is for commands"),
        ("kind: http\nurl: http://h/{text}\ntimeout: 0\n" + VOICES, "timeout: 0 seconds"),
        ("kind: http\nurl: http://h/{text}\nretries: 1.5\n" + VOICES, "retries: found 1.5"),
        ("kind: http\nurl: http://h/{text}\nvoices: [{ms: x}]\n", "the name '' has not only"),
        ("kind: http\nurl: http://h/{text}\nvoices: [{name: a}]\n", "a speaks no language"),
        ("kind: http\nurl: http://h/{text}\nvoices: [a]\n", "voices: 'a' is not {name"),
        ("voices: [{name: a, ms: x}, {name: a, ms: y}]\nkind: http\n", "one name is given twice"),
        ("- a\n", "a mapping 'name: value' is expected"),
        ("a: [\n", "not YAML"),
    ],
)
def test_wrong_configurations(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "tts.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=rf"tts\.yaml: .*{message}"):
        read_config(path)


def test_missing_configuration_and_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FileNotFoundError, match="is espeak, or a YAML file"):
        read_config("espeek")
    config = SynthesiserConfig(
        "http", url="http://h/{text}", headers={"A": "Bearer $TTS_TOKEN"}, voices=(V1,)
    )
    monkeypatch.delenv("TTS_TOKEN", raising=False)
    with pytest.raises(ValueError, match="headers: the environment has no variable TTS_TOKEN"):
        make_synthesiser(config)
    with pytest.raises(FileNotFoundError, match="no-such-tts: no such program"):
        make_synthesiser(SynthesiserConfig("command", "no-such-tts {text}", voices=(V1,)))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it nothing"),
        (b"<html>busy</html>", "it no audio"),
        (sound(1, gain=0.0), "it silence"),
        (sound(0), "it silence"),
    ],
)
def test_what_is_no_speech(data: bytes, reason: str) -> None:
    with pytest.raises(SynthesisError) as error:
        decode(data, "it")
    assert error.value.reason == reason


# ---- a command


def command(text: str, **more: Any) -> synthesiser.Synthesiser:
    return make_synthesiser(SynthesiserConfig("command", text, voices=(V1,), **more))


def test_commands_get_text_and_voice_without_a_shell(tmp_path: Path) -> None:
    (tmp_path / "mix1.wav").write_bytes(sound(1.5))
    script = f'printf "%s" "$1" >{tmp_path}/said; cp {tmp_path}/"$2".wav "$3"'
    config = {"languages": {"cs": "ms-MY"}}
    speaks = command(f"sh -c '{script}' x \"{{text}}/{{lang}}\" {{voice}} {{output}}", **config)
    text = [("Saya; ", "ms"), ("`ls` $HOME", "en"), (' "apa" ', "ms")]
    wave, rate = speaks.speak(text, "cs", V1)
    assert (len(wave) / rate, rate) == (1.5, 22_050)
    assert (tmp_path / "said").read_text() == 'Saya; `ls` $HOME "apa"/ms-MY'
    out = command(f"sh -c 'cat >{tmp_path}/said; cat {tmp_path}/mix1.wav'", stdin="{text}")
    assert len(out.speak([("Apa khabar?", "ms")], "cs", V1)[0]) == len(wave)
    assert (tmp_path / "said").read_text() == "Apa khabar?"


@pytest.mark.parametrize(
    ("text", "reason", "found"),
    [
        ("sh -c 'echo no voice >&2; exit 3' {text}", "command failed", "exit code 3: no voice"),
        ("true {text} {output}", "command wrote no file", "true"),
        ("echo {text}", "command wrote no audio", "apa"),
        ("true {text}", "command wrote nothing", "0 bytes"),
        ("sleep 5 {text}", "command took too long", "over 0.05 s"),
    ],
)
def test_failing_commands(text: str, reason: str, found: str) -> None:
    text = text.replace("5 {text}", "5") if text.startswith("sleep") else text
    stdin = "{text}" if text.startswith("sleep") else ""
    with pytest.raises(SynthesisError, match=found) as error:
        command(text, timeout=0.05 if stdin else 10.0, stdin=stdin).speak([("apa", "ms")], "ms", V1)
    assert error.value.reason == reason


# ---- a server


class Server(BaseHTTPRequestHandler):
    """Speaks by path; counts and keeps what it was asked."""

    asked: list[tuple[str, dict[str, str], Any]] = []  # noqa: RUF012
    plan: list[int] = []  # noqa: RUF012  # answers to give before speaking

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer({k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def answer(self, values: dict[str, Any]) -> None:
        path = urlsplit(self.path).path
        Server.asked.append((path, dict(self.headers), values))
        if Server.plan:
            code = Server.plan.pop(0)
            if code == 0:  # breaks the connection
                self.connection.close()
                return
            self.send(code, b"try later", {"Retry-After": "0"})
        elif path == "/slow":
            time.sleep(0.4)
        elif path == "/json":
            audio = base64.b64encode(sound(1.0)).decode()
            self.send(200, json.dumps({"audio": audio}).encode())
        elif path == "/odd" and "lunch" in values["text"]:
            self.send(200, b"<html>sorry</html>")
        else:
            words = len(values["text"].split())
            self.send(200, sound(0.3 * words, 440 if values.get("voice") == "m1" else 880))

    def send(self, code: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    Server.asked, Server.plan = [], []
    monkeypatch.setattr(synthesiser, "_FIRST_WAIT", 0.001)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # must not be used


def http(url: str, **more: Any) -> synthesiser.Synthesiser:
    return make_synthesiser(SynthesiserConfig("http", url=url, voices=(V1,), **more))


APA = [("Apa & ", "ms"), ("why?", "en")]


def test_servers_are_asked_as_configured(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wave, rate = http(address + "/say?text={text}&voice={voice}").speak(APA, "cs", V1)
    assert len(wave) / rate == pytest.approx(0.9, abs=0.01)
    monkeypatch.setenv("TTS_TOKEN", "secret")
    body = {"text": "{text}", "options": ["{voice}", {"lang": "{lang}", "speed": 1.1}]}
    headers = {"Authorization": "Bearer $TTS_TOKEN"}
    posts = http(address + "/json", body=body, headers=headers, audio_field="audio")
    assert len(posts.speak(APA, "en", V1)[0]) == 22_050
    (_, _, got), (_, sent, posted) = Server.asked
    assert got == {"text": "Apa & why?", "voice": "mix1"}
    assert posted == {"text": "Apa & why?", "options": ["e1", {"lang": "en", "speed": 1.1}]}
    assert sent["Authorization"] == "Bearer secret"
    assert sent["Content-Type"] == "application/json"
    with pytest.raises(SynthesisError) as error:
        http(address + "/json", body=body, audio_field="sound").speak(APA, "cs", V1)
    assert error.value.reason == "answer without audio in 'sound'"


def test_servers_that_are_busy_are_asked_again(address: str) -> None:
    server = http(address + "/say?text={text}", retries=3)
    Server.plan = [503, 429, 0]
    assert len(server.speak(APA, "cs", V1)[0])
    assert len(Server.asked) == 4
    Server.plan = [500] * 4
    with pytest.raises(SynthesisError, match="500 .*try later") as error:
        server.speak(APA, "cs", V1)
    assert error.value.reason == "server said 500"
    assert len(Server.asked) == 8
    with pytest.raises(SynthesisError, match=r"no answer within 0\.05 s") as error:
        http(address + "/slow?text={text}", timeout=0.05, retries=0).speak(APA, "cs", V1)
    assert error.value.reason == "server took too long"


def test_hopeless_servers_end_everything(address: str) -> None:
    Server.plan = [404]
    with pytest.raises(ValueError, match="the synthesiser refuses: .* 404 Not Found: try later"):
        http(address + "/say?text={text}").speak(APA, "cs", V1)
    with pytest.raises(ValueError, match="the synthesiser cannot be reached: http://127.0.0.1:9/"):
        http("http://127.0.0.1:9/?text={text}", retries=1).speak(APA, "cs", V1)


# ---- data directories


def test_voices_are_balanced_and_everything_is_said(address: str, tmp_path: Path, capsys) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", *LINES, *LINES, "Apa khabar semua?")
    config = tmp_path / "tts.yaml"
    url = address + "/say?text={text}&voice={voice}"
    config.write_text(f"kind: http\nurl: {url}\n{VOICES}")
    (tmp_path / "text").write_text("x-1 jom LUNCH sekarang\n")
    report = speak(lines, tmp_path / "out", config, "--exclude", str(tmp_path / "text"))
    assert report["failed"] == {"excluded": 2}  # no failure, whatever --max_failed
    assert "5 utterances of 7 lines" in capsys.readouterr().out
    assert sorted(report["speakers"].values()) == [2, 3]
    assert {values["text"] for _, _, values in Server.asked} == {
        *(line.replace("[", "").replace("]", "") for line in LINES[:2]),
        "Apa khabar semua?",
    }
    assert validate_data_dir(tmp_path / "out") == []
    data = DataDir.load(tmp_path / "out")
    assert Counter(data.utt2lang.values()) == {"cs": 4, "ms": 1}
    assert "utt2times" not in data.extra
    levels = []
    for utt in data.utterances:
        wave, rate = soundfile.read(data.wav[utt])
        words = len(data.text[utt].split())
        assert rate == RATE
        assert len(wave) / RATE == pytest.approx(0.2 + 0.3 * words, abs=0.02)
        levels.append(20 * np.log10(rms(wave)))
    assert -27.1 < min(levels) < max(levels) < -18.9
    assert max(levels) - min(levels) > 0.5
    rows = [json.loads(row) for row in (tmp_path / "out" / "metadata.jsonl").open()]
    assert {row["from"] for row in rows} == {"corpus.txt:7"}
    assert {row["voice"] for row in rows} == {"v1", "v2"}
    ms = next(row["utt"] for row in rows if data.utt2lang[row["utt"]] == "ms")
    assert data.utt2spk[ms] == "synth_v1"  # v2 speaks mixed lines only


def test_stretches_are_spoken_apart_by_voices_of_one_language(address: str, tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", "Saya [like this car], murah.", "Apa khabar?")
    config = tmp_path / "tts.yaml"
    url = address + "/say?text={text}&voice={voice}"
    config.write_text(f"kind: http\nurl: {url}\nvoices: [{{name: v1, ms: m1, en: e1}}]\n")
    report = speak(lines, tmp_path / "out", config)
    assert not report["timed"]  # the Malay line was spoken as one
    said = [(v["text"], v["voice"]) for _, _, v in Server.asked]
    assert said[:3] == [("Saya", "m1"), ("like this car,", "e1"), ("murah.", "m1")]
    report = speak(lines, tmp_path / "one", config, "--utterances", "1")
    assert report["timed"]
    data = DataDir.load(tmp_path / "one")
    (utt,) = data.utterances
    wave, _ = soundfile.read(data.wav[utt])
    times = [part.split(":") for part in data.extra["utt2times"][utt].split()]
    assert [int(words) for _, _, words in times] == [1, 3, 1]
    for (start, end, words), hertz in zip(times, (440, 880, 440), strict=True):
        assert float(end) - float(start) == pytest.approx(0.3 * int(words), abs=0.03)
        part = wave[round(float(start) * RATE) : round(float(end) * RATE)]
        spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 14))
        assert spectrum.argmax() * RATE / (1 << 14) == pytest.approx(hertz, rel=0.05)
    config.write_text(f"kind: http\nurl: {url}\nvoices: [{{name: v1, ms: m1}}]\n")
    with pytest.raises(ValueError, match=r"line 1 is in 'cs' \(en ms\); no voice speaks that: v1"):
        speak(lines, tmp_path / "none", config)


def test_failures_are_counted_raised_and_tried_again(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthesiser_speech, "BATCH", 10)
    lines = write_lines(tmp_path / "lines.jsonl", *(LINES * 10))
    config = tmp_path / "tts.yaml"
    url = address + "/odd?text={text}&voice={voice}"
    config.write_text(f"kind: http\nurl: {url}\n{VOICES}")
    with pytest.raises(ValueError, match="6 of 20 lines gave no utterance, more than --max_failed"):
        speak(lines, tmp_path / "out", config)
    assert len(Server.asked) == 20
    assert not (tmp_path / "out" / "wav.scp").exists()
    report = speak(lines, tmp_path / "out", config, "--max_failed", "0.4", "--nj", "3")
    assert report["failed"] == {"server sent no audio": 10}
    assert (report["utterances"], report["lines"]) == (20, 30)
    assert len(Server.asked) == 40  # the first batch was there
    assert "<html>sorry" in (tmp_path / "out" / "failed.tsv").read_text()
    table = read_table(tmp_path / "out" / "wav.scp")
    speak(lines, tmp_path / "other", config, "--max_failed", "0.4")
    assert list(read_table(tmp_path / "other" / "wav.scp")) == list(table)
    asked = len(Server.asked)
    assert speak(lines, tmp_path / "out", config, "--max_failed", "0.4")["utterances"] == 20
    assert len(Server.asked) == asked


def test_texts_and_durations_have_to_fit(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", "Satu [two] tiga empat lima enam.", "[Hi] semua.")
    config = tmp_path / "tts.yaml"
    for seconds, reason in ((0.3, "too short for its text"), (31.0, "too long")):
        (tmp_path / "mix.wav").write_bytes(sound(seconds))
        voices = "voices: [{name: v, cs: mix}]"
        script = f'cp {tmp_path}/{{voice}}.wav "$0"'
        config.write_text(
            f"kind: command\ncommand: sh -c '{script}' {{output}} {{text}}\n{voices}\n"
        )
        if reason == "too long":
            with pytest.raises(ValueError, match=r"line 1: too long: 3\d\.\d s, at most 30 s"):
                speak(lines, tmp_path / reason, config, "--max_failed", "1")
        else:
            report = speak(lines, tmp_path / reason, config, "--max_failed", "1")
            assert report["failed"] == {reason: 1}


@pytest.mark.skipif(shutil.which(espeak.PROGRAM) is None, reason="no espeak-ng")
def test_espeak_speaks_lines(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", *LINES)
    report = speak(lines, tmp_path / "out", "espeak", "--utterances", "2")
    assert report["method"] == "espeak"
    assert report["voices"] == 64
    assert len(report["speakers"]) == 2
    assert validate_data_dir(tmp_path / "out") == []
