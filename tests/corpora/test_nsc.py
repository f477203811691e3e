import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
import soundfile

from espnet_plugin.bin.prepare_corpus import main
from espnet_plugin.corpora.corpus import corpus_named
from espnet_plugin.corpora.prepare import Report, Settings, prepare
from espnet_plugin.corpora.splits import Shares
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import DataDir
from espnet_plugin.data.source import open_audio
from espnet_plugin.text import normalize
from tests.fixtures import nsc as fixture
from tests.fixtures.nsc import ADDITIONAL, MAIN, build_nsc, with_underscores, write, zip_bytes

NSC = corpus_named("nsc")
WHOLE = Shares(0, 0)  # all in the training sets, so that the test sees everything


def run(root: Path, output: Path, shares: Shares = WHOLE, **options: str) -> Report:
    return prepare(NSC, str(root), output, Settings(options, shares))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return build_nsc(tmp_path_factory.mktemp("my corpora") / "nsc")


@pytest.fixture(scope="module")
def prepared(tree) -> tuple[Report, Path]:
    output = tree.parent / "data"
    return run(tree, output), output


def utterances(folder: Path) -> dict[str, tuple[str, str, str]]:
    """Text, tags and language by utterance, without corpus and speaker."""
    data = DataDir.load(folder)
    tags = data.extra["utt2tags"]
    return {
        utt.partition("-")[2]: (text, tags[utt], data.utt2lang[utt])
        for utt, text in data.text.items()
    }


def test_every_item_is_counted(prepared):
    report, output = prepared
    assert report.items == report.kept + sum(report.skipped.values())
    assert report.skipped == {
        "pause": 20,
        "marked as invalid": 19,
        "empty interval": 18,
        "missing audio": 11,  # two lines, two speakers of three lines, a recording of three
        "audio without transcript": 7,
        "damaged archive": 6,
        "unusable audio": 4,
        "malformed line of a script": 2,
        "id given twice": 2,
        "no duration": 2,
        "overlaps the interval before": 2,
        "lost in a cut transcript": 2,
        "interval given twice": 1,
        "past the end of the recording": 1,
        "neither Malay nor English": 1,
        "unreadable transcript": 1,
    }
    assert report.notes == {
        "end cut to the recording's": 1,
        "unknown or cut words left out": 18,
    }
    listed = (output / "nsc_skipped.tsv").read_text().splitlines()
    assert sum(int(line.split("\t")[3]) for line in listed) == report.items - report.kept
    assert "000040002\tdamaged archive" in "\n".join(listed)
    kept = {name: facts["utterances"] for name, facts in report.sets.items()}
    assert kept == {
        "nsc_cs_train": 19,
        "nsc_part1_train": 7,
        "nsc_part2_train": 7,
        "nsc_part3_train": 42,
        "nsc_part5_train": 3,
        "nsc_part6_train": 1,
    }


def test_all_sets_are_valid_and_their_audio_is_there(prepared):
    report, output = prepared
    for name in report.sets:
        assert validate_data_dir(output / name) == []
        data = DataDir.load(output / name)
        lengths = dict(
            line.split() for line in (output / name / "reco2dur").read_text().splitlines()
        )
        for recording, source in data.wav.items():
            with open_audio(source) as audio:
                assert audio.frames / audio.samplerate == pytest.approx(float(lengths[recording]))
        for utt, text in data.text.items():  # what scoring will do
            words = normalize(text, data.utt2lang[utt]).words
            assert len(words) == len(data.extra["utt2tags"][utt].split())


def test_prompted_parts(prepared):
    _, output = prepared
    assert utterances(output / "nsc_part1_train") == {
        "000010001": ("the apple tree of part one", "en en en en en en", "en"),
        "000010002": ("i eat applekan lah in part1", "en en ms shared en en", "cs"),
        "000010003": ("twenty one apples from part1", "num en en en en", "en"),
        "000020001": ("Only the prompt.", "en en en", "en"),
        "000020002": ("i eat bananakan lah in part1", "en en ms shared en en", "cs"),
        "000020003": ("twenty one bananas from part1", "num en en en en", "en"),
        "000030001": ("the cherry tree of part one", "en en en en en en", "en"),
    }
    sources = DataDir.load(output / "nsc_part1_train").wav
    assert "/nsc_media/SPEAKER0001-" in sources["nsc_p1_0001-000010001"]  # was compressed
    assert ".zip:" in sources["nsc_p1_0002-000020001"]  # read in place
    assert sources["nsc_p1_0003-000030001"].endswith("WAVE/SPEAKER0003/SESSION0/000030001.WAV")


