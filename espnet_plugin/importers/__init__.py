"""Import a Whisper model from any of its file formats: one file per format, one form as result."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint import (
    OUTPUT,
    WEIGHTS,
    atomic_dir,
    check_state,
    fp16_tensor_hash,
    model_dir_exists,
    read_json,
    torch_dtype,
    write_json,
    write_safetensors,
)

if TYPE_CHECKING:
    from espnet_plugin.importers.source import Source

RECORD = "import.json"
EXPORTED = ("whisper.pt", "espnet.zip")  # the one file of an export's directory
KINDS = (
    "a hub id (owner/name), a Hugging Face directory, an openai-whisper .pt file, a CTranslate2 "
    "directory, an ESPnet .zip that bin.export packed, or 'demo'"
)


def read_source(
    source: str, revision: str | None = None, log: Callable[[str], None] = print
) -> Source:
    """Read a model from whatever a source names.

    Args:
        source: A hub id, a directory (that of an export, too), a ``.pt`` or ``.zip`` file, or
            ``"demo"``. What exists on disk wins.
        revision: Branch, tag or commit of a hub id.
        log: Told about progress.

    Raises:
        FileNotFoundError: There is no such file, directory or hub model.
        ValueError: The source is of no known kind, or what it holds is wrong.
    """
    path = Path(source)
    if revision is not None and (source == "demo" or path.exists()):
        raise ValueError(f"--revision {revision} is for a hub id, the source is {source!r}")
    if source == "demo":
        from espnet_plugin.importers.demo import read_demo

        return read_demo(log)
    if path.is_dir():
        for name in EXPORTED:
            if (path / name).is_file() and not (path / "config.json").is_file():
                return read_source(str(path / name), log=log)
        if (path / "model.bin").is_file():
            from espnet_plugin.importers.ct2 import read_ct2

            return read_ct2(path)
        from espnet_plugin.importers.huggingface import read_hugging_face

        return read_hugging_face(path)
    if path.is_file() and path.suffix == ".pt":
        from espnet_plugin.importers.openai import read_openai

        return read_openai(path)
    if path.is_file() and path.suffix == ".zip":
        from espnet_plugin.importers.packed import read_packed

        return read_packed(path)
    if path.is_file():
        raise ValueError(f"{source}: unknown kind of file; a source is {KINDS}")
    looks_local = path.is_absolute() or source.startswith((".", "~"))
    looks_local |= path.suffix in (".pt", ".zip")
    if looks_local or source.count("/") > 1:
        raise FileNotFoundError(f"{source}: no such file or directory")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        from espnet_plugin.importers.hub import read_hub

        try:
            return read_hub(source, revision)
        except FileNotFoundError as error:
            if path.parent.is_dir():  # a mistyped directory looks like a hub id
                raise FileNotFoundError(f"{source}: no such directory, and {error}") from None
            raise
    raise ValueError(f"unknown source {source!r}; a source is {KINDS}")


def import_model(
    source: str,
    output: str | Path,
    *,
    dtype: str = "float32",
    revision: str | None = None,
    log: Callable[[str], None] = print,
) -> Path:
    """Import a Whisper model into a Hugging Face directory with all that ESPnet needs beside it.

    The output has ``config.json``, ``model.safetensors``, the completed tokenizer,
    ``generation_config.json``, ``preprocessor_config.json``, ``tokens.txt`` and ``import.json``,
    which tells where it came from. It appears only when complete. A finished import of the same
    source is left as it is.

    Args:
        source: See `read_source`.
        output: The directory to make.
        dtype: Storage type: ``float32``, ``float16`` or ``bfloat16``.
        revision: Branch, tag or commit of a hub id.
        log: Told what is done.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: The source is missing.
        ValueError: The source is unusable, or the output holds something else.
    """
    output = Path(output)
    wanted = torch_dtype(dtype)
    asked = {"source": _name(source), "revision": revision, "dtype": dtype}
    earlier = _earlier(output, asked)
    # Files on disk may have changed since; a hub revision and the demo's weights are what they are.
    if earlier is not None and not Path(source).exists():
        log(f"{output}: already imported from {source}")
        return output
    read = read_source(source, revision, log)
    if earlier is not None:
        if earlier.get("files") == read.files:
            log(f"{output}: already imported from {source}")
            return output
        raise ValueError(
            f"{output}: was imported from {source}, whose files have changed since; remove it first"
        )
    check_state(read.state, read.config, read.where)
    record = {
        **asked,
        "road": read.road,
        "files": read.files,
        "fp16_tensor_hash": fp16_tensor_hash(read.state),
        **read.notes,
    }
    with atomic_dir(output) as directory:
        record["tokenizer"] = _write_tokenizer(read, directory)
        record["versions"] = _versions()
        write_json(directory / "config.json", {**_clean(read.config), "dtype": dtype})
        state = {name: t for name, t in sorted(read.state.items()) if name != OUTPUT}
        write_safetensors(directory / WEIGHTS, state, wanted)
        write_json(directory / RECORD, record)
    log(f"{output}: imported from {source}" + (f" ({read.road})" if read.road else ""))
    return output


def _name(source: str) -> str:
    """Return a source's name for the record: a file or directory by its absolute path."""
    return str(Path(source).resolve()) if Path(source).exists() else source


def _earlier(output: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return the record of a finished import of the same source, None if there is no output yet."""
    if not (output / RECORD).is_file() or not model_dir_exists(output):
        return None  # an unfinished or foreign directory is refused when writing
    record = read_json(output / RECORD)
    for key, value in asked.items():
        if record.get(key) != value:
            raise ValueError(
                f"{output}: holds an import with {key} {record.get(key)!r}, asked for {value!r}; "
                "remove it or choose another output"
            )
    return record


def _write_tokenizer(read: Source, directory: Path) -> list[str]:
    from espnet_plugin.tokenizer import build_tokenizer, read_tokenizer, write_tokenizer

    vocab_size = read.config["vocab_size"]
    if read.tokenizer_dir is None:
        tokenizer, changes = build_tokenizer(vocab_size), ["built from openai-whisper's vocabulary"]
    else:
        tokenizer, changes = read_tokenizer(read.tokenizer_dir, vocab_size)
    write_tokenizer(
        directory, tokenizer, vocab_size, read.config["num_mel_bins"], generation=read.generation
    )
    return changes or ["complete"]


def _clean(config: dict[str, Any]) -> dict[str, Any]:
    """Drop what transformers 5 keeps elsewhere or knows by another name."""
    dropped = ("torch_dtype", "dtype", "_name_or_path", "forced_decoder_ids")
    return {key: value for key, value in config.items() if key not in dropped}


def _versions() -> dict[str, str]:
    found = {}
    for package in ("espnet-asyncswitch", "torch", "transformers", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
