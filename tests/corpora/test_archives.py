import io
import tarfile
from pathlib import Path

import pytest

from espnet_plugin.corpora.archives import ArchiveError, AudioError, check_name, open_files
from espnet_plugin.corpora.sound import audio_bytes_seconds
from tests.fixtures.nsc import wav_bytes, write, zip_bytes


def tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


MEMBERS = {"a b/x.wav": wav_bytes(0.5), "text.txt": b"hello", "cut.wav": wav_bytes(1)[:900]}


@pytest.mark.parametrize("kind", ["folder", "zip", "stored.zip", "tar", "tar.gz"])
def test_archives_are_read_like_folders(tmp_path, kind):
    path = tmp_path / f"audio.{kind}"
    if kind == "folder":
        for name, content in MEMBERS.items():
            write(path / name, content)
    elif kind.endswith("zip"):
        path.write_bytes(zip_bytes(MEMBERS, stored=kind != "zip"))
    else:
        tar(path, MEMBERS, "w:gz" if kind == "tar.gz" else "w")
    files = open_files(str(path), str(tmp_path / "media"))
    assert files.names() == sorted(MEMBERS)
    assert files.read("text.txt") == b"hello" and "text.txt" in files and "no" not in files
    audio = files.audio("a b/x.wav")
    assert audio.seconds == 0.5
    in_place = kind in ("stored.zip", "tar")
    assert (audio.source.rpartition(":")[0] == str(path)) == in_place
    assert (tmp_path / "media").exists() == (kind in ("zip", "tar.gz"))
    if in_place:  # what Kaldi's reader and ours find there
        import kaldiio

        from espnet_plugin.data.source import open_audio

        rate, samples = kaldiio.load_mat(audio.source)
        with open_audio(audio.source) as opened:
            assert (opened.frames, opened.samplerate) == (8000, 16000) == (len(samples), rate)
    else:
        assert Path(audio.source).read_bytes() == MEMBERS["a b/x.wav"]
    with pytest.raises(AudioError, match="truncated: 856 of 32000 bytes"):
        files.audio("cut.wav")
    with pytest.raises(AudioError, match="no such file"):
        files.audio("none.wav")


def test_compressed_audio_can_stay_in_the_zip(tmp_path):
    path = write(tmp_path / "it's [1].zip", zip_bytes({"a [b].wav": wav_bytes(0.5)}))
    audio = open_files(str(path), str(tmp_path / "media"), "pipe").audio("a [b].wav")
    assert audio.source.endswith(" |") and not (tmp_path / "media").exists()
    from espnet_plugin.data.source import open_audio

    with open_audio(audio.source, allow_pipes=True) as opened:
        assert opened.frames == 8000


@pytest.mark.parametrize("name", ["../x.wav", "/etc/x.wav", "a/../../x", "C:/x", "a\\b", "a\nb"])
def test_members_that_lead_outside(tmp_path, name):
    with pytest.raises(ValueError, match="unsafe member name"):
        check_name("x.zip", name)
    path = tar(tmp_path / "x.tar.gz", {"good": b"1", name: b"2"}, "w:gz")
    with pytest.raises(ValueError, match="unsafe member name"):
        open_files(str(path), str(tmp_path / "media"))
    if "\\" not in name:
        path = write(tmp_path / "x.zip", zip_bytes({name: b"1"}))
        with pytest.raises(ValueError, match="unsafe member name"):
            open_files(str(path), str(tmp_path / "media"))
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".wav"] == []


def test_damaged_and_unknown_archives(tmp_path):
    whole = zip_bytes({"a.wav": wav_bytes(0.5)})
    path = write(tmp_path / "cut.zip", whole[:-30])
    with pytest.raises(ArchiveError, match="cut.zip: damaged zip"):
        open_files(str(path), "")
    spoiled = whole[:60] + bytes(40) + whole[100:]
    files = open_files(str(write(tmp_path / "spoiled.zip", spoiled)), str(tmp_path / "media"))
    with pytest.raises(AudioError, match="damaged"):
        files.audio("a.wav")
    plain = tar(tmp_path / "whole.tar", {"a.wav": wav_bytes(0.5)}).read_bytes()
    with pytest.raises(ArchiveError, match=r"cut.tar(.gz)?: damaged tar"):
        open_files(str(write(tmp_path / "cut.tar", plain[:9000])), str(tmp_path / "media"))
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        info = tarfile.TarInfo("x")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(ValueError, match="is a link or a device"):
        open_files(str(tmp_path / "link.tar"), "")
    with pytest.raises(ValueError, match=r"neither a folder nor a .zip or .tar"):
        open_files(str(write(tmp_path / "x.rar", "")), "")
    with pytest.raises(FileNotFoundError, match="none.zip: no such folder or archive"):
        open_files(str(tmp_path / "none.zip"), "")


def test_length_of_sound_in_memory():
    assert audio_bytes_seconds(wav_bytes(0.25)) == 0.25
    extra = wav_bytes(0.25)
    extra = extra[:36] + b"LIST" + (1000).to_bytes(4, "little") + bytes(1000) + extra[36:]
    extra = extra[:4] + (len(extra) - 8).to_bytes(4, "little") + extra[8:]
    assert audio_bytes_seconds(extra) == 0.25  # its header is longer than what is read at once
    for data, message in ((b"", "0 bytes"), (b"RIFFxxxx", "corrupt"), (wav_bytes(0), "no samples")):
        with pytest.raises(AudioError, match=message):
            audio_bytes_seconds(data)
