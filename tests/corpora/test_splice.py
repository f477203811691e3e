import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import synth_data
from espnet_plugin.corpora import splice as splice_module
from espnet_plugin.corpora.augment import RATE, rms
from espnet_plugin.corpora.data_dir import Utterance, write_data_dir, write_wav
from espnet_plugin.corpora.splice_bank import Bank
from espnet_plugin.corpora.splice_plan import NotRecordedError, Planner
from espnet_plugin.corpora.synthesiser_lines import SpokenLine, read_spoken_lines
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import DataDir

# every word is a tone of its own, so that what was cut out of where can be heard
TEXT = "saya beli kereta merah semalam di pasar dia rumah i bought car yesterday the a house"
HERTZ = {word: 300.0 + 110 * n for n, word in enumerate(TEXT.split())}
LANGUAGES = ("ms", "en")
WORD, PAUSE, EDGE = 0.25, 0.06, 0.2  # seconds


def tone(word: str, gain: float, seconds: float = WORD) -> np.ndarray:
    n = round(seconds * RATE)
    fade = np.minimum(1, np.minimum(np.arange(n), np.arange(n)[::-1]) / (0.01 * RATE))
    return gain * fade * np.sin(2 * np.pi * HERTZ[word] * np.arange(n) / RATE)


def recording(text: str, gain: float, noise: float, seed: int) -> tuple[np.ndarray, str]:
    """A sentence of tones, and its utt2times."""
    parts, times, at = [np.zeros(round(EDGE * RATE))], [], EDGE
    for token in text.split():
        parts += [tone(token.lower().strip(".,"), gain), np.zeros(round(PAUSE * RATE))]
        times.append(f"{at:.3f}:{at + WORD:.3f}:1")
        at += WORD + PAUSE
    wave = np.concatenate([*parts, np.zeros(round(EDGE * RATE))])
    wave += np.random.default_rng(seed).normal(0, noise, len(wave))
    return wave.astype(np.float32), " ".join(times)


