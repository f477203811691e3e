import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.corpora import an4
from espnet_plugin.data import DataDir


def archive(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    return info


def test_good_members_are_read_in_memory(tmp_path: Path):
    path = archive(
        tmp_path / "a b.tgz",
        (member("downloads", tarfile.DIRTYPE), b""),
        (member("./downloads/x.txt"), b"hello"),
    )
    assert an4.read_members(path) == {"downloads/x.txt": b"hello"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a b.tgz"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "downloads/../../x", "a\\..\\x"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str):
    path = archive(tmp_path / "a.tgz", (member(name), b"x"))
    with pytest.raises(ValueError, match=r"a\.tgz: unsafe member name"):
        an4.read_members(path)


def test_links_sizes_and_damage_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = archive(tmp_path / "a.tgz", (member("x", tarfile.SYMTYPE), b""))
    with pytest.raises(ValueError, match="'x' is neither a file nor a directory"):
        an4.read_members(path)
    monkeypatch.setattr(an4, "MEMBER_LIMIT", 3)
    with pytest.raises(ValueError, match="'x' has 4 bytes, at most 3"):
        an4.read_members(archive(path, (member("x"), b"four")))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="not a readable tar.gz"):
        an4.read_members(path)


def test_sounds_that_are_not_there_or_no_sounds():
    with pytest.raises(ValueError, match="no member 'b.wav'; it has a.wav"):
        an4.read_sound({"a.wav": b""}, "b.wav")
    with pytest.raises(ValueError, match="'a.wav' is not audio"):
        an4.read_sound({"a.wav": b"nothing"}, "a.wav")


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    return an4.read_members(an4.find_archive())


def test_test_noises_are_not_those_of_training(members):
    noises, rooms = an4.noises_and_rooms(members, held_out=False)
    other_noises, other_rooms = an4.noises_and_rooms(members, held_out=True)
    for mine, other, name in zip(noises, other_noises, an4.NOISES, strict=True):
        assert np.array_equal(np.concatenate([mine, other]), an4.read_sound(members, name))
    assert not np.array_equal(rooms[0], other_rooms[0])


def test_examples(members, tmp_path: Path):
    output = tmp_path / "my examples"
    assert an4.write_examples(members, output) == 7
    data = DataDir.load(output)
    assert len(list((output / "wav").iterdir())) == 8
    assert data.text["fbbh-cen8-fbbh-b"] == "march third nineteen twenty eight"
    assert sum(len(text.split()) for text in data.text.values()) == 22
    assert (output / "untranscribed.scp").read_text().startswith("fash-cen7-fash-b ")
    assert "Carnegie Mellon" in (output / "LICENSE").read_text()


def test_espnet_is_missing(monkeypatch):
    monkeypatch.setattr(an4.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="ESPnet is not installed"):
        an4.find_archive()
