"""Writing a model directory, complete and atomically."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint.files import (
    atomic_dir,
    atomic_write,
    fsync_dir,
    read_json,
    remove_leftovers,
    temporary_sibling,
    write_json,
)
from espnet_plugin.checkpoint.layout import (
    EMBEDDING,
    INDEX,
    ITEM_BYTES,
    OUTPUT,
    WEIGHTS,
    encode_header,
)
from espnet_plugin.checkpoint.tensors import check_state, load_config, tensor_bytes

if TYPE_CHECKING:
    import torch

# What a model directory carries besides its weights. Every name is optional for reading.
CARRIED = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "normalizer.json",
    "vocab.json",
    "merges.txt",
    "tokens.txt",
)
DTYPES = tuple(ITEM_BYTES)


def torch_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return a torch dtype by name.

    Raises:
        ValueError: It is not one that models are stored in.
    """
    import torch

    return getattr(torch, dtype_name(dtype))


def dtype_name(dtype: str | torch.dtype) -> str:
    """Return the name of a storage type, such as ``"float16"``.

    Raises:
        ValueError: It is not one that models are stored in.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r}, allowed are {', '.join(DTYPES)}")
    return name


@contextlib.contextmanager
def safetensors_writer(
    path: str | Path, specs: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
) -> Iterator[Callable[[str, torch.Tensor], None]]:
    """Write a safetensors file tensor by tensor, atomically.

    The library's own writer wants all tensors in memory at once.

    Args:
        path: The file to make or replace.
        specs: Stored dtype and shape of each tensor by name; the file keeps this order.

    Yields:
        A function ``write(name, tensor)`` to call for each tensor in that order; it converts to the
        stored dtype.

    Raises:
        ValueError: Name, order or shape differ from ``specs``; a dtype is not one that models are
            stored in.
    """
    for name, (dtype, _) in specs.items():
        if str(dtype).removeprefix("torch.") not in DTYPES:
            raise ValueError(f"{path}: {name} is {dtype}, allowed are {', '.join(DTYPES)}")
    head, _, _ = encode_header({n: (dtype_name(d), tuple(s)) for n, (d, s) in specs.items()})
    waiting = iter(specs.items())
    with atomic_write(path) as file:
        file.write(head)

        def write(name: str, tensor: torch.Tensor) -> None:
            due = next(waiting, None)
            if due is None or due[0] != name or due[1][1] != tuple(tensor.shape):
                raise ValueError(f"{path}: got {name} {tuple(tensor.shape)}, due is {due}")
            file.write(tensor_bytes(tensor.to(due[1][0])))

        yield write
        if left := next(waiting, None):
            raise ValueError(f"{path}: tensor {left[0]} was never written")


def write_safetensors(
    path: str | Path, state: Mapping[str, torch.Tensor], dtype: torch.dtype | None = None
) -> None:
    """Write tensors to a safetensors file, atomically.

    Args:
        path: The file to make or replace.
        state: Tensors by name, written in this order.
        dtype: Stored type; None keeps each tensor's own.
    """
    specs = {name: (dtype or t.dtype, tuple(t.shape)) for name, t in state.items()}
    with safetensors_writer(path, specs) as write:
        for name, tensor in state.items():
            write(name, tensor)


def save_model_dir(
    state: Mapping[str, torch.Tensor],
    source_dir: str | Path,
    output: str | Path,
    dtype: str | torch.dtype | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a complete, loadable model directory.

    Configuration, tokenizer, token list and generation settings are carried over from
    ``source_dir``. A new directory appears as a whole; in an existing one (say, beside ESPnet's own
    files) each file is replaced atomically, the weights last.

    Args:
        state: Tensors by Hugging Face name; a ``proj_out.weight`` must equal the embedding.
        source_dir: The model directory whose other files are carried.
        output: The directory to write, which may be ``source_dir`` itself.
        dtype: Storage type of the tensors; ``None`` keeps each as it is.
        extra: More files, name to a JSON-able value, written beside.

    Returns:
        ``output``.

    Raises:
        FileNotFoundError: ``source_dir`` has no configuration.
        ValueError: The tensors do not fit the configuration; an unknown dtype.
    """
    config = load_config(source_dir)
    check_state(state, config, output)
    wanted = None if dtype is None else torch_dtype(dtype)
    _check_tied(state, output)
    kept = {name: tensor for name, tensor in sorted(state.items()) if name != OUTPUT}
    stored = str(wanted or kept[EMBEDDING].dtype).removeprefix("torch.")
    with model_dir_writer(source_dir, output, stored, extra) as directory:
        write_safetensors(directory / WEIGHTS, kept, wanted)
    return Path(output)


