"""What every importer returns, and the parts of it that several formats share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


@dataclass
class Source:
    """A Whisper model read from some file format.

    Attributes:
        state: Tensors by Hugging Face name, as stored.
        config: The content of ``config.json``.
        where: What error messages name.
        files: SHA-256 of each file that was read, by name.
        tokenizer_dir: A directory with the model's tokenizer; None where it brings none.
        generation: Generation settings that the source knows.
        road: How it was reached, in words, where there are several ways.
        notes: More facts for ``import.json``.
    """

    state: dict[str, torch.Tensor]
    config: dict[str, Any]
    where: str
    files: dict[str, str]
    tokenizer_dir: Path | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    road: str = ""
    notes: dict[str, Any] = field(default_factory=dict)


def whisper_config(
    *,
    vocab_size: int,
    n_mels: int,
    d_model: int,
    encoder_layers: int,
    decoder_layers: int,
    encoder_heads: int,
    decoder_heads: int,
    encoder_ffn: int,
    decoder_ffn: int,
    audio_positions: int,
    text_positions: int,
) -> dict[str, Any]:
    """Return a Hugging Face ``config.json`` from a model's dimensions.

    Raises:
        ValueError: The vocabulary is not that of a multilingual Whisper.
    """
    from transformers import WhisperConfig

    from espnet_plugin.tokenizer import N_BYTE_PAIR, n_languages

    n_languages(vocab_size)
    end, start = N_BYTE_PAIR, N_BYTE_PAIR + 1
    config = WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        vocab_size=vocab_size,
        num_mel_bins=n_mels,
        d_model=d_model,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        encoder_attention_heads=encoder_heads,
        decoder_attention_heads=decoder_heads,
        encoder_ffn_dim=encoder_ffn,
        decoder_ffn_dim=decoder_ffn,
        max_source_positions=audio_positions,
        max_target_positions=text_positions,
        bos_token_id=end,
        eos_token_id=end,
        pad_token_id=end,
        decoder_start_token_id=start,
        begin_suppress_tokens=None,  # in generation_config.json; the default is an English model's
    ).to_dict()
    noise = ("id2label", "label2id", "problem_type", "return_dict", "transformers_version")
    return {key: value for key, value in config.items() if key not in noise}


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Return the encoder's fixed positions as Whisper defines them.

    Args:
        length: Number of positions, one per 20 ms.
        channels: The model's width, even.

    Returns:
        ``(length, channels)`` float32.

    Source: ``sinusoids`` in openai/whisper ``model.py`` (transformers has a copy).
    """
    from transformers.models.whisper.modeling_whisper import sinusoids as whisper_sinusoids

    return whisper_sinusoids(length, channels)


def rename_all(
    state: dict[str, torch.Tensor], rename: Callable[[str], str], where: str | Path
) -> dict[str, torch.Tensor]:
    """Rename the tensors of a state.

    Raises:
        ValueError: Two names become one.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        new = rename(name)
        if new in renamed:
            raise ValueError(f"{where}: two tensors would be called {new}, the second is {name}")
        renamed[new] = tensor
    return renamed
