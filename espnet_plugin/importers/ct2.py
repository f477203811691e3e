"""Whisper from a CTranslate2 directory (``model.bin`` in float32, float16, bfloat16 or int8).

CTranslate2 has no reader for its own tensors in Python, so the file is parsed here. Little endian:
uint32 version; specification name; uint32 revision; uint32 count; each variable: name, uint8 rank,
uint32 dimensions, uint8 dtype, uint32 byte count, bytes; uint32 alias count, pairs of names. A
string is a uint16 length (with the final NUL) and its bytes.
Source: ``ModelSpec._serialize`` in OpenNMT/CTranslate2 ``python/ctranslate2/specs/model_spec.py``.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.checkpoint import SINUSOIDS, read_json, sha256_file
from espnet_plugin.importers.source import Source, sinusoids, whisper_config
from espnet_plugin.tokenizer import read_generation

VERSION = 6  # of the container; older ones store their dimensions otherwise
REVISIONS = (3,)  # of WhisperSpec
DTYPES = {
    0: torch.float32,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.float16,
    5: torch.bfloat16,
}
GELU = 3  # ctranslate2.specs.common_spec.Activation


class _Reader:
    """Reads numbers and strings off a buffer, and notices its end."""

    def __init__(self, data: bytearray, where: Path) -> None:
        self.data, self.where, self.at = data, where, 0

    def take(self, size: int) -> memoryview:
        if self.at + size > len(self.data):
            raise ValueError(f"{self.where}: ends within a tensor or name at byte {self.at}")
        part = memoryview(self.data)[self.at : self.at + size]
        self.at += size
        return part

    def number(self, kind: str) -> int:
        return struct.unpack("<" + kind, self.take(struct.calcsize(kind)))[0]

    def string(self) -> str:
        return bytes(self.take(self.number("H"))).rstrip(b"\0").decode("utf-8", "replace")


def read_model_bin(path: str | Path) -> dict[str, torch.Tensor]:
    """Read the variables of a CTranslate2 Whisper ``model.bin``, aliases left out.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a Whisper model, is damaged, or is of an unknown version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    reader = _Reader(bytearray(path.read_bytes()), path)
    version = reader.number("I")
    if version != VERSION:
        raise ValueError(
            f"{path}: not a CTranslate2 model of version {VERSION} (found {version}); "
            "convert it again with a current ctranslate2"
        )
    name, revision = reader.string(), reader.number("I")
    if name != "WhisperSpec" or revision not in REVISIONS:
        raise ValueError(f"{path}: {name} revision {revision}, expected WhisperSpec {REVISIONS[0]}")
    variables = {}
    for _ in range(reader.number("I")):
        name = reader.string()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind, size = reader.number("B"), reader.number("I")
        dtype = DTYPES.get(kind)
        if dtype is None or size != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{path}: {name}: {size} bytes for shape {shape} of type {kind}")
        flat = torch.frombuffer(reader.take(size), dtype=dtype) if size else torch.empty(0)
        variables[name] = flat.clone().reshape(shape)  # the buffer's bytes may be unaligned
    for _ in range(reader.number("I")):
        reader.string(), reader.string()
    if reader.at != len(reader.data):
        raise ValueError(f"{path}: {len(reader.data) - reader.at} bytes follow the last tensor")
    return variables


def _attention(v: dict[str, torch.Tensor], ct2: str, hf: str, cross: bool) -> dict[str, Any]:
    """Unstack one attention block: self-attention q, k, v; cross-attention q and k, v."""
    if cross:
        parts = [("q", f"{ct2}/linear_0", 0, 1)]
        parts += [(x, f"{ct2}/linear_1", i, 2) for i, x in enumerate("kv")]
        out = f"{ct2}/linear_2"
    else:
        parts = [(x, f"{ct2}/linear_0", i, 3) for i, x in enumerate("qkv")]
        out = f"{ct2}/linear_1"
    state = {}
    for letter, name, index, count in parts:
        weight = v.pop(f"{name}/weight") if index == count - 1 else v[f"{name}/weight"]
        bias = v.pop(f"{name}/bias") if index == count - 1 else v[f"{name}/bias"]
        state[f"{hf}.{letter}_proj.weight"] = weight.chunk(count)[index].clone()
        if letter != "k":
            state[f"{hf}.{letter}_proj.bias"] = bias.chunk(count)[index].clone()
        elif bias.chunk(count)[index].any():
            raise ValueError(f"{name}/bias: the key bias is not zero, which Whisper does not have")
    state[f"{hf}.out_proj.weight"] = v.pop(f"{out}/weight")
    state[f"{hf}.out_proj.bias"] = v.pop(f"{out}/bias")
    return state


def _norm(v: dict[str, torch.Tensor], ct2: str, hf: str) -> dict[str, torch.Tensor]:
    return {f"{hf}.weight": v.pop(f"{ct2}/gamma"), f"{hf}.bias": v.pop(f"{ct2}/beta")}


