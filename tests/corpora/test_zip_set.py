import random
import shutil
import subprocess
import zipfile

import pytest

from espnet_plugin.corpora.archives import ArchiveError
from espnet_plugin.corpora.corpus import AudioError
from espnet_plugin.corpora.zip_set import ZipSet, open_zips
from espnet_plugin.corpora.zip_volumes import Archive, find_zips
from espnet_plugin.data.source import open_audio
from tests.fixtures.nsc import wav_bytes
from tests.fixtures.public_files import mp3_bytes, numbered_zip, spanned_zip, zip_file

NOISE = {f"a/{n}.bin": random.Random(n).randbytes(3000) for n in range(8)}


def contents(zips: ZipSet, names) -> dict[str, bytes]:
    found = {}
    for name in names:
        entry, number = zips._find(name)
        archive = zips._archives[number]
        found[name] = zips._unpacked(entry, archive, zips._start(entry, archive))
    return found


@pytest.mark.parametrize("wide", [False, True])
def test_volumes_whose_offsets_count_from_their_own_start(tmp_path, wide):
    paths = spanned_zip(tmp_path / "x.zip", NOISE, 5000, wide)
    assert [path.name for path in paths] == ["x.z01", "x.z02", "x.z03", "x.z04", "x.zip"]
    (volumes,) = find_zips(tmp_path)
    assert volumes == tuple(map(str, paths))
    assert contents(ZipSet([volumes], tmp_path), NOISE) == NOISE


def test_a_zip_cut_into_numbered_pieces(tmp_path):
    paths = numbered_zip(tmp_path / "x.zip", NOISE, 4096)
    (volumes,) = find_zips(tmp_path)
    assert volumes == tuple(map(str, paths)) and len(volumes) > 5
    assert contents(ZipSet([volumes], tmp_path), NOISE) == NOISE


@pytest.mark.skipif(shutil.which("zip") is None, reason="zip is not installed")
def test_what_zip_itself_splits(tmp_path):
    (tmp_path / "a").mkdir()
    big = {f"a/{n}.bin": random.Random(n).randbytes(40_000) for n in range(4)}
    for name, data in big.items():
        (tmp_path / name).write_bytes(data)
    subprocess.run(["zip", "-q", "-s", "64k", "-r", "x.zip", "a"], cwd=tmp_path, check=True)
    (volumes,) = find_zips(tmp_path)
    assert len(volumes) == 3
    assert contents(ZipSet([volumes], tmp_path), big) == big


def test_many_zips_are_one_folder(tmp_path):
    zip_file(tmp_path / "a.zip", {"x/1.wav": wav_bytes(0.5, 1), "same": b"first"}, deflate=False)
    zip_file(tmp_path / "b.zip", {"x/2.mp3": mp3_bytes(), "same": b"second"})
    zip_file(tmp_path / "c.zip", {"gambar/müsik.wav": wav_bytes(0.25, 3)})
    zips = open_zips(find_zips(tmp_path), tmp_path / "media")
    assert len(zips) == 5
    assert "x/1.wav" in zips and "x/3.wav" not in zips
    assert contents(zips, ["same"]) == {"same": b"first"}
    stored, packed = zips.audio("x/1.wav"), zips.audio("gambar/müsik.wav")
    assert stored.source.startswith(f"{tmp_path}/a.zip:") and stored.seconds == 0.5
    assert packed.source.startswith(f"{tmp_path}/media/c-") and packed.seconds == 0.25
    for audio in (stored, packed, zips.audio("x/2.mp3")):
        with open_audio(audio.source) as sound:
            assert sound.frames == 16000 * audio.seconds
    with pytest.raises(AudioError, match="no such file"):
        zips.audio("x/3.wav")
    assert open_zips(find_zips(tmp_path), tmp_path / "media") is zips


def test_a_stored_wav_that_lies_in_two_volumes_is_unpacked(tmp_path):
    zip_file(tmp_path / "x.zip", {"1.wav": wav_bytes(0.5)}, deflate=False)
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip.001").write_bytes(data[:9000])
    (tmp_path / "x.zip.002").write_bytes(data[9000:])
    (tmp_path / "x.zip").unlink()
    audio = ZipSet(find_zips(tmp_path), tmp_path / "media").audio("1.wav")
    assert "/media/x-" in audio.source and audio.seconds == 0.5


def test_missing_volumes_are_named(tmp_path):
    paths = spanned_zip(tmp_path / "x.zip", NOISE, 5000)
    paths[1].unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.z02: a volume of a split zip is missing"):
        find_zips(tmp_path)
    shutil.copy(paths[2], paths[1])
    paths[-1].unlink()
    with pytest.raises(FileNotFoundError, match=r"x\.zip: the last volume .* is missing"):
        find_zips(tmp_path)
    for path in paths[:-1]:
        path.unlink()
    numbered = numbered_zip(tmp_path / "y.zip", NOISE, 4096)
    numbered[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"y\.zip\.001: a volume"):
        find_zips(tmp_path)


def test_damage(tmp_path):
    path = zip_file(tmp_path / "x.zip", NOISE | {"b.wav": wav_bytes(0.5)})
    whole = path.read_bytes()
    for size in (20, len(whole) - 10, len(whole) - 300):
        path.write_bytes(whole[:size])
        with pytest.raises(ArchiveError, match=r"x\.zip: damaged zip"):
            list(Archive((str(path),)).entries())
    broken = bytearray(whole)
    broken[60:1000] = bytes(940)
    path.write_bytes(broken)
    zips = ZipSet([(str(path),)], tmp_path / "media")
    with pytest.raises(AudioError, match="damaged in the archive"):
        zips.audio("a/0.bin")
    assert zips.audio("b.wav").seconds == 0.5  # the others are whole
    paths = spanned_zip(tmp_path / "s/x.zip", NOISE, 5000)
    with pytest.raises(ArchiveError, match="has 5 volumes, 4 are there"):
        list(Archive(tuple(map(str, paths[1:]))).entries())


@pytest.mark.parametrize("name", ["../x.wav", "/etc/x.wav", "a/../../x.wav", "c:/x.wav", "a\\b"])
def test_members_that_lead_outside(tmp_path, name):
    path = zip_file(tmp_path / "x.zip", {"good.wav": b"", name: b"x"})
    with pytest.raises(ValueError, match="unsafe member name"):
        ZipSet([(str(path),)], tmp_path)


def test_encrypted_and_linked_members(tmp_path):
    path = zip_file(tmp_path / "x.zip", {"a.wav": b"abc"})
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="'a.wav' is encrypted"):
        ZipSet([(str(path),)], tmp_path)
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("link.wav")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="'link.wav' is a symbolic link"):
        ZipSet([(str(path),)], tmp_path)


def test_no_zip_at_all(tmp_path):
    assert find_zips(tmp_path) == []
    assert len(ZipSet([], tmp_path)) == 0
    assert "a" not in ZipSet([], tmp_path)
