"""Writing a model directory, complete and atomically."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint.files import atomic_dir, atomic_write, read_json, write_json
from espnet_plugin.checkpoint.tensors import (
    EMBEDDING,
    INDEX,
    OUTPUT,
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
DTYPES = ("float32", "float16", "bfloat16")


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


def write_safetensors(
    path: str | Path,
    specs: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensors: Iterable[tuple[str, torch.Tensor]],
) -> None:
    """Write a safetensors file tensor by tensor, atomically.

    The library's own writer wants all tensors in memory at once; a merge of two large models should
    need one tensor at a time. Format: https://huggingface.co/docs/safetensors (a little-endian
    uint64 length, a JSON header padded with spaces to 8 bytes, then the tensors' bytes).

    Args:
        path: The file to make or replace.
        specs: Stored dtype and shape of each tensor by name; the file keeps this order.
        tensors: ``(name, tensor)`` pairs in the same order, each converted to its stored dtype.

    Raises:
        ValueError: The pairs differ from ``specs`` in name, order or shape.
    """
    import torch

    names = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
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
        for name, tensor in tensors:
            due = next(waiting, None)
            if due is None or due[0] != name or due[1][1] != tuple(tensor.shape):
                raise ValueError(f"{path}: got {name} {tuple(tensor.shape)}, due is {due}")
            file.write(tensor_bytes(tensor.to(due[1][0])))
        if left := next(waiting, None):
            raise ValueError(f"{path}: tensor {left[0]} was never written")


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
    specs = {n: (wanted or t.dtype, tuple(t.shape)) for n, t in kept.items()}

    def write_weights(path: Path) -> None:
        write_safetensors(path, specs, kept.items())

    stored = str(specs[EMBEDDING][0]).removeprefix("torch.")
    return write_model_dir(source_dir, output, stored, write_weights, extra)


def _check_tied(state: Mapping[str, torch.Tensor], where: str | Path) -> None:
    import torch

    if OUTPUT in state and not torch.equal(state[OUTPUT], state[EMBEDDING]):
        raise ValueError(f"{where}: {OUTPUT} differs from {EMBEDDING}; Whisper ties them")


def write_model_dir(
    source_dir: str | Path,
    output: str | Path,
    dtype: str,
    write_weights: Callable[[Path], None],
    extra: Mapping[str, Any] | None = None,
    carried: Iterable[str] = CARRIED,
) -> Path:
    """Write a model directory whose weights a function writes, for ``save_model_dir`` and merging.

    Args:
        source_dir: The model directory whose other files are carried.
        output: The directory to write.
        dtype: The name that ``config.json`` gives for the stored type, such as ``"float32"``.
        write_weights: Called once with the path of ``model.safetensors``.
        extra: More files, name to a JSON-able value.
        carried: The names to carry, where they exist.

    Returns:
        ``output``.
    """
    source, output = Path(source_dir), Path(output)
    config = {k: v for k, v in load_config(source).items() if k not in ("torch_dtype", "dtype")}
    config["dtype"] = dtype

    def fill(directory: Path) -> None:
        for name in carried:
            if name != "config.json" and (source / name).is_file():
                _copy(source / name, directory / name)
        write_json(directory / "config.json", config)
        for name, value in (extra or {}).items():
            write_json(directory / name, value)
        write_weights(directory / WEIGHTS)
        # Shards of an earlier model would be dead weight; a reader prefers the single file anyway.
        if (directory / INDEX).is_file():
            shards = set(read_json(directory / INDEX)["weight_map"].values())
            (directory / INDEX).unlink()
            for shard in shards:
                (directory / Path(shard).name).unlink(missing_ok=True)

    if output.is_dir() and any(output.iterdir()):
        fill(output)
    else:
        with atomic_dir(output) as temporary:
            fill(temporary)
    return output


def _copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    with atomic_write(target) as file, open(source, "rb") as original:
        shutil.copyfileobj(original, file)