SENTENCES = {
    "ms": [
        ("anna", "Saya beli kereta merah semalam."),
        ("budi", "Dia beli rumah di pasar, semalam."),
        ("anna", "Dia di rumah semalam."),
    ],
    "en": [
        ("anna", "I bought a car yesterday."),
        ("budi", "I bought the house yesterday."),
        ("cara", "The car, the house."),
    ],
}
GAINS = {"anna": 0.4, "budi": 0.1, "cara": 0.2}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two monolingual sets with the times of words."""
    found = []
    for lang, sentences in SENTENCES.items():
        folder = tmp_path_factory.mktemp("sets") / f"{lang}_train"
        rows = []
        for n, (speaker, text) in enumerate(sentences):
            wave, times = recording(text, GAINS[speaker], 1e-3, n)
            path = write_wav(folder / "wav" / f"{n}.wav", wave)
            name = f"{speaker}-{lang}{n}"
            rows.append(Utterance(name, speaker, text, lang, path, {"utt2times": times}))
        write_data_dir(folder, rows)
        found.append(folder)
    return found


@pytest.fixture(scope="module")
def bank(sets: list[Path]) -> Bank:
    return splice_module.load_bank(sets, LANGUAGES)


def copied(sets: list[Path], folder: Path) -> list[Path]:
    """Copies that a test may damage; their recordings are still those of the originals."""
    return [Path(shutil.copytree(path, folder / path.name)) for path in sets]


def write_lines(path: Path, *markups: str, **more: str) -> Path:
    with open(path, "w") as file:
        for markup in markups:
            text = markup.replace("[", "").replace("]", "")
            record = {"text": text, "lang": "cs", "markup": markup, **more}
            file.write(json.dumps(record) + "\n")
    return path


def line(markup: str, folder: Path, **more: str) -> SpokenLine:
    return next(read_spoken_lines(write_lines(folder / "one.jsonl", markup, **more), LANGUAGES))


def heard(wave: np.ndarray, start: float, end: float) -> str:
    """The word whose tone is loudest."""
    part = wave[round(start * RATE) : round(end * RATE)]
    spectrum = np.abs(np.fft.rfft(part * np.hanning(len(part)), 1 << 15))
    hertz = np.fft.rfftfreq(1 << 15, 1 / RATE)[spectrum.argmax()]
    return min(HERTZ, key=lambda word: abs(HERTZ[word] - hertz))


# ---- lines


def test_lines_and_their_runs(tmp_path: Path) -> None:
    one = line("Saya beli [the car], [yesterday] - di pasar.", tmp_path)
    assert one.text == "Saya beli the car, yesterday - di pasar."
    assert one.runs == [
        ("ms", ["Saya", "beli"]),
        ("en", ["the", "car,", "yesterday", "-"]),
        ("ms", ["di", "pasar."]),
    ]
    assert one.tags() == ["ms", "ms", "en", "en", "en", "ms", "ms"]
    assert line("Beli 25 [cars].", tmp_path).tags() == ["ms", "num", "en"]
    with pytest.raises(ValueError, match="'house-nya.' is in two languages"):
        _ = line("Saya [house]-nya.", tmp_path).runs


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ("{", "lines.jsonl:1: not JSON"),
        ('{"lang": "cs"}', "expected an object with 'text'"),
        ('{"text": "Saya."}', "no 'lang'; expected cs, ms or en"),
        ('{"text": "a b", "lang": "cs", "markup": "a [b"}', "unbalanced brackets"),
        ('{"text": "a b", "lang": "ms", "markup": "a [b]"}', "brackets in a line in 'ms'"),
        ('{"text": "a b", "lang": "cs", "markup": "a [c]"}', "'markup' without its brackets"),
        ('{"text": "a  b", "lang": "ms"}', "words with single spaces are needed"),
        ('{"text": "...", "lang": "ms"}', "words with single spaces are needed"),
    ],
)
def test_malformed_lines(record: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "lines.jsonl").write_text(record + "\n")
    with pytest.raises(ValueError, match=message):
        list(read_spoken_lines(tmp_path / "lines.jsonl", LANGUAGES))


# ---- what is recorded


def test_phrases_are_found_by_language_and_times(bank: Bank) -> None:
    def where(language: str, phrase: str) -> list[tuple[str, float]]:
        found = bank.find(language, tuple(phrase.split()))
        named = ((bank.sources[bank.owners[p]].utt, float(bank.starts[p])) for p in found)
        return sorted((utt, round(start, 2)) for utt, start in named)

    assert where("ms", "beli kereta") == [("anna-ms0", 0.51)]
    assert where("ms", "semalam") == [("anna-ms0", 1.44), ("anna-ms2", 1.13), ("budi-ms1", 1.75)]
    assert where("en", "i bought") == [("anna-en0", 0.2), ("budi-en1", 0.2)]
    assert where("en", "semalam") == where("ms", "i bought") == where("ms", "merah saya") == []
    assert bank.has("en", "The car,") and not bank.has("en", "car house")


def test_times_of_several_words_are_used_as_far_as_they_go(
    sets: list[Path], tmp_path: Path
) -> None:
    sets = copied(sets, tmp_path)
    path = sets[0] / "utt2times"
    lines = path.read_text().splitlines()
    lines[0] = "anna-ms0 0.20:0.76:2 0.82:1.69:3"
    path.write_text("\n".join(lines) + "\n")
    bank = splice_module.load_bank(sets[:1], LANGUAGES)
    assert len(bank.find("ms", ("saya", "beli"))) == 1
    assert len(bank.find("ms", ("saya", "beli", "kereta", "merah", "semalam"))) == 1
    assert not len(bank.find("ms", ("saya",)))
    assert not len(bank.find("ms", ("kereta", "merah")))


def test_unusable_sets(sets: list[Path], tmp_path: Path) -> None:
    sets = copied(sets, tmp_path)
    path = sets[0] / "utt2times"
    whole = path.read_text()
    path.write_text(whole.replace("anna-ms0 0.200:0.450:1 ", "anna-ms0 "))
    with pytest.raises(ValueError, match="anna-ms0: times of 4 words, the text has 5"):
        splice_module.load_bank(sets, LANGUAGES)
    path.write_text(whole.replace("anna-ms0 0.200:0.450:1 ", "anna-ms0 0.200-0.450 "))
    with pytest.raises(ValueError, match=r"anna-ms0: '0\.200-0\.450' in utt2times is not START"):
        splice_module.load_bank(sets, LANGUAGES)
    path.write_text("anna-ms0\n" + whole.partition("\n")[2])  # a combined set: not known
    assert splice_module.load_bank(sets, LANGUAGES).skipped == {"without times": 1}
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no utt2times; splicing needs the times"):
        splice_module.load_bank(sets, LANGUAGES)
    with pytest.raises(ValueError, match=r"no utterance to splice from \(in 'en': 3\)"):
        splice_module.load_bank(sets[1:], ("ms", "zh"))


# ---- who says what


def test_the_origin_then_the_speaker_then_others(bank: Bank, sets: list[Path], tmp_path: Path):
    def plan(markup: str, same: str = "preferred", **more: str) -> list[str]:
        planner = Planner(bank, 1, same, 0)
        return [piece.source.utt for piece in planner.plan(line(markup, tmp_path, **more)).pieces]

    origin = {"from": f"{sets[0]}/text:1"}  # the first of the sorted utterances
    assert plan("Semalam [car].", **origin) == ["anna-ms0", "anna-en0"]
    assert plan("Semalam [I bought].", **{"from": f"{sets[0]}/text:3"}) == ["budi-ms1", "budi-en1"]
    assert plan("Dia [the house].") == ["budi-ms1", "budi-en1"]  # the only one who says both
    assert set(plan("Merah [the house].")) <= {"anna-ms0", "budi-en1", "cara-en2"}
    with pytest.raises(NotRecordedError) as error:
        plan("Merah [the house].", "required")
    assert error.value.reason == "not by the same speaker"
    with pytest.raises(NotRecordedError, match="en: car house") as error:
        plan("Dia [car house].")
    assert error.value.reason == "phrase not recorded"
    with pytest.raises(ValueError, match="same_speaker is 'always'"):
        Planner(bank, 1, "always", 0)


def test_speakers_are_balanced(bank: Bank, tmp_path: Path) -> None:
    planner = Planner(bank, 1, "preferred", 0)
    jobs = [planner.plan(line("Dia [I bought].", tmp_path)) for _ in range(10)]
    assert [job.speaker for job in jobs].count("anna") == 5
    assert dict(planner.spoken) == {"anna": 5, "budi": 5}


def test_runs_from_several_recordings(bank: Bank, tmp_path: Path) -> None:
    wanted = line("Dia di pasar semalam [car].", tmp_path)
    with pytest.raises(NotRecordedError, match="ms: dia di pasar semalam"):
        Planner(bank, 1, "preferred", 0).plan(wanted)
    job = Planner(bank, 2, "preferred", 0).plan(wanted)
    assert [sum(count for _, _, count in piece.times) for piece in job.pieces] == [2, 2, 1]
    wanted = line("Dia semalam merah [car].", tmp_path)
    with pytest.raises(NotRecordedError, match="ms: semalam merah"):
        Planner(bank, 2, "preferred", 0).plan(wanted)
    assert len(Planner(bank, 3, "preferred", 0).plan(wanted).pieces) == 4


# ---- the whole


def spliced(sets: list[Path], lines: Path, output: Path, *more: str) -> dict:
    command = ["splice", "--input", *map(str, sets), "--lines", str(lines)]
    synth_data.main([*command, "--output", str(output), *more])
    return json.loads((output / "synthetic.json").read_text())


def test_a_data_directory(sets: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    lines = write_lines(
        tmp_path / "lines.jsonl",
        "Saya beli [a car] semalam.",
        "Dia [bought the house], semalam.",
        "[Never] semalam.",
        "Semalam [I bought].",
    )
    (tmp_path / "text").write_text("test-1 semalam I BOUGHT\n")
    exclude = ["--exclude", str(tmp_path / "text")]
    output = tmp_path / "spliced set"
    report = spliced(sets, lines, output, *exclude)
    assert report["utterances"] == 2
    assert report["failed"] == {"phrase not recorded": 1, "excluded": 1}
    assert report["tags"] == {"en": 5, "ms": 5}
    assert "2 utterances of 4 lines" in capsys.readouterr().out
    failed = (output / "failed.tsv").read_text().splitlines()
    assert failed[0] == "line 3\tphrase not recorded\ten: never"
    assert failed[1:] == ["line 4\texcluded\tSemalam I bought."]
    assert validate_data_dir(output) == []
    data = DataDir.load(output)
    assert set(data.utt2lang.values()) == {"cs"}
    metadata = [json.loads(row) for row in (output / "metadata.jsonl").open()]
    assert [row["utt"] for row in metadata] == data.utterances
    for utt in data.utterances:
        wave, rate = soundfile.read(data.wav[utt], dtype="float32")
        assert rate == RATE
        assert float(data.extra["utt2dur"][utt]) == pytest.approx(len(wave) / RATE, abs=1e-3)
        tokens = data.text[utt].split()
        parts = [part.split(":") for part in data.extra["utt2times"][utt].split()]
        assert len(parts) == len(tokens) == len(data.extra["utt2tags"][utt].split())
        for token, (start, end, _) in zip(tokens, parts, strict=True):  # the word is there
            assert heard(wave, float(start), float(end)) == token.lower().strip(".,")
        assert np.abs(np.diff(wave)).max() < 0.6  # no clicks
        levels = [rms(wave[round(float(s) * RATE) : round(float(e) * RATE)]) for s, e, _ in parts]
        assert max(levels) < 1.5 * min(levels)
        speaker = data.utt2spk[utt].removeprefix("splice_")
        (row,) = (row for row in metadata if row["utt"] == utt)
        assert speaker in {piece["speaker"] for piece in row["pieces"]}
        assert [piece["language"] for piece in row["pieces"]] == (["ms", "en", "ms"])


def test_taken_up_after_a_kill(
    sets: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    markups = ["Saya [a car].", "Dia [I bought].", "Semalam [the house].", "Rumah [yesterday]."]
    lines = write_lines(tmp_path / "lines.jsonl", *markups)
    spliced(sets, lines, tmp_path / "whole")
    monkeypatch.setattr(splice_module, "BATCH", 1)
    real, calls = splice_module._speak, []

    def killed(*args: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(splice_module, "_speak", killed)
    output = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        spliced(sets, lines, output)
    assert not (output / "wav.scp").exists()
    spliced(sets, lines, output)
    assert len(calls) == 3 + 2
    for name in ("text", "utt2spk", "utt2times", "utt2dur", "metadata.jsonl"):
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    for utt, path in DataDir.load(output).wav.items():
        assert (
            Path(path).read_bytes() == Path(DataDir.load(tmp_path / "whole").wav[utt]).read_bytes()
        )
    spliced(sets, lines, output)
    assert len(calls) == 5  # done already
    spliced(sets, lines, output, "--seed", "1")
    assert len(calls) == 9


def test_failures_are_counted_or_raised(sets: list[Path], tmp_path: Path) -> None:
    markups = ["Kereta [a car].", "Merah [I bought]."]
    lines = write_lines(tmp_path / "lines.jsonl", *markups)
    sets = copied(sets, tmp_path)
    scp = sets[0] / "wav.scp"
    (tmp_path / "0.wav").write_bytes(b"RIFF")
    scp.write_text(scp.read_text().replace(scp.read_text().split()[1], str(tmp_path / "0.wav")))
    with pytest.raises(ValueError, match="none of 2 lines gave an utterance: line 1: unusable"):
        spliced(sets, lines, tmp_path / "out")
    write_lines(lines, *markups, "Dia [the house].")
    with pytest.raises(ValueError, match=r"2 of 3 lines gave no utterance, more than --max_failed"):
        spliced(sets, lines, tmp_path / "out", "--max_failed", "0.5")
    report = spliced(sets, lines, tmp_path / "out", "--max_failed", "0.7")
    assert report["failed"] == {"unusable recording": 2}
    assert "0.wav: corrupt" in (tmp_path / "out" / "failed.tsv").read_text()
    with pytest.raises(ValueError, match="ms_train: exists, and was not made by synthesis"):
        spliced(sets, lines, sets[0])
    with pytest.raises(ValueError, match="either --lines, or what a --lexicon"):
        synth_data.main(["splice", "--input", str(sets[0]), "--output", "x"])


def test_sentences_of_the_recordings_by_a_lexicon(sets: list[Path], tmp_path: Path) -> None:
    lexicon = tmp_path / "lexicon.tsv"
    lexicon.write_text("kereta merah\ta car\nsemalam\tyesterday\nrumah\tthe house\nbuku\tbook\n")
    command = ["splice", "--input", *map(str, sets), "--lexicon", str(lexicon), "--same_speaker"]
    command += ["required", "--output", str(tmp_path / "out"), "--per_sentence", "2"]
    synth_data.main([*command, "--seed", "3"])
    data = DataDir.load(tmp_path / "out")
    assert len(data.utterances) >= 4
    rows = [json.loads(row) for row in (tmp_path / "out" / "metadata.jsonl").open()]
    for row in rows:  # the frame is the sentence as it was spoken
        path, _, number = row["from"].rpartition(":")
        utt = Path(path).read_text().splitlines()[int(number) - 1].split()[0]
        language = utt.split("-")[1][:2]
        assert {p["utt"] for p in row["pieces"] if p["language"] == language} == {utt}
        assert len({p["speaker"] for p in row["pieces"]}) == 1
    assert "buku" not in (tmp_path / "out_lexicon.tsv").read_text()
    lexicon.write_text("buku\tbook\n")
    with pytest.raises(ValueError, match="none of the 1 pairs of phrases in the lexicon is rec"):
        synth_data.main(command)