def _check_tied(state: Mapping[str, torch.Tensor], where: str | Path) -> None:
    import torch

    if OUTPUT in state and not torch.equal(state[OUTPUT], state[EMBEDDING]):
        raise ValueError(f"{where}: {OUTPUT} differs from {EMBEDDING}; Whisper ties them")


@contextlib.contextmanager
def model_dir_writer(
    source_dir: str | Path,
    output: str | Path,
    dtype: str,
    extra: Mapping[str, Any] | None = None,
) -> Iterator[Path]:
    """Make a model directory around weights that the block writes.

    Everything is written into a temporary directory first. A new directory then appears as a whole.
    In an existing one the files are replaced, each atomically, when all are complete: first goes
    the old ``extra`` (the record of what the weights were made from), last comes the new, so that a
    record never stands beside other weights; shards are never left mixed under an index.

    Args:
        source_dir: The model directory whose other files are carried.
        output: The directory to write.
        dtype: The name that ``config.json`` gives for the stored type, such as ``"float32"``.
        extra: More files, name to a JSON-able value; the block may still add to the values.

    Yields:
        The directory in which the block writes ``model.safetensors``, or shards and their index.

    Raises:
        FileNotFoundError: ``source_dir`` has no configuration.
    """
    source, output = Path(source_dir), Path(output)
    config = {k: v for k, v in load_config(source).items() if k not in ("torch_dtype", "dtype")}
    in_place = output.is_dir() and any(output.iterdir())
    with _directory_inside(output) if in_place else atomic_dir(output) as directory:
        for name in CARRIED:
            if name != "config.json" and (source / name).is_file():
                _copy(source / name, directory / name)
        write_json(directory / "config.json", {**config, "dtype": dtype})
        yield directory
        for name, value in (extra or {}).items():
            write_json(directory / name, value)
        if in_place:
            _replace_model(directory, output, tuple(extra or ()))


@contextlib.contextmanager
def _directory_inside(path: Path) -> Iterator[Path]:
    """Make a directory for temporary files, on the same file system even where `path` is a link."""
    remove_leftovers(path / "new")
    temporary = temporary_sibling(path / "new")
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_model(new: Path, output: Path, records: Sequence[str]) -> None:
    """Move a complete model into a directory that may hold another."""
    for name in records:
        (output / name).unlink(missing_ok=True)
    shards = _shards(new)
    for path in sorted(new.iterdir()):
        if path.name not in {WEIGHTS, INDEX, *shards, *records}:
            os.replace(path, output / path.name)
    if (new / WEIGHTS).is_file():
        os.replace(new / WEIGHTS, output / WEIGHTS)  # readers prefer it to shards
        _remove_shards(output)
    else:
        _remove_shards(output)  # there is no model until the index is there again
        (output / WEIGHTS).unlink(missing_ok=True)
        for name in (*shards, INDEX):
            os.replace(new / name, output / name)
    for name in records:
        os.replace(new / name, output / name)
    fsync_dir(output)


def _shards(directory: Path) -> list[str]:
    if not (directory / INDEX).is_file():
        return []
    return sorted({Path(s).name for s in read_json(directory / INDEX)["weight_map"].values()})


def _remove_shards(directory: Path) -> None:
    shards = _shards(directory)
    (directory / INDEX).unlink(missing_ok=True)
    for shard in shards:
        (directory / shard).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as file, open(source, "rb") as original:
        shutil.copyfileobj(original, file)
