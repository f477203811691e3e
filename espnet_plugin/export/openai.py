"""Checkpoints of openai-whisper (``.pt``), which also whisper.cpp and WhisperKit convert from.

openai-whisper has no writer of its own: a checkpoint is ``{"dims", "model_state_dict"}``, and the
names are those of its ``model.py``. It reads no other key; ours is the generation settings (heads
for word times, suppressed tokens), which `import_model` takes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import load_config, load_state, torch_dtype
from espnet_plugin.export.checks import check_plain
from espnet_plugin.export.formats import FORMATS
from espnet_plugin.importers.openai import to_hugging_face_name
from espnet_plugin.tokenizer import n_languages, read_generation

# Hugging Face -> openai-whisper, in this order: the rules of the import, backwards.
RENAMES = (
    (".embed_positions.weight", ".positional_embedding"),
    ("decoder.embed_tokens.", "decoder.token_embedding."),
    ("encoder.layer_norm.", "encoder.ln_post."),
    ("decoder.layer_norm.", "decoder.ln."),
    (".layers.", ".blocks."),
    (".fc1.", ".mlp.0."),
    (".fc2.", ".mlp.2."),
    (".final_layer_norm.", ".mlp_ln."),
    (".encoder_attn_layer_norm.", ".cross_attn_ln."),
    (".self_attn_layer_norm.", ".attn_ln."),
    (".encoder_attn.", ".cross_attn."),
    (".self_attn.", ".attn."),
    (".q_proj.", ".query."),
    (".k_proj.", ".key."),
    (".v_proj.", ".value."),
    (".out_proj.", ".out."),
)


def from_hugging_face_name(name: str) -> str:
    """Return the openai-whisper name of a Hugging Face tensor.

    Raises:
        ValueError: It has none.
    """
    new = name.removeprefix("model.")
    for old, replacement in RENAMES:
        new = new.replace(old, replacement)
    if to_hugging_face_name(new) != name:
        raise ValueError(f"openai-whisper has no tensor like {name}")
    return new


def dimensions(config: Mapping[str, Any]) -> dict[str, int]:
    """Return openai-whisper's ``dims`` for a Hugging Face configuration.

    Raises:
        ValueError: openai-whisper cannot express it: its vocabularies are fixed, and its
            feed-forward layers are four times as wide as the model.
    """
    check_plain(config, "openai-whisper")
    n_languages(config["vocab_size"])
    for side in ("encoder", "decoder"):
        wide = config[f"{side}_ffn_dim"]
        if wide != 4 * config["d_model"]:
            raise ValueError(
                f"openai-whisper cannot express {side}_ffn_dim {wide} of config.json; it has "
                f"{4 * config['d_model']}, four times d_model"
            )
    return {
        "n_mels": config["num_mel_bins"],
        "n_audio_ctx": config["max_source_positions"],
        "n_audio_state": config["d_model"],
        "n_audio_head": config["encoder_attention_heads"],
        "n_audio_layer": config["encoder_layers"],
        "n_vocab": config["vocab_size"],
        "n_text_ctx": config["max_target_positions"],
        "n_text_state": config["d_model"],
        "n_text_head": config["decoder_attention_heads"],
        "n_text_layer": config["decoder_layers"],
    }


def write(model_dir: Path, output: Path, dtype: str | None) -> None:
    """Write a checkpoint that ``whisper.load_model`` takes.

    Args:
        model_dir: The model.
        output: An existing empty directory.
        dtype: Stored type; None keeps each tensor's own.

    Raises:
        ValueError: openai-whisper cannot express the model.
    """
    import torch

    wanted = None if dtype is None else torch_dtype(dtype)
    dims = dimensions(load_config(model_dir))
    state = {
        from_hugging_face_name(name): tensor.to(wanted or tensor.dtype)
        for name, tensor in load_state(model_dir).items()
    }
    file = FORMATS["openai"].file
    assert file is not None
    torch.save(
        {
            "dims": dims,
            "model_state_dict": state,
            "generation_config": read_generation(model_dir),
        },
        output / file,
    )
