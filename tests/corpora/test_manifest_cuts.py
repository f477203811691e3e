import gzip
import json

import pytest

from espnet_plugin.corpora import manifest_cuts
from espnet_plugin.corpora.manifest import CORPUS
from tests.fixtures.nsc import wav_bytes, write
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import jsonl


def supervision(name, start, duration, text, **more):
    return {"id": name, "recording_id": "r", "start": start, "duration": duration, "channel": 0,
            "text": text, **more}  # fmt: skip


def cut(name, path, start, duration, *supervisions, seconds=3.0, kind="file"):
    """Return a cut as Lhotse serialises it."""
    source = {"type": kind, "channels": [0], "source": str(path)}
    recording = {"id": f"rec-{name}", "sources": [source], "sampling_rate": 16000}
    recording |= {"num_samples": int(seconds * 16000), "duration": seconds, "channel_ids": [0]}
    found = {"id": name, "start": start, "duration": duration, "channel": 0, "type": "MonoCut"}
    return found | {"supervisions": list(supervisions), "recording": recording}


WORDS = {"word": [["saya", 0.1, 0.3, None], ["suka", 0.5, 0.4, None]]}


@pytest.fixture
def manifest(tmp_path):
    write(tmp_path / "audio/a.wav", wav_bytes(3.0))
    spoken = {"speaker": "ali", "language": "Malay"}
    rows = [
        cut("c1", "audio/a.wav", 0, 3.0, supervision("s1", 0, 3.0, "satu", **spoken)),
        cut(
            "c2",
            "audio/a.wav",
            1.0,
            2.0,
            supervision("s2", 0.0, 0.9, "saya suka", speaker="abu", alignment=WORDS),
            supervision("s3", 1.0, 0.5, "dua kata", speaker="abu", alignment=WORDS),
            supervision("s4", 1.5, 1.5, "terlalu panjang", speaker="abu"),
            supervision("s5", 0.2, 0.5, "apa", speaker="abu", language="klingon"),
        ),
        cut("c3", "audio/gone.wav", 0, 3.0, supervision("s6", 0, 1.0, "hilang")),
        cut("c4", "audio/a.wav", 0, 3.0),
        cut("c5", "x", 0, 3.0, supervision("s7", 0, 1.0, "ingatan"), kind="memory"),
        {"type": "MonoCut", "id": "broken"},
    ]
    return jsonl(tmp_path / "train.jsonl", rows)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz"])
def test_supervisions_become_utterances(manifest, tmp_path, ending, monkeypatch):
    monkeypatch.setattr(manifest_cuts, "CUTS", 2)
    if ending == "jsonl.gz":
        (tmp_path / "train.jsonl.gz").write_bytes(gzip.compress(manifest.read_bytes()))
        manifest = tmp_path / "train.jsonl.gz"
    report = prepared(CORPUS, manifest, tmp_path / "out")
    assert sets(report) == {"manifest_train": 3}
    assert report.skipped == {
        "the cut ends inside of the utterance": 1,
        "language is no code": 1,
        "missing audio": 1,
        "audio without transcript": 1,
        "unusable audio": 1,
        "not a cut": 1,
    }
    folder = tmp_path / "out/manifest_train"
    assert table(folder / "text") == {
        "manifest_abu-s2": "saya suka",
        "manifest_abu-s3": "dua kata",
        "manifest_ali-s1": "satu",
    }
    segments = table(folder / "segments")
    assert segments["manifest_abu-s2"] == "manifest_rec-c2 1.000 1.900"
    assert segments["manifest_abu-s3"] == "manifest_rec-c2 2.000 2.500"
    assert segments["manifest_ali-s1"].endswith(" 0.000 3.000")


def test_word_alignments_become_times(tmp_path):
    write(tmp_path / "a.wav", wav_bytes(3.0))
    row = cut("c", "a.wav", 0.5, 2.0, supervision("s", 0.0, 1.0, "saya suka", alignment=WORDS))
    prepared(CORPUS, jsonl(tmp_path / "cuts.jsonl", [row]), tmp_path / "out")
    times = table(tmp_path / "out/manifest_train/utt2times")
    assert list(times.values()) == ["0.10:0.40:1 0.50:0.90:1"]


def test_lhotse_is_asked_for_where_it_is_missing(manifest, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"train\.jsonl: a Lhotse cut manifest needs Lhotse: pip"):
        prepared(CORPUS, manifest, tmp_path / "out")


def test_manifests_that_lhotse_itself_writes(tmp_path):
    lhotse = pytest.importorskip("lhotse")
    path = write(tmp_path / "a.wav", wav_bytes(2.0))
    recording = lhotse.Recording.from_file(path)
    spoken = lhotse.SupervisionSegment(
        "s1", recording.id, 0.5, 1.0, text="apa khabar", language="ms"
    )
    one = recording.to_cut()
    one.supervisions = [spoken]
    lhotse.CutSet.from_cuts([one]).to_file(tmp_path / "cuts.jsonl.gz")
    assert (
        json.loads(gzip.decompress((tmp_path / "cuts.jsonl.gz").read_bytes()))["type"] == "MonoCut"
    )
    prepared(CORPUS, tmp_path / "cuts.jsonl.gz", tmp_path / "out")
    folder = tmp_path / "out/manifest_train"
    assert table(folder / "text") == {"manifest_s1": "apa khabar"}
    assert table(folder / "utt2dur") == {"manifest_s1": "1.000"}
