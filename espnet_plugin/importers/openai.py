"""Whisper from a checkpoint of openai-whisper (``.pt``), released or fine-tuned."""

from __future__ import annotations

import base64
import gzip
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.checkpoint import sha256_file
from espnet_plugin.importers.source import Source, rename_all, whisper_config

DIMS = {
    *("n_mels", "n_audio_ctx", "n_audio_state", "n_audio_head", "n_audio_layer"),
    *("n_vocab", "n_text_ctx", "n_text_state", "n_text_head", "n_text_layer"),
}

# openai-whisper -> Hugging Face, in this order. No rule creates what a later one would match.
RULES = (
    (r"^(encoder|decoder)\.positional_embedding$", r"\1.embed_positions.weight"),
    (r"^decoder\.token_embedding\.", "decoder.embed_tokens."),
    (r"^encoder\.ln_post\.", "encoder.layer_norm."),
    (r"^decoder\.ln\.", "decoder.layer_norm."),
    (r"\.blocks\.", ".layers."),
    (r"\.mlp\.0\.", ".fc1."),
    (r"\.mlp\.2\.", ".fc2."),
    (r"\.mlp_ln\.", ".final_layer_norm."),
    (r"\.cross_attn_ln\.", ".encoder_attn_layer_norm."),
    (r"\.attn_ln\.", ".self_attn_layer_norm."),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.attn\.", ".self_attn."),
    (r"\.query\.", ".q_proj."),
    (r"\.key\.", ".k_proj."),
    (r"\.value\.", ".v_proj."),
    (r"_attn\.out\.", "_attn.out_proj."),
)


def to_hugging_face_name(name: str) -> str:
    """Return the Hugging Face name of an openai-whisper tensor."""
    for pattern, new in RULES:
        name = re.sub(pattern, new, name)
    return "model." + name


def load_pt(path: str | Path) -> Any:
    """Load a ``.pt`` file without running code from it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "damaged"
        raise ValueError(f"{path}: not a checkpoint of plain tensors ({reason})") from None


def read_openai(path: str | Path) -> Source:
    """Read an openai-whisper checkpoint: ``{"dims": ..., "model_state_dict": ...}``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not such a checkpoint, or English-only.
    """
    path = Path(path)
    data = load_pt(path)
    if not isinstance(data, dict) or not {"dims", "model_state_dict"} <= set(data):
        found = ", ".join(sorted(map(str, data))[:5]) if isinstance(data, dict) else type(data)
        raise ValueError(f"{path}: expected 'dims' and 'model_state_dict', found {found}")
    dims = data["dims"]
    if wrong := sorted(DIMS ^ set(dims)):
        raise ValueError(f"{path}: dims differ from openai-whisper's in {', '.join(wrong)}")
    try:
        config = whisper_config(
            vocab_size=dims["n_vocab"],
            n_mels=dims["n_mels"],
            d_model=dims["n_audio_state"],
            encoder_layers=dims["n_audio_layer"],
            decoder_layers=dims["n_text_layer"],
            encoder_heads=dims["n_audio_head"],
            decoder_heads=dims["n_text_head"],
            encoder_ffn=4 * dims["n_audio_state"],
            decoder_ffn=4 * dims["n_text_state"],
            audio_positions=dims["n_audio_ctx"],
            text_positions=dims["n_text_ctx"],
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    state = rename_all(data["model_state_dict"], to_hugging_face_name, path)
    heads = alignment_heads(path.stem, dims["n_text_layer"], dims["n_text_head"])
    given = data.get("generation_config")  # exports of ours have it
    if isinstance(given, dict):
        return Source(state, config, str(path), {path.name: sha256_file(path)}, generation=given)
    return Source(
        state=state,
        config=config,
        where=str(path),
        files={path.name: sha256_file(path)},
        generation={"alignment_heads": heads} if heads else {},
        notes={} if heads else {"alignment_heads": "unknown: the file does not have them"},
    )


def alignment_heads(name: str, n_layers: int, n_heads: int) -> list[list[int]] | None:
    """Return the heads that openai-whisper uses for word times in a released model.

    Args:
        name: A released model's name, such as ``"base"``; files are called so.
        n_layers: Decoder layers.
        n_heads: Heads per layer.

    Returns:
        ``[layer, head]`` pairs, or None where openai-whisper is absent or does not know it.
    """
    try:
        from whisper import _ALIGNMENT_HEADS  # type: ignore[attr-defined]
    except ImportError:
        return None
    if name not in _ALIGNMENT_HEADS:
        return None
    # As in openai-whisper's Whisper.set_alignment_heads: a compressed boolean mask.
    mask = gzip.decompress(base64.b85decode(_ALIGNMENT_HEADS[name]))
    if len(mask) != n_layers * n_heads:
        return None  # a file that only bears the name
    return [list(divmod(i, n_heads)) for i, used in enumerate(mask) if used]
