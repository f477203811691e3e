"""Zips that ESPnet packed: what is read of them, and what never is."""

import os
import zipfile

import pytest
import yaml

from espnet_plugin import checkpoint as ck
from espnet_plugin.importers import import_model, read_source
from espnet_plugin.importers.packed import read_packed


def quiet(_: str) -> None:
    pass


def pack(path, directory, files=None, **more):
    """Pack a model directory by hand; `more` are further members."""
    meta = {"files": files or {"asr_model_file": "model.safetensors"}, "yaml_files": {}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("meta.yaml", yaml.safe_dump(meta))
        for file in sorted(directory.iterdir()):
            archive.write(file, file.name)
        for name, content in more.items():
            archive.writestr(name, content)
    return path


def test_import(tiny_whisper, tmp_path):
    path = pack(tmp_path / "m.zip", tiny_whisper)
    output = import_model(str(path), tmp_path / "out", log=quiet)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(tiny_whisper)
    record = ck.read_json(output / "import.json")
    assert record["files"] == {"m.zip": ck.sha256_file(path)}


def test_nothing_lands_outside(tiny_whisper, tmp_path, monkeypatch):
    made = []
    original = zipfile.ZipFile.extract
    monkeypatch.setattr(
        zipfile.ZipFile, "extract", lambda z, i, f: made.append(i.filename) or original(z, i, f)
    )
    evil = {"../evil.safetensors": "x", "/tmp/evil.safetensors": "x", "run.py": "x"}
    source = read_packed(pack(tmp_path / "m.zip", tiny_whisper, **evil))
    assert "model.safetensors" in made and not any("evil" in name for name in made)
    folder = source.tokenizer_dir
    assert folder.is_dir() and not (folder / "run.py").exists()
    del source
    assert not folder.exists()  # what was unpacked goes with it
    assert not os.path.exists("/tmp/evil.safetensors")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"asr_model_file": "exp/model.pth"}, "asr_model_file is 'exp/model.pth', expected model"),
        ({"st_model_file": "model.safetensors"}, "asr_model_file is None"),
    ],
)
def test_other_models(files, message, tiny_whisper, tmp_path):
    with pytest.raises(ValueError, match=rf"m\.zip: {message}"):
        read_source(str(pack(tmp_path / "m.zip", tiny_whisper, files)), log=quiet)


def test_damaged_zips(tiny_whisper, tmp_path):
    path = pack(tmp_path / "m.zip", tiny_whisper)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"m\.zip: not a complete zip archive"):
        read_packed(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"m\.zip: no meta\.yaml in it: not a zip that ESPnet"):
        read_packed(path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match=r"m\.zip/config\.json: no such file"):
        read_packed(pack(path, empty))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.zip: no such file or directory"):
        read_source("nowhere.zip", log=quiet)
