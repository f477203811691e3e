"""Writing a model directory, complete and atomically."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint.files import atomic_dir, atomic_write, read_json, write_json
from espnet_plugin.checkpoint.tensors import (
    EMBEDDING,
    INDEX,
    OUTPUT,
    SAFETENSORS_DTYPES,
    WEIGHTS,
    check_state,
    load_config,
    tensor_bytes,
)

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
DTYPES = tuple(SAFETENSORS_DTYPES.values())


def torch_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """Return a torch dtype by name.

    Raises:
        ValueError: It is not one that models are stored in.
    """
    import torch

    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise ValueError(f"dtype {name!r}, allowed are {', '.join(DTYPES)}")
    return getattr(torch, name)


@contextlib.contextmanager
def safetensors_writer(
    path: str | Path, specs: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]
) -> Iterator[Callable[[str, torch.Tensor], None]]:
    """Write a safetensors file tensor by tensor, atomically.

    The library's own writer wants all tensors in memory at once; a merge of two large models should
    need one tensor at a time. Format, as the safetensors documentation has it (a little-endian
    uint64 length, a JSON header padded with spaces to 8 bytes, then the tensors' bytes).

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
    names = {torch_dtype(name): code for code, name in SAFETENSORS_DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, (dtype, shape) in specs.items():
        if dtype not in names:
            raise ValueError(f"{path}: {name} is {dtype}, allowed are {', '.join(DTYPES)}")
        end = offset + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": names[dtype], "shape": shape, "data_offsets": [offset, end]}
        offset = end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    waiting = iter(specs.items())
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(encoded)) + encoded)

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
    with model_dir_writer(source_dir, output, stored, extra) as weights:
        write_safetensors(weights, kept, wanted)
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

    A new directory appears as a whole at the end. In an existing one each file is replaced
    atomically: what is carried first, then the weights, then ``extra``, whose records (what the
    weights were made from) are thus never there before the weights.

    Args:
        source_dir: The model directory whose other files are carried.
        output: The directory to write.
        dtype: The name that ``config.json`` gives for the stored type, such as ``"float32"``.
        extra: More files, name to a JSON-able value.

    Yields:
        The path of ``model.safetensors``, for the block to write.

    Raises:
        FileNotFoundError: ``source_dir`` has no configuration.
    """
    source, output = Path(source_dir), Path(output)
    config = {k: v for k, v in load_config(source).items() if k not in ("torch_dtype", "dtype")}
    with contextlib.ExitStack() as stack:
        in_place = output.is_dir() and any(output.iterdir())
        directory = output if in_place else stack.enter_context(atomic_dir(output))
        for name in CARRIED:
            if name != "config.json" and (source / name).is_file():
                _copy(source / name, directory / name)
        write_json(directory / "config.json", {**config, "dtype": dtype})
        yield directory / WEIGHTS
        _remove_shards(directory)
        for name, value in (extra or {}).items():
            write_json(directory / name, value)


def _remove_shards(directory: Path) -> None:
    """Remove the shards of an earlier model; readers prefer the single file anyway."""
    if (directory / INDEX).is_file():
        shards = set(read_json(directory / INDEX)["weight_map"].values())
        (directory / INDEX).unlink()
        for shard in shards:
            (directory / Path(shard).name).unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    with atomic_write(target) as file, open(source, "rb") as original:
        shutil.copyfileobj(original, file)
