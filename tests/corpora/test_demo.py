import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import prepare_demo
from espnet_plugin.corpora import demo, demo_checks, espeak
from espnet_plugin.corpora.demo import DemoOptions, prepare
from espnet_plugin.corpora.demo_speech import Job, Studio, plan
from espnet_plugin.corpora.markup import Sentence, parse_markup, read_sentences
from espnet_plugin.corpora.phrases import read_phrases
from espnet_plugin.corpora.speakers import speakers
from espnet_plugin.data import DataDir, read_table
from espnet_plugin.text import normalize

needs_espeak = pytest.mark.skipif(
    shutil.which(espeak.PROGRAM) is None, reason=f"no espeak-ng: {espeak.install_command()}"
)
FILES = {
    "seen/text.tsv": [
        "cs\tMak masak [fried rice] untuk kita.",
        "ms\tSemalam mak makan ikan.",
        "en\tMy friend ate fish.",
    ],
    "unseen/text.tsv": ["cs\tDoktor kata [blood test] minggu lepas, okay?"],
    "seen/valid_text.tsv": ["cs\tAbang beli [cold drinks] lagi."],
    "unseen/valid_text.tsv": ["ms\tKlinik tutup awal."],
    "seen/paired.tsv": [
        "cs\tJom [lunch], saya dah [super hungry] ni.",
        "ms\tSedap betul.",
        "en\tWhere is my spoon?",
    ],
    "seen/valid_paired.tsv": ["cs\tNak [order] apa?"],
    "unseen/valid_paired.tsv": ["cs\tUbat ni [before meals] ke?"],
    "unseen/acoustic.tsv": ["ms\tGunung itu tinggi.", "en\tThe ship sailed at dawn."],
    "unseen/acoustic_valid.tsv": ["ms\tBulan mengambang penuh.", "en\tRain fell all night."],
    "seen/test.tsv": [
        "cs\tKuah ni [tastes like honey], pelik.",
        "en\tTwo plates, please.",
        "ms\tNasi dah habis.",
    ],
    "unseen/test.tsv": ["cs\tDemam dia [getting worse], kan?"],
    "unseen/test_es.tsv": ["es\tMañana vamos al mercado."],
}
PHRASES = {
    "seen/phrases.tsv": [
        "food\tikan\tfish",
        "food\tnasi\trice",
        "food\ttelur\tegg",
        "p\tmak\tmy mother",
        "p\tkita\tus",
    ],
    "unseen/phrases.tsv": [
        "t\tsemalam\tyesterday",
        "t\tminggu lepas\tlast week",
        "p\tdoktor\tthe doctor",
    ],
    "compounds.tsv": ["keep\tmak cik\t-"],
}
OPTIONS = DemoOptions(lines=20)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "hand written"
    for file, lines in FILES.items():
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).write_text("".join(f"food\t{line}\n" for line in lines), encoding="utf-8")
    for file, lines in PHRASES.items():
        (source / file).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return source


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes().replace(str(folder).encode(), b"")
        for path in folder.rglob("*")
        if path.is_file()
    }


@needs_espeak
def test_the_corpus_is_whole_and_the_same_with_any_number_of_workers(source: Path, tmp_path: Path):
    data = tmp_path / "my data"
    report = prepare(source, data, OPTIONS, nj=1)
    for name, spec in demo.SETS.items():
        loaded = DataDir.load(data / name)
        assert name in report
        assert set(loaded.utt2lang.values()) <= set(spec.langs)
        variants = {s.name for s in speakers(spec.split)}
        assert set(loaded.utt2spk.values()) <= variants
        for utterance in loaded.utterances:
            wave, rate = soundfile.read(loaded.wav[utterance], dtype="int16")
            assert (rate, wave.ndim) == (16000, 1)
            assert 0.7 < len(wave) / rate < 6.0
            assert 1000 < np.abs(wave).max() <= 0.951 * 32768
            words = normalize(loaded.text[utterance], loaded.utt2lang[utterance]).words
            tags = loaded.extra["utt2tags"][utterance].split()
            assert len(tags) == len(words)
            assert (
                set(tags) == {"ms", "en"}
                if name == "test_cs"
                else set(tags) <= {"ms", "en", "other"}
            )
            assert loaded.extra["utt2cond"][utterance] in ("clean", "noise", "reverb")
            assert loaded.extra["utt2topic"][utterance] == "food"
    tags = dict(
        zip(
            read_table(data / "train_paired" / "text").values(),
            read_table(data / "train_paired" / "utt2tags").values(),
            strict=True,
        )
    )
    assert tags["Jom lunch, saya dah super hungry ni."] == "ms en ms ms en en ms"
    assert len(DataDir.load(data / "examples_an4").utterances) == 7
    lines = [json.loads(line) for line in (data / "text" / "train.jsonl").open(encoding="utf-8")]
    assert Counter(line["source"] for line in lines) == {"hand": 4, "paired": 3, "mix": 13}
    assert {json.loads(x)["text"] for x in (data / "text" / "valid.jsonl").open()} == {
        "Abang beli cold drinks lagi.",
        "Klinik tutup awal.",
    }

    other = tmp_path / "my copy"
    prepare(source, other, OPTIONS, nj=2)
    first = contents(data)
    assert contents(other) == first
    assert prepare(source, data, OPTIONS, nj=1).endswith("unchanged, nothing to do")
    changed = prepare(source, data, DemoOptions(seed=1, lines=20, acoustic_repeats=2), nj=1)
    assert "unchanged" not in changed
    again = contents(data)
    assert sum("train_acoustic/wav/" in path for path in again) == 4
    assert again["text/train.jsonl"] != first["text/train.jsonl"]
    text = list(read_table(data / "train_acoustic" / "text").values())
    assert Counter(text) == dict.fromkeys(text, 2)