def to_hugging_face(variables: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give CTranslate2's variables the names and shapes of Hugging Face Whisper.

    Raises:
        ValueError: A variable is missing or left over, or a key bias is not zero.
    """
    v = dict(variables)
    state: dict[str, torch.Tensor] = {}
    try:
        for side in ("encoder", "decoder"):
            state |= _norm(v, f"{side}/layer_norm", f"model.{side}.layer_norm")
            positions = v.pop(f"{side}/position_encodings/encodings", None)
            if positions is not None:
                state[f"model.{side}.embed_positions.weight"] = positions
            for i in range(_layers(variables, side)):
                ct2, hf = f"{side}/layer_{i}", f"model.{side}.layers.{i}"
                state |= _attention(v, f"{ct2}/self_attention", f"{hf}.self_attn", False)
                state |= _norm(v, f"{ct2}/self_attention/layer_norm", f"{hf}.self_attn_layer_norm")
                if side == "decoder":
                    state |= _attention(v, f"{ct2}/attention", f"{hf}.encoder_attn", True)
                    state |= _norm(
                        v, f"{ct2}/attention/layer_norm", f"{hf}.encoder_attn_layer_norm"
                    )
                state |= _norm(v, f"{ct2}/ffn/layer_norm", f"{hf}.final_layer_norm")
                for j in (0, 1):
                    for part in ("weight", "bias"):
                        state[f"{hf}.fc{j + 1}.{part}"] = v.pop(f"{ct2}/ffn/linear_{j}/{part}")
        for conv in ("conv1", "conv2"):
            for part in ("weight", "bias"):
                state[f"model.encoder.{conv}.{part}"] = v.pop(f"encoder/{conv}/{part}")
        state["model.decoder.embed_tokens.weight"] = v.pop("decoder/embeddings/weight")
    except KeyError as error:
        raise ValueError(f"tensor {error} is missing") from None
    v.pop("decoder/projection/weight", None)  # tied; stored apart only by old converters
    if left := sorted(name for name, tensor in v.items() if tensor.dim() > 0):
        raise ValueError(f"{len(left)} unknown tensors, first {left[0]}")
    return state


def _layers(variables: dict[str, torch.Tensor], side: str) -> int:
    start = f"{side}/layer_"
    names = [n for n in variables if n.startswith(start) and n[len(start)].isdigit()]
    return 1 + max((int(n[len(start) :].split("/")[0]) for n in names), default=-1)


def widen_integers(variables: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], str]:
    """Turn integer weights back into float32: each row by its scale.

    What was rounded away stays away: a weight is off by up to half a step, a 254th of the largest
    weight of its row (of 8-bit integers).

    Returns:
        The variables without scales, and the integers' type; empty where there are none.

    Raises:
        ValueError: A weight is of integers without a scale.
    """
    wide, kind = dict(variables), ""
    for name, tensor in variables.items():
        if not tensor.dim() or tensor.is_floating_point():
            continue
        scale = wide.pop(f"{name}_scale", None)
        if scale is None:
            raise ValueError(f"{name}: integers without {name}_scale")
        kind = str(tensor.dtype).removeprefix("torch.")
        rows = scale.float().reshape(-1, *[1] * (tensor.dim() - 1))
        wide[name] = tensor.float() / rows
    return wide, kind


def read_ct2(directory: str | Path) -> Source:
    """Read a CTranslate2 Whisper directory.

    Raises:
        FileNotFoundError: There is no ``model.bin``.
        ValueError: The file is damaged, or not a multilingual Whisper.
    """
    directory = Path(directory)
    path = directory / "model.bin"
    notes: dict[str, Any] = {}
    try:
        v, integers = widen_integers(read_model_bin(path))
    except ValueError as error:
        message = str(error)
        raise ValueError(message if str(path) in message else f"{path}: {message}") from None
    if integers:
        notes["weights"] = f"widened from {integers}: rounded, not those before the conversion"
    for side in ("encoder", "decoder"):
        activation = v.get(f"{side}/activation")
        if activation is not None and int(activation) != GELU:
            raise ValueError(f"{path}: {side} activation {int(activation)} is not GELU ({GELU})")
    try:
        state = to_hugging_face(v)
        heads = {side: int(v[f"{side}/num_heads"]) for side in ("encoder", "decoder")}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except KeyError as error:
        raise ValueError(f"{path}: variable {error} is missing") from None
    d_model, n_mels, _ = state["model.encoder.conv1.weight"].shape
    if SINUSOIDS not in state:
        state[SINUSOIDS] = sinusoids(1500, d_model)
        notes["encoder positions"] = "computed (the file has none)"
    config = whisper_config(
        vocab_size=state["model.decoder.embed_tokens.weight"].shape[0],
        n_mels=n_mels,
        d_model=d_model,
        encoder_layers=_layers(v, "encoder"),
        decoder_layers=_layers(v, "decoder"),
        encoder_heads=heads["encoder"],
        decoder_heads=heads["decoder"],
        encoder_ffn=state["model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn=state["model.decoder.layers.0.fc1.weight"].shape[0],
        audio_positions=state[SINUSOIDS].shape[0],
        text_positions=state["model.decoder.embed_positions.weight"].shape[0],
    )
    generation = read_generation(directory)  # exports of ours have it
    if not generation and (directory / "config.json").is_file():
        given = read_json(directory / "config.json")
        names = {"suppress_ids": "suppress_tokens", "suppress_ids_begin": "begin_suppress_tokens"}
        for name in ("alignment_heads", *names):
            if given.get(name):
                generation[names.get(name, name)] = given[name]
    return Source(
        state=state,
        config=config,
        where=str(directory),
        files={"model.bin": sha256_file(path)},
        tokenizer_dir=directory if (directory / "tokenizer.json").is_file() else None,
        generation=generation,
        notes=notes,
    )