TALK = {
    "00000500-00002000": (
        "so you want to go pasar malam lah or not",
        "en en en en en ms ms shared en en",
        "cs",
    ),
    "00003000-00004000": ("tak nak", "ms ms", "ms"),
    "00004000-00005000": (
        "ok can Feng Shao-Feng say GLD",
        "en en name name name en en",
        "en",
    ),
}


def test_the_code_switched_conversations(prepared):
    _, output = prepared
    expected = {}
    for stem, kept in (
        ("sur_0001_0001_phns_cs-mly", 3),
        ("sur_0002_0003_phns_cs-mly", 1),
        ("sur_0003_0006_phns_cs-mly_edited__1", 3),
        ("sur_0005_0009_phns_cs-mly", 2),
        ("sur_0010_0012_phnd_cs-mly", 3),
    ):
        expected |= {f"{stem}-{time}": said for time, said in list(TALK.items())[:kept]}
    expected |= {
        "sur_0001_0002_phns_cs-mly-00000000-00001000": (
            "好吃 sangat nice ah",
            "zh zh ms en shared",
            "cs",
        ),
        "sur_0002_0003_phns_cs-mly-00002000-00003000": ("好 lagi", "en ms", "cs"),
        "sur_0003_0005_phns_cs-mly-00001000-00002000": ("mari kita go", "ms ms en", "cs"),
        "sur_0002_0004_phns_cs-mly__1_-00000000-00002000": (
            "the first one is okay saja",
            "en en en en ms ms",
            "cs",
        ),
        "sur_0002_0004_phns_cs-mly__1_-00001500-00003000": (
            "then it bertindih with the next",
            "en en ms en en en",
            "cs",
        ),
        "sur_0002_0004_phns_cs-mly__1_-00004000-00005000": ("dah habis", "ms ms", "ms"),
        "sur_0002_0004_phns_cs-mly__1_-00005000-00006300": (
            "a bit past hujung",
            "en en en ms",
            "cs",
        ),
    }
    assert utterances(output / "nsc_cs_train") == expected


def test_names_pair_up_whatever_was_edited(prepared):
    _, output = prepared
    wav = DataDir.load(output / "nsc_cs_train").wav
    assert wav["nsc_p4_sur_0003_0006_phns_cs-mly_edited__1"].endswith(
        "/sur_0003_0006_phns_cs-mly.wav"
    )
    assert wav["nsc_p4_sur_0002_0004_phns_cs-mly__1_"].endswith("_cs-mly_edited__1.wav")
    assert "Diff Room Audio 1.zip:" in wav["nsc_p4_sur_0010_0012_phnd_cs-mly"]


def test_conversations_in_english(prepared):
    _, output = prepared
    part3 = DataDir.load(output / "nsc_part3_train")
    assert part3.utt2spk["nsc_p3_3002_2-3002-2-close-00000500-00002000"] == "nsc_p3_3002_2"
    assert part3.segments["nsc_p3_3002_2-3002-2-close-00000500-00002000"].end == 2.0
    assert {utt.split("-")[-3] for utt in part3.text} == {"close", "standing"}
    part5 = DataDir.load(output / "nsc_part5_train")
    assert sorted(part5.text.values())[1:] == [
        "this is about debateaudio part 1",
        "this is about finance+emotionsaudio part 0",
    ]


def test_underscores_for_spaces_make_no_difference(prepared, tree, tmp_path):
    report, output = prepared
    copy = tmp_path / "nsc"
    shutil.copytree(tree, copy, ignore=lambda *_: [])
    with_underscores(copy)
    assert not list(copy.rglob("* *"))
    again = run(copy, tmp_path / "data")
    assert again.skipped == report.skipped
    for name in report.sets:
        assert (tmp_path / "data" / name / "text").read_bytes() == (
            output / name / "text"
        ).read_bytes()