@needs_espeak
def test_work_is_done_again_when_anything_is_missing_or_changed(source: Path, tmp_path: Path):
    data = tmp_path / "data"
    prepare(source, data, OPTIONS, nj=1)
    stamp = data / demo.STAMP
    key = json.loads(stamp.read_text())["key"]
    assert demo._unchanged(stamp, key, data)
    (data / "text" / "train.jsonl").write_text("mixed anew by stage 2\n")
    assert demo._unchanged(stamp, key, data)
    wav = next((data / "test_cs" / "wav").iterdir())
    sound = wav.read_bytes()
    wav.write_bytes(sound[:-100])
    assert not demo._unchanged(stamp, key, data)
    wav.write_bytes(sound)
    assert demo._unchanged(stamp, key, data)
    moved = data.rename(tmp_path / "moved")
    assert not demo._unchanged(moved / demo.STAMP, key, moved)
    with (source / "seen/text.tsv").open("a") as file:
        file.write("food\tms\tSatu lagi.\n")
    assert demo._key(source, OPTIONS) != key


@needs_espeak
def test_a_leak_is_found_before_anything_is_spoken(source: Path, tmp_path: Path):
    with (source / "unseen/text.tsv").open("a", encoding="utf-8") as file:
        file.write("x\tcs\tKUAH ni [tastes like] honey - pelik!\n")
    with pytest.raises(
        ValueError, match=r"1 test .*\n.*test\.tsv:1 \(test_cs\) is also .*text\.tsv:2"
    ):
        prepare(source, tmp_path / "data", OPTIONS, nj=1)
    assert not (tmp_path / "data" / "train_paired").exists()


