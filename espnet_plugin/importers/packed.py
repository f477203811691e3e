"""Whisper from a zip that ESPnet packed (`espnet2.bin.pack`), as `bin.export` makes it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from espnet_plugin.checkpoint import CARRIED, INDEX, WEIGHTS, sha256_file
from espnet_plugin.importers.huggingface import read_hugging_face
from espnet_plugin.importers.source import Source

META = "meta.yaml"


def _meta(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if META not in archive.namelist():
        raise ValueError(f"{path}: no {META} in it: not a zip that ESPnet packed")
    try:
        meta = yaml.safe_load(archive.read(META))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: {META} cannot be read ({error})") from None
    if not isinstance(meta, dict) or not isinstance(meta.get("files"), dict):
        raise ValueError(f"{path}: {META} names no files")
    return meta


def read_packed(path: str | Path) -> Source:
    """Read a packed model whose weights are safetensors beside `config.json` and a tokenizer.

    Only the files of a model directory are unpacked, by their plain names.

    Raises:
        FileNotFoundError: There is no such file, or it lacks the configuration or the tokenizer.
        ValueError: It is no such archive, is damaged, or holds a model of another kind.
    """
    path = Path(path)
    folder = Path(tempfile.mkdtemp(prefix="packed-"))
    try:
        with zipfile.ZipFile(path) as archive:
            weights = _meta(archive, path)["files"].get("asr_model_file")
            if weights not in (WEIGHTS, INDEX):
                raise ValueError(
                    f"{path}: asr_model_file is {weights!r}, expected {WEIGHTS}: only models that "
                    "this project packed can be imported"
                )
            for info in archive.infolist():
                name = info.filename
                plain = PurePosixPath(name).name == name
                if plain and (name in CARRIED or name == INDEX or name.endswith(".safetensors")):
                    archive.extract(info, folder)
        source = read_hugging_face(folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ValueError(f"{path}: not a complete zip archive ({error})") from None
    except (FileNotFoundError, ValueError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        message = str(error).replace(str(folder), str(path))
        raise type(error)(message) from None
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    # Tensors are mapped from there, and the tokenizer is read later.
    weakref.finalize(source, shutil.rmtree, folder, ignore_errors=True)
    source.where = str(path)
    source.files = {path.name: sha256_file(path)}
    return source