def test_splits_share_neither_speakers_nor_sentences(tree, tmp_path):
    report = run(tree, tmp_path / "data", Shares(0.2, 0.2))
    owners: dict[str, set[str]] = {}
    sentences: dict[str, set[str]] = {"train": set(), "valid": set(), "test": set()}
    sessions = Counter()
    for name in report.sets:
        data = DataDir.load(tmp_path / "data" / name)
        split = name.rpartition("_")[2]
        sentences[split] |= {" ".join(normalize(t, "cs").words) for t in data.text.values()}
        for speaker in set(data.utt2spk.values()):
            owners.setdefault(speaker, set()).add(split)
        sessions.update({utt.split("-")[1] for utt in data.text if name.startswith("nsc_part3")})
    assert all(len(splits) == 1 for splits in owners.values())
    assert not sentences["test"] & (sentences["train"] | sentences["valid"])
    assert not sentences["train"] & sentences["valid"]
    assert max(sessions.values()) == 1  # both speakers of a conversation are in one set
    assert report.skipped["sentence of a test set"] > 20


def test_options(tree, tmp_path):
    some = {"parts": "3,4", "mics": "boundary ivr", "mixed": "chn"}
    report = run(tree, tmp_path / "a", **some)
    assert set(report.sets) == {"nsc_part3_train", "nsc_cs_chn_train"}
    part3 = DataDir.load(tmp_path / "a/nsc_part3_train")
    pair = {u: s.recording for u, s in part3.segments.items() if "3001-" in u}
    assert len(pair) == 6 and set(pair.values()) == {"nsc_p3_3001-boundary"}
    assert part3.wav["nsc_p3_conf_2501_2501_00862501-ivr"].endswith("/conf_2501_2501/00862501.wav")
    run(tree, tmp_path / "b", parts="1", text="prompt")
    assert "The apple Tree." in DataDir.load(tmp_path / "b/nsc_part1_train").text.values()
    with pytest.raises(ValueError, match="nsc.parts: '7' is not one of 1 2 3 4 5 6"):
        run(tree, tmp_path / "c", parts="1 7")
    with pytest.raises(ValueError, match="nsc.join is '31', not seconds within 0 and 30"):
        run(tree, tmp_path / "c", join="31")


def test_joined_intervals_keep_their_times(tree, tmp_path):
    report = run(tree, tmp_path / "data", parts="4", join="3.5")
    assert report.items == report.kept + sum(report.skipped.values())
    folder = tmp_path / "data/nsc_cs_train"
    assert validate_data_dir(folder) == []
    data = DataDir.load(folder)
    utt = "nsc_p4_0001-sur_0001_0001_phns_cs-mly-00003000-00005000"
    assert data.text[utt] == "tak nak ok can Feng Shao-Feng say GLD"
    assert data.extra["utt2times"][utt] == "0.00:1.00:2 1.00:2.00:6"
    assert data.extra["utt2tags"][utt] == "ms ms en en name name name en en"
    assert data.utt2lang[utt] == "cs"
    # <Z> stands between the first two
    assert "nsc_p4_0001-sur_0001_0001_phns_cs-mly-00000500-00002000" in data.text


@pytest.mark.parametrize("place", ["", MAIN, f"{MAIN}/PART1", f"{MAIN}/PART1/../.."])
def test_the_root_may_be_a_part_or_above(tree, tmp_path, place):
    report = run(tree / place, tmp_path / "data", parts="1")
    assert report.sets["nsc_part1_train"]["utterances"] == 7


def test_wrong_roots(tmp_path):
    write(tmp_path / "other/corpus.txt", "")
    with pytest.raises(FileNotFoundError) as error:
        run(tmp_path / "other", tmp_path / "data")
    message = str(error.value)
    assert message.startswith(f"NSC={tmp_path}/other: IMDA National Speech Corpus")
    assert "PART4/Codeswitching" in message and message.endswith("Found: corpus.txt")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        run(tmp_path / "none", tmp_path / "data")
    (tmp_path / "empty" / MAIN / "PART3").mkdir(parents=True)
    with pytest.raises(ValueError, match="nothing to prepare"):
        run(tmp_path / "empty", tmp_path / "data")


def test_no_permission_is_an_error_that_names_the_file(tree, tmp_path, monkeypatch):
    real = Path.read_bytes

    def read_bytes(path):
        if path.name == "000020.TXT":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(PermissionError, match=r"000020\.TXT") as error:
        run(tree, tmp_path / "data", parts="1")
    assert "(nsc: while reading" in error.value.__notes__[0]
    monkeypatch.undo()
    assert run(tree, tmp_path / "data", parts="1").kept == 7


