"""Export a model to the formats of other programs, each verified before it appears."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import (
    atomic_dir,
    check_state,
    load_config,
    model_dir_exists,
    model_hash,
    model_layout,
    read_json,
    sha256_file,
    temporary_sibling,
    tensor_hashes,
    write_json,
)
from espnet_plugin.export.formats import FORMATS, Target, as_json, parse_targets, target
from espnet_plugin.export.verify import Verifier

__all__ = ["FORMATS", "RECORD", "Target", "Verifier", "export_model", "parse_targets", "target"]

RECORD = "export.json"


def is_one_file(output: Path, made: Target) -> bool:
    """Tell whether an output names a file and not a directory, by its ending.

    Raises:
        ValueError: It has the ending of another format's file.
    """
    ending = Path(made.format.file or "").suffix
    if output.is_dir() or output.suffix not in (".pt", ".zip"):
        return False
    if output.suffix != ending:
        wanted = f"a file that ends in {ending}, or a directory" if ending else "a directory"
        raise ValueError(f"{output}: an export to {made.format.name} is {wanted}")
    return True


def record_path(output: Path, made: Target) -> Path:
    """Return where the record of an export is: inside a directory, beside a file."""
    return Path(f"{output}.json") if is_one_file(output, made) else output / RECORD


def exported_path(output: Path, made: Target) -> Path:
    """Return the file or directory that a runtime loads."""
    if made.format.file is None or is_one_file(output, made):
        return output
    return output / made.format.file


def export_model(
    model_dir: str | Path,
    made: Target,
    output: str | Path,
    verifier: Verifier | None,
    log: Callable[[str], None] = print,
) -> Path:
    """Export a model; the output appears when it is complete, verified and recorded.

    An export that is there already, of the same model in the same form, is left as it is; what it
    has not been verified with is made up for.

    Args:
        model_dir: The model.
        made: Format and stored type.
        output: A directory to make, or for formats that are one file, its name with its ending.
            The record is ``export.json`` in it, or ``<file>.json`` beside it.
        verifier: What decodes it; None only compares the weights.
        log: Told what is done.

    Returns:
        What the runtime loads: the directory or the file.

    Raises:
        FileNotFoundError: The model, or a file of it, is missing.
        ValueError: The format cannot express the model; the export differs from it; the output
            holds something else.
    """
    model_dir, output = Path(model_dir), Path(output)
    if not model_dir_exists(model_dir):
        raise FileNotFoundError(f"{model_dir}: not a model directory with config.json and weights")
    check_state(model_layout(model_dir), load_config(model_dir), model_dir)
    if output.resolve() == model_dir.resolve():
        raise ValueError(f"{output}: is the model itself; choose another output")
    asked = {**as_json(made), "model_sha256": model_hash(tensor_hashes(model_dir))}
    if record_path(output, made).is_file():
        return _again(model_dir, made, output, asked, verifier, log)
    with _staged(output, made) as directory:
        log(f"write {made.title} of {model_dir}")
        module = import_module(f"espnet_plugin.export.{made.format.name}")
        module.write(model_dir, directory, made.dtype)
        inside = exported_path(directory, made)
        record = {**asked, "name": model_dir.name, **_weights(model_dir, inside, made)}
        record["verification"] = verifier and verifier.check(model_dir, inside, made)
        record["files"] = {
            path.relative_to(directory).as_posix(): sha256_file(path)
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }
        record["versions"] = _versions(made)
        write_json(directory / RECORD, record)
    log(f"{output}: exported from {model_dir}{'' if verifier else ', not decoded'}")
    return exported_path(output, made)


def _weights(model_dir: Path, inside: Path, made: Target) -> dict[str, Any]:
    from espnet_plugin.export.tensors import compare_weights

    found = compare_weights(model_dir, inside, made)
    return {"weights": {"identical": found.identical, "error": found.error, "text": found.text()}}


@contextlib.contextmanager
def _staged(output: Path, made: Target) -> Iterator[Path]:
    """Make a directory that becomes the output, or whose one file does."""
    if not is_one_file(output, made):
        with atomic_dir(output) as directory:
            yield directory
        return
    if output.exists():
        raise ValueError(f"{output}: exists already; remove it or choose another output")
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(output).with_suffix("")  # not the name of a file
    temporary.mkdir()
    try:
        yield temporary
        os.replace(exported_path(temporary, made), output)
        os.replace(temporary / RECORD, record_path(output, made))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _again(
    model_dir: Path,
    made: Target,
    output: Path,
    asked: dict[str, Any],
    verifier: Verifier | None,
    log: Callable[[str], None],
) -> Path:
    """Take up an export that exists."""
    path = record_path(output, made)
    record = read_json(path)
    for key, value in asked.items():
        if record.get(key) != value:
            raise ValueError(
                f"{output}: holds an export with {key} {record.get(key)!r}, asked for {value!r}; "
                "remove it or choose another output"
            )
    inside = exported_path(output, made)
    for name, digest in record["files"].items():
        file = output / name if output.is_dir() else output
        if not file.is_file() or sha256_file(file) != digest:
            raise ValueError(f"{file}: missing or changed since the export; remove {output} first")
    known = record.get("verification")
    if verifier is None or (known and {k: known.get(k) for k in verifier.key()} == verifier.key()):
        log(f"{output}: exported already")
        return inside
    record["verification"] = verifier.check(model_dir, inside, made)
    write_json(path, record)
    log(f"{output}: exported already, now verified")
    return inside


def _versions(made: Target) -> dict[str, str]:
    found = {}
    for package in ("espnet-asyncswitch", "torch", "transformers", made.format.package):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
