import io
import os
import shutil
import zipfile
from pathlib import Path

import pytest

from espnet_plugin.corpora.corpus import corpus_named
from espnet_plugin.corpora.prepare import Report, Settings, prepare
from espnet_plugin.corpora.splits import Shares
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.corpora.zip_tree import zip_tree
from espnet_plugin.data import DataDir, read_table
from espnet_plugin.data.source import open_audio
from tests.fixtures.nsc import ADDITIONAL, MAIN, build_nsc, script, wav_bytes, write, zip_bytes

NSC = corpus_named("nsc")


def run(root: Path, output: Path, **options: str) -> Report:
    return prepare(NSC, str(root), output, Settings(options, Shares(0, 0)))


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return build_nsc(tmp_path_factory.mktemp("nsc") / "nsc")


def pack(folder: Path, target: Path, top: str = "", method: int = zipfile.ZIP_DEFLATED) -> None:
    """Zip a folder as `zip -r` does: what is a zip already is stored."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            kind = zipfile.ZIP_STORED if path.suffix == ".zip" else method
            archive.write(path, f"{top}{path.relative_to(folder)}", kind)


def tables(folder: Path) -> dict[str, dict[str, str]]:
    data = DataDir.load(folder)
    return {"text": data.text, "utt2lang": data.utt2lang, **data.extra}


@pytest.mark.parametrize(
    "layout",
    [
        "parts",
        pytest.param("bare parts", marks=pytest.mark.slow),
        pytest.param("whole", marks=pytest.mark.slow),
    ],
)
def test_zips_of_whole_parts_are_the_same_corpus(tree, tmp_path, layout):
    """Speakers as zips or plain, rooms as zips or plain, all of them in one zip a part."""
    root, places = tmp_path / "a b", {1: MAIN, 2: MAIN, 3: MAIN}
    places |= {4: ADDITIONAL, 5: ADDITIONAL, 6: ADDITIONAL}
    if layout == "whole":
        pack(tree, root / "IMDA - National Speech Corpus.zip", "x/")
    for part, place in places.items() if layout != "whole" else ():
        top = f"PART{part}/" if layout == "parts" else ""
        method = zipfile.ZIP_STORED if part % 2 else zipfile.ZIP_DEFLATED
        pack(tree / place / f"PART{part}", root / place / f"PART{part}.zip", top, method)
    expected, report = run(tree, tmp_path / "a"), run(root, tmp_path / "b")
    assert (report.skipped, report.notes) == (expected.skipped, expected.notes)
    assert report.items == expected.items
    sets = report.sets
    assert {n: f["utterances"] for n, f in sets.items()} == {
        n: f["utterances"] for n, f in expected.sets.items()
    }
    for name in sets:
        assert tables(tmp_path / "b" / name) == tables(tmp_path / "a" / name)
        assert validate_data_dir(tmp_path / "b" / name) == []
        given, made = (DataDir.load(tmp_path / x / name).wav for x in "ab")
        for recording, source in made.items():
            with open_audio(source) as found, open_audio(given[recording]) as wanted:
                assert (found.read() == wanted.read()).all()
    # a zip of stored WAVs in a stored zip is read in place
    source = DataDir.load(tmp_path / "b/nsc_part1_train").wav["nsc_p1_0002-000020001"]
    assert ".zip:" in source and source.startswith(str(root))


def test_a_zip_compressed_once_more_is_refused(tree, tmp_path):
    with zipfile.ZipFile(tmp_path / "PART1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        folder = tree / MAIN / "PART1"
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, str(path.relative_to(folder)))
    with pytest.raises(ValueError, match=r"SPEAKER\d+.zip' is a zip compressed once more; unpack"):
        run(tmp_path, tmp_path / "data")
    mixed = tree / ADDITIONAL / "PART4"
    with zipfile.ZipFile(tmp_path / "PART4.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(mixed.rglob("*.*")):
            archive.write(path, str(path.relative_to(mixed)))
    with pytest.raises(ValueError, match=r"Diff Room \w+.*zip compressed once more; unpack the ou"):
        run(tmp_path, tmp_path / "data", parts="4")


def test_names_in_the_outer_and_the_inner_zip_are_checked(tmp_path):
    lines = script([("000010001", "Hello.", "hello")]).encode()
    good = {"SPEAKER0001/SESSION0/000010001.WAV": wav_bytes(0.2)}
    inner = zip_bytes({"../../000010001.WAV": wav_bytes(0.1)})
    channel = "DATA/CHANNEL0"
    members = {
        f"{channel}/SCRIPT/000010.TXT": lines,
        f"{channel}/WAVE/SPEAKER0001.zip": inner,
    }
    write(tmp_path / "PART1.zip", zip_bytes(members, stored=True))
    with pytest.raises(ValueError, match=r"SPEAKER0001.zip: unsafe member name '../../0000100"):
        run(tmp_path, tmp_path / "data")
    members[f"{channel}/WAVE/SPEAKER0001.zip"] = zip_bytes(good)
    write(tmp_path / "PART1.zip", zip_bytes(members | {"../x": b""}, stored=True))
    with pytest.raises(ValueError, match=r"PART1.zip: unsafe member name '../x'"):
        run(tmp_path, tmp_path / "data")
    assert not list(tmp_path.rglob("*.WAV"))
    write(tmp_path / "PART1.zip", zip_bytes(members, stored=True))
    assert run(tmp_path, tmp_path / "data").kept == 1


def test_damaged_zips_of_parts(tmp_path):
    lines = script([("000010001", "Hello.", "hello")]).encode()
    inner = zip_bytes({"SPEAKER0001/SESSION0/000010001.WAV": wav_bytes(0.2)})
    second = "DATA/CHANNEL0/WAVE/SPEAKER0002/SESSION0/000020001.WAV"
    members = {
        "DATA/CHANNEL0/SCRIPT/000010.TXT": lines,
        "DATA/CHANNEL0/SCRIPT/000020.TXT": lines.replace(b"00001", b"00002"),
        "DATA/CHANNEL0/SCRIPT/000030.TXT": lines.replace(b"00001", b"00003"),
        "DATA/CHANNEL0/WAVE/SPEAKER0001.zip": inner[:-30],
        second: wav_bytes(0.2),
    }
    data = bytearray(zip_bytes(members, stored=True))
    data[data.index(b"000030001")] ^= 1  # its checksum is wrong
    write(tmp_path / "PART1.zip", bytes(data))
    report = run(tmp_path, tmp_path / "data")
    assert report.kept == 1
    assert report.skipped == {"damaged archive": 1, "unreadable transcript": 1}
    write(tmp_path / "PART1.zip", bytes(data)[:-30])
    with pytest.raises(ValueError, match=r"NSC=.*PART1.zip: damaged zip: .*; get it again"):
        run(tmp_path, tmp_path / "data2")
    shutil.copy(tmp_path / "PART1.zip", tmp_path / "another.zip")
    (tmp_path / "PART1.zip").unlink()
    with pytest.raises(FileNotFoundError, match=r"(?s)PART1.zip for a whole part.*another.zip"):
        run(tmp_path, tmp_path / "data2")


def test_folders_of_a_zip_are_listed_as_those_of_the_disk(tmp_path):
    names = ["a/b/1.wav", "a/b.c/2.wav", "a b/3.wav", "a.wav", "a/b", "0", "a/b0"]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
    write(tmp_path / "x.zip", file.getvalue())
    top = zip_tree(tmp_path / "x.zip")
    assert sorted(str(path.name) for path in top.iterdir()) == ["0", "a", "a b", "a.wav"]
    (folder,) = (path for path in top.iterdir() if path.name == "a")
    assert sorted(path.name for path in folder.iterdir()) == ["b", "b.c", "b0"]
    assert [path.is_dir() for path in sorted(folder.iterdir())] == [True, True, False]
    assert str(folder) == f"{tmp_path}/x.zip/a" and top.is_dir()


@pytest.mark.slow
def test_espnet_s_readers_load_what_was_prepared_and_formatted(tree, tmp_path):
    """Tables as prepared; audio after stage 3, which takes it out of the zips."""
    from espnet2.fileio.read_text import read_2columns_text
    from espnet2.fileio.sound_scp import SoundScpReader

    from espnet_plugin.data.formatting import format_set

    report = run(tree, tmp_path / "data")
    for name in report.sets:
        folder, dump = tmp_path / "data" / name, tmp_path / "dump" / name
        data = DataDir.load(folder)
        for table in ("text", "utt2spk", "utt2lang", "utt2tags", "utt2times"):
            given = read_2columns_text(folder / table)
            assert given == read_table(folder / table, allow_empty=True)
        assert read_2columns_text(folder / "text") == data.text
        format_set(folder, dump, nj=1)
        reader, samples = SoundScpReader(str(dump / "wav.scp"), dtype="int16"), {}
        for utt in data.utterances:
            rate, samples[utt] = reader[utt]
            seconds = float(data.extra["utt2dur"][utt])
            assert rate == 16000 and len(samples[utt]) == pytest.approx(seconds * rate, abs=16)
        for utt, found in samples.items():  # the very samples that the miniature was made of
            source, start = data.wav.get(utt, ""), 0.0
            if data.segments is not None:
                segment = data.segments[utt]
                source, start = data.wav[segment.recording], segment.start
            with open_audio(source) as audio:
                audio.seek(round(start * 16000))
                assert (audio.read(len(found), dtype="int16") == found).all()
