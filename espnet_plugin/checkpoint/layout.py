"""Where each tensor of a model directory lies: the headers of its safetensors files, nothing more.

A file is a little-endian uint64 (the header's length), a JSON header, and the tensors' bytes end to
end; the header has dtype, shape and first and last byte of each. Knowing the places, one can read a
model in pieces of any size with plain reads: safetensors' own functions give whole tensors, and
map whole files. No torch, no numpy.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint.files import read_json
from espnet_plugin.checkpoint.places import Place, same_bytes

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.decoder.embed_tokens.weight"
OUTPUT = "proj_out.weight"  # tied to EMBEDDING; never stored twice

# The types that models are stored in, by their names in safetensors files.
SAFETENSORS_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit


def read_layout(path: str | Path) -> dict[str, Place]:
    """Read the header of a safetensors file.

    Returns:
        Places by name, in the order in which they lie in the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no safetensors file, or not a complete one.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(file.read(length))
        if not isinstance(header, dict):
            raise ValueError("the header is no JSON object")
        header.pop("__metadata__", None)
        places = [(name, _place(path, name, entry, 8 + length)) for name, entry in header.items()]
        places.sort(key=lambda item: (item[1].start, item[1].nbytes))
        end = 8 + length
        for name, place in places:
            if place.start != end:
                raise ValueError(f"{name} begins at byte {place.start}, expected {end}")
            end += place.nbytes
        if end != size:
            raise ValueError(f"{size} bytes, the header says {end}")
    except ValueError as error:  # JSON and UTF-8 errors alike
        raise ValueError(f"{path}: not a complete safetensors file ({error})") from None
    return dict(places)


def _place(path: Path, name: str, entry: Any, origin: int) -> Place:
    try:
        code, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        numbers = (*shape, start, end)
        valid = all(type(n) is int and n >= 0 for n in numbers) and isinstance(code, str)
    except (TypeError, KeyError, ValueError):
        valid = False
    if not valid:
        raise ValueError(f"{name}: no dtype, shape and offsets")
    dtype = SAFETENSORS_DTYPES.get(code, code)
    if dtype in ITEM_BYTES and end - start != math.prod(shape) * ITEM_BYTES[dtype]:
        raise ValueError(f"{name}: {end - start} bytes do not make {shape} of {dtype}")
    return Place(path, dtype, shape, origin + start, end - start)


def model_layout(model_dir: str | Path) -> dict[str, Place]:
    """Read the headers of a model directory, in one file or in shards.

    Returns:
        Places by name, file after file. The output projection is left out where it is stored as
        well as the embedding, which it equals.

    Raises:
        FileNotFoundError: The directory, its weights or a shard is missing.
        ValueError: A file is damaged, index and shards disagree, or the output projection is not
            tied.
    """
    directory = Path(model_dir)
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such model directory")
    if (directory / WEIGHTS).is_file():
        places = read_layout(directory / WEIGHTS)
    elif (directory / INDEX).is_file():
        places = _sharded_layout(directory)
    else:
        raise FileNotFoundError(f"{directory}: neither {WEIGHTS} nor {INDEX}")
    if OUTPUT in places and EMBEDDING in places:
        if not same_bytes(places[OUTPUT], places[EMBEDDING]):
            raise ValueError(f"{directory}: {OUTPUT} differs from {EMBEDDING} (untied)")
        del places[OUTPUT]
    return places


def _sharded_layout(directory: Path) -> dict[str, Place]:
    index = read_json(directory / INDEX)
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(found, dict) or not all(isinstance(s, str) for s in found.values()):
        raise ValueError(f"{directory / INDEX}: no weight_map of tensor names to files")
    places: dict[str, Place] = {}
    for shard in sorted(set(found.values())):
        path = directory / shard
        if Path(shard).name != shard or not path.is_file():
            raise FileNotFoundError(f"{directory / INDEX}: shard {shard!r} is missing")
        for name, place in read_layout(path).items():
            if name in places:
                raise ValueError(f"{path}: tensor {name} is also in {places[name].path}")
            places[name] = place
    if wrong := sorted(set(found) ^ set(places)):
        raise ValueError(f"{directory / INDEX}: index and shards differ in {wrong[0]}")
    return places


def encode_header(
    specs: Mapping[str, tuple[str, tuple[int, ...]]],
) -> tuple[bytes, dict[str, int], int]:
    """Lay out a safetensors file.

    Args:
        specs: Dtype (`float32`, ...) and shape of each tensor by name; the file keeps this order.

    Returns:
        The bytes before the tensors, the first byte of each tensor in the file, the file's size.
    """
    codes = {name: code for code, name in SAFETENSORS_DTYPES.items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    starts, offset = {}, 0
    for name, (dtype, shape) in specs.items():
        end = offset + math.prod(shape) * ITEM_BYTES[dtype]
        header[name] = {"dtype": codes[dtype], "shape": shape, "data_offsets": [offset, end]}
        starts[name], offset = offset, end
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    head = struct.pack("<Q", len(encoded)) + encoded
    return head, {name: len(head) + at for name, at in starts.items()}, len(head) + offset


def split_shards(sizes: Mapping[str, int], max_bytes: int | None) -> dict[str, list[str]]:
    """Distribute tensors over files, in their order, each file of at most so many bytes.

    A tensor that is larger gets a file of its own.

    Args:
        sizes: Bytes of each tensor.
        max_bytes: None is one file.

    Returns:
        Names of tensors by name of file, as Hugging Face names them.
    """
    shards: list[list[str]] = [[]]
    held = 0
    for name, size in sizes.items():
        if max_bytes is not None and shards[-1] and held + size > max_bytes:
            shards.append([])
            held = 0
        shards[-1].append(name)
        held += size
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    stem, count = WEIGHTS.removesuffix(".safetensors"), len(shards)
    return {f"{stem}-{i:05d}-of-{count:05d}.safetensors": s for i, s in enumerate(shards, 1)}
