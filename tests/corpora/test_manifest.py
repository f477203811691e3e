import gzip
import json

import pytest

from espnet_plugin.corpora.manifest import CORPUS, read_columns
from espnet_plugin.corpora.splits import Shares
from tests.fixtures.nsc import wav_bytes, write
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import cell, flac_bytes, jsonl, parquet

ROWS = [
    {
        "audio_filepath": f"clips/{n}.wav",
        "text": f"ayat nombor {n}",
        "duration": 0.5,
        "spk": f"s{n}",
    }
    for n in range(4)
]


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    for n in range(4):
        write(folder / f"clips/{n}.wav", wav_bytes(0.5, n))
    write(folder / "clips/long.wav", wav_bytes(3.0))
    return folder


def separated(rows, mark):
    lines = [mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "jsonl.gz"])
def test_any_table_gives_the_same(clips, tmp_path, ending):
    path = clips / f"mine.{ending}"
    if ending == "parquet":
        parquet(path, ROWS)
    elif ending.startswith("jsonl"):
        jsonl(path, ROWS)
    else:
        write(path, separated(ROWS, "," if ending == "csv" else "\t"))
    if ending.endswith("gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    report = prepared(CORPUS, path, tmp_path)
    assert sets(report) == {"manifest_train": 4}
    folder = tmp_path / "manifest_train"
    assert list(table(folder / "text").values()) == [row["text"] for row in ROWS]
    assert set(table(folder / "utt2spk").values()) == {f"manifest_s{n}" for n in range(4)}
    assert list(table(folder / "wav.scp").values()) == [
        str(clips / r["audio_filepath"]) for r in ROWS
    ]
    assert set(table(folder / "utt2lang").values()) == {"ms"}


def test_a_column_map(clips, tmp_path):
    rows = [
        {"bunyi": "0.wav", "ayat": "satu", "siapa": "ali", "kod": "b1", "text": "not this"},
        {"bunyi": "1.wav", "ayat": "dua", "siapa": "abu", "kod": "b2", "text": "not this"},
    ]
    path = jsonl(tmp_path / "in/m.jsonl", rows)
    columns = "audio=bunyi,text=ayat speaker=siapa,id=kod"
    prepared(
        CORPUS, path, tmp_path, columns=columns, audio_root=str(clips / "clips"), language="en"
    )
    assert table(tmp_path / "manifest_train/text") == {
        "manifest_abu-b2": "dua",
        "manifest_ali-b1": "satu",
    }
    assert set(table(tmp_path / "manifest_train/utt2lang").values()) == {"en"}


def test_stretches_of_recordings(clips, tmp_path):
    rows = [
        {"audio": "clips/long.wav", "text": "satu", "offset": 0.5, "duration": 1.0},
        {"audio": "clips/long.wav", "text": "dua", "start": "1.5", "end": "2.25"},
        {"audio": "clips/long.wav", "text": "tiga", "offset": 2.5},
        {"audio": "clips/long.wav", "text": "empat", "offset": 2.9, "duration": 9},
        {"audio": "clips/long.wav", "text": "lima", "offset": "awal"},
        {"audio": "clips/0.wav", "text": "enam"},
    ]
    report = prepared(CORPUS, jsonl(clips / "stretches.jsonl", rows), tmp_path)
    folder = tmp_path / "manifest_train"
    stretches = [value.split(" ", 1)[1] for value in table(folder / "segments").values()]
    assert stretches == ["0.500 1.500", "1.500 2.250", "2.500 3.000", "0.000 0.500"]
    assert len(table(folder / "wav.scp")) == 2
    assert report.skipped == {
        "past the end of the recording": 1,
        "start or duration is no number": 1,
    }


def test_splits_by_column_by_file_and_by_speaker(clips, tmp_path):
    rows = [row | {"split": split} for row, split in
            zip(ROWS, ["train", "validation", "test", "dev"], strict=True)]  # fmt: skip
    report = prepared(CORPUS, jsonl(clips / "split.jsonl", rows), tmp_path / "column")
    assert sets(report) == {f"manifest_{s}": 1 for s in ("train", "valid", "test", "dev")}
    folder = tmp_path / "in"
    for n, name in enumerate(("train.jsonl", "test.jsonl", "validation-00000-of-00001.parquet")):
        rows = [ROWS[n] | {"audio_filepath": str(clips / ROWS[n]["audio_filepath"])}]
        (parquet if name.endswith("parquet") else jsonl)(folder / name, rows)
    report = prepared(CORPUS, folder, tmp_path / "file")
    assert sets(report) == {f"manifest_{s}": 1 for s in ("train", "valid", "test")}
    report = prepared(
        CORPUS, jsonl(clips / "mine.jsonl", ROWS), tmp_path / "spk", Shares(0.25, 0.25)
    )
    assert sets(report) == {"manifest_train": 2, "manifest_valid": 1, "manifest_test": 1}


def test_audio_in_the_table_and_languages(clips, tmp_path):
    rows = [
        {"audio": cell(flac_bytes(seed=n), None), "sentence": f"kata {n}", "locale": locale}
        for n, locale in enumerate(["ms-MY", "Malay", "cs", "klingon"])
    ]
    report = prepared(CORPUS, parquet(tmp_path / "in/x.parquet", rows), tmp_path)
    assert list(table(tmp_path / "manifest_train/utt2lang").values()) == ["ms", "ms", "cs"]
    assert report.skipped == {"language is no code": 1}
    assert all(s.endswith(".flac") for s in table(tmp_path / "manifest_train/wav.scp").values())


def test_rows_that_cannot_be_used_are_counted(clips, tmp_path):
    rows = [
        ROWS[0],
        ROWS[1] | {"audio_filepath": "clips/gone.wav"},
        ROWS[2] | {"text": " "},
        {"text": "tiada bunyi"},
        {"audio": "clips/0.wav"},
        "not json",
    ]
    report = prepared(CORPUS, jsonl(clips / "bad.jsonl", rows), tmp_path)
    assert report.kept == 1
    assert report.skipped == {"missing audio": 2, "no transcript": 2, "not JSON": 1}


@pytest.mark.parametrize(
    "columns, message",
    [
        ("audo=x", r"'audo=x' \(did you mean audio\?\) is not ROLE=COLUMN with a role of audio"),
        ("audio", "'audio' is not ROLE=COLUMN"),
    ],
)
def test_wrong_column_maps(columns, message):
    with pytest.raises(ValueError, match=message):
        read_columns({"columns": columns})


def test_mistakes_are_named(clips, tmp_path):
    path = write(clips / "x.csv", "wav_path,sentences\n0.wav,satu\n")
    with pytest.raises(
        ValueError, match=r"no column for 'audio' \(audio .*; it has wav_path sente"
    ):
        prepared(CORPUS, path, tmp_path)
    with pytest.raises(
        ValueError, match=r"no column for 'text' \(sentence\) \(did you mean senten"
    ):
        prepared(CORPUS, path, tmp_path, columns="audio=wav_path,text=sentence")
    with pytest.raises(ValueError, match="not a manifest; allowed are .jsonl .csv"):
        prepared(CORPUS, write(clips / "x.txt", "x"), tmp_path)
    with pytest.raises(FileNotFoundError, match="MANIFEST=.*gone: no such file or folder"):
        prepared(CORPUS, clips / "gone", tmp_path)
    with pytest.raises(FileNotFoundError, match="MANIFEST=.*a manifest of your own is not there"):
        prepared(CORPUS, clips / "clips", tmp_path)
    with pytest.raises(ValueError, match=r"split 'tset' \(did you mean test\?\) is none of train"):
        prepared(CORPUS, jsonl(clips / "y.jsonl", [ROWS[0] | {"split": "tset"}]), tmp_path)
    write(clips / "empty.jsonl", json.dumps({}) + "\n")
    with pytest.raises(ValueError, match=r"no usable utterance among 1 items \(no transcript: 1\)"):
        prepared(CORPUS, clips / "empty.jsonl", tmp_path)