@needs_espeak
def test_mistakes_in_the_sentences_are_named(source: Path, tmp_path: Path):
    (source / "unseen/test_es.tsv").write_text("x\ten\tNot Spanish.\n")
    with pytest.raises(
        ValueError, match=r"test_es\.tsv:1: language en in .* test_es, allowed is es"
    ):
        prepare(source, tmp_path / "data", OPTIONS, nj=1)
    (source / "unseen/test_es.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"test_es\.tsv: missing"):
        prepare(source, tmp_path / "data", OPTIONS, nj=1)


@needs_espeak
def test_command_line(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    arguments = ["--source", str(source), "--datadir", str(tmp_path / "d"), "--nj", "1"]
    with pytest.raises(ValueError, match=r"only \d+ distinct lines .* 9999 were requested"):
        prepare_demo.main([*arguments, "--lines", "9999"])
    assert not (tmp_path / "d" / demo.STAMP).exists()
    prepare_demo.main([*arguments, "--lines", "12", "--acoustic-repeats", "1"])
    assert "leaks: none" in capsys.readouterr().out


def sentence(text: str, where: str = "x:1") -> Sentence:
    return Sentence(parse_markup(text, "ms", where), "ms", "food", where)


def test_leaks_between_sets():
    train, other = sentence("Apa khabar?", "a:1"), sentence("Apa  KHABAR", "b:2")
    new = sentence("Lain sekali.", "c:3")
    demo_checks.check_sentences({"text": [train, train], "test_ms": [new], "train_paired": [other]})
    for name in ("test_ms", "valid_paired"):
        with pytest.raises(ValueError, match=rf"b:2 \({name}\) is also a:1: 'Apa  KHABAR'"):
            demo_checks.check_sentences({name: [other], "text": [train]})
    with pytest.raises(ValueError, match=r"b:2 \(test_ms\) is also a:1"):
        demo_checks.check_sentences({"test_ms": [other], "valid_text": [train]})


def test_shared_voices():
    test, train = speakers("test")[0], speakers("train")[0]
    demo_checks.check_voices({"train_paired": {train.name}, "test_cs": {test.name}})
    with pytest.raises(ValueError, match=f"test_cs: voices of training: {train.variant}"):
        demo_checks.check_voices({"train_paired": {train.name}, "test_cs": {test.name, train.name}})
    same = next(s for s in speakers("train") if s.variant == train.variant and s != train)
    with pytest.raises(ValueError, match="voices of training"):  # another pitch is no other voice
        demo_checks.check_voices({"train_paired": {train.name}, "test_cs": {same.name}})


def test_near_copies_are_counted():
    training = ["saya makan nasi goreng tadi", "lain"]
    assert demo_checks.count_near(["Saya makan nasi goreng tadi ya."], training) == 1
    assert demo_checks.count_near(["Saya minum kopi panas tadi."], training) == 0


def test_the_plan_is_balanced():
    sentences = [sentence(f"Ayat {n}.") for n in range(100)] * 2
    jobs = plan(sentences, Path("wav"), "valid", "va", 0.3, seed=5)
    assert jobs == plan(sentences, Path("wav"), "valid", "va", 0.3, seed=5)
    assert [job.sentence for job in jobs] == sentences
    assert len({job.name for job in jobs}) == 200
    assert Counter(job.condition for job in jobs) == {"clean": 140, "noise": 30, "reverb": 30}
    assert not any(job.held_out for job in jobs)
    spoken = Counter(job.speaker.name for job in jobs)
    assert len(spoken) == 12
    assert max(spoken.values()) - min(spoken.values()) <= 8
    assert len({(job.sentence.text, job.speaker.name) for job in jobs}) == 200
    assert plan(sentences, Path("wav"), "valid", "va", 0.3, seed=6) != jobs


def test_a_failed_synthesis_names_the_utterance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    job: Job = plan([sentence("Apa?", "a.tsv:7")], tmp_path, "test", "cs", 0.0, 0)[0]
    monkeypatch.setattr("espnet_plugin.corpora.an4.read_sound", lambda *a: np.ones(100, np.float32))
    studio = Studio({}, 0)

    def broken(*args: object) -> tuple[np.ndarray, int]:
        raise ValueError("no voice today")

    monkeypatch.setattr(espeak, "speak", broken)
    with pytest.raises(ValueError, match=rf"utterance {job.name} \(a\.tsv:7\): no voice today"):
        studio.record(job)
    monkeypatch.setattr(espeak, "speak", lambda *a: (np.ones(31 * 16000, np.float32), 16000))
    with pytest.raises(ValueError, match="lasts 31.2 s, at most 30 s allowed"):
        studio.record(job)


def test_what_the_repository_ships_is_enough():
    def count(*files: str) -> Counter:
        return Counter(s.lang for file in files for s in read_sentences(demo.SOURCE / file))

    tests = count("seen/test.tsv", "unseen/test.tsv")
    assert tests["cs"] >= 100
    assert tests["ms"] >= 60
    assert tests["en"] >= 100
    assert count("unseen/test_es.tsv")["es"] >= 40
    assert count(*demo.TEXT).total() >= 600
    assert min(count(*demo.TEXT)[lang] for lang in ("cs", "ms", "en")) >= 50
    assert count("seen/paired.tsv").total() >= 240
    assert count(*demo.VALID_TEXT).total() >= 40
    assert set(count("unseen/acoustic.tsv")) == {"ms", "en"}
    for file in demo.PHRASES:
        assert len(read_phrases(demo.SOURCE / file)) >= 50
    sets = {name: demo._read_set(demo.SOURCE, name, spec) for name, spec in demo.SETS.items()}
    sets["text"] = [s for file in demo.TEXT for s in read_sentences(demo.SOURCE / file)]
    sets["valid_text"] = [s for file in demo.VALID_TEXT for s in read_sentences(demo.SOURCE / file)]
    demo_checks.check_sentences(sets)