def test_an_archive_that_leads_outside_is_refused(tmp_path):
    channel = tmp_path / "nsc" / MAIN / "PART1/DATA/CHANNEL0"
    write(channel / "SCRIPT/000010.TXT", fixture.script([("000010001", "Hello.", "hello")]))
    evil = zip_bytes({"../../000010001.WAV": fixture.wav_bytes(0.1)})
    write(channel / "WAVE/SPEAKER0001.zip", evil)
    with pytest.raises(ValueError, match=r"SPEAKER0001.zip: unsafe member name '../../0000100"):
        run(tmp_path / "nsc", tmp_path / "data")
    assert not list(tmp_path.rglob("0000*.WAV"))


def test_recordings_at_another_rate_or_as_flac(tmp_path):
    room = tmp_path / "nsc" / ADDITIONAL / "PART4/Codeswitching"
    stem = "sur_0001_0001_phns_cs-mly"
    write(room / f"Same Room Scripts/{stem}.TextGrid", fixture.long_textgrid(fixture.TALK))
    folder = room / "Same Room Audio"
    folder.mkdir()
    soundfile.write(folder / f"{stem}.WAV", [0.0] * 6 * 8000, 8000, subtype="FLOAT", format="WAV")
    report = run(tmp_path / "nsc", tmp_path / "data")
    assert report.sets["nsc_cs_train"]["utterances"] == 3
    assert (tmp_path / "data/nsc_cs_train/reco2dur").read_text().endswith(" 6.000000\n")


def test_command_line(tree, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("NSC", raising=False)
    with pytest.raises(ValueError, match=r"(?s)nothing is configured.*licence: Singapore Open"):
        main(["prepare"])
    with pytest.raises(ValueError, match=r"(?s)NSC is not set.*Get it at https.*PART1/DATA"):
        main(["prepare", "--corpora", "nsc"])
    monkeypatch.setenv("NSC", str(tree))
    options = ["prepare", "--corpora", "NSC", "--datadir", str(tmp_path), "--nj", "1"]
    for wrong, message in (
        ("parts=1", "'parts=1' is not CORPUS.OPTION=VALUE"),
        ("fleurs.parts=1", "is for a corpus that is not prepared; those are nsc"),
    ):
        with pytest.raises(ValueError, match=message):
            main([*options, "--corpus_options", wrong])
    main([*options, "--corpus_options", "nsc.parts=5,6 nsc.join=10", "--test_share", "0.3"])
    printed = capsys.readouterr().out
    assert printed.index("Singapore Open Data Licence") < printed.index("4 kept")
    assert json.loads((tmp_path / "nsc.json").read_text())["report"]["kept"] == 4
    made = json.loads((tmp_path / "nsc_part5_train/corpus.json").read_text())
    assert made["options"]["parts"] == "5,6" and made["options"]["mics"] == "close standing"
    main(["list"])
    assert f"NSC: {tree}" in capsys.readouterr().out


@pytest.mark.slow
def test_lhotse_reads_the_same(prepared):
    lhotse = pytest.importorskip("lhotse.kaldi")
    report, output = prepared
    for name in report.sets:
        data = DataDir.load(output / name)
        recordings, supervisions, _ = lhotse.load_kaldi_data_dir(output / name, 16000)
        assert {r.id: r.sources[0].source for r in recordings} == data.wav
        found = {s.id: s for s in supervisions}
        assert {utt: s.text for utt, s in found.items()} == data.text
        assert {utt: s.speaker for utt, s in found.items()} == data.utt2spk
        assert {utt: s.language for utt, s in found.items()} == data.utt2lang
        for utt, seconds in data.extra["utt2dur"].items():
            assert found[utt].duration == pytest.approx(float(seconds), abs=1e-3)


def test_espnet_s_reader_hears_the_same(prepared):
    from espnet2.fileio.sound_scp import SoundScpReader

    _, output = prepared
    folder = output / "nsc_part5_train"
    reader = SoundScpReader(folder / "wav.scp")
    for recording, source in DataDir.load(folder).wav.items():
        rate, samples = reader[recording]
        assert rate == 16000 and len(samples) == soundfile.info(source).frames
