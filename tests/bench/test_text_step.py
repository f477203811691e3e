"""How long a step of text-only training takes on this machine, against what it replaces.

make bench        # or: python -m pytest tests/bench -m bench -s
"""

import time
from typing import Any

import pytest

BATCH, TOKENS, FRAMES = 16, 24, 1500


def step(whisper: Any, tokens: Any, memory: Any) -> float:
    """Return the seconds of a forward and backward pass, the best of three."""
    import torch

    from espnet_plugin.loss import cross_entropy
    from espnet_plugin.whisper import decode

    best = float("inf")
    for _ in range(3):
        whisper.zero_grad()
        start = time.perf_counter()
        hidden = decode(whisper, tokens[:, :-1], memory).flatten(0, 1)
        weight = whisper.decoder.embed_tokens.weight
        loss, _ = cross_entropy(hidden, weight, tokens[:, 1:].flatten())
        loss.backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.bench
def test_zero_memory_is_cheaper_than_1500_frames_of_zeros() -> None:
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperModel

    from espnet_plugin.groups import group_of
    from espnet_plugin.stages import STAGES

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 512, "encoder_layers": 1, "decoder_layers": 6}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_attention_heads": 8, f"{part}_ffn_dim": 2048}
    whisper = WhisperModel(WhisperConfig(**sizes))  # Whisper base, but for the encoder's depth
    for name, parameter in whisper.named_parameters():
        parameter.requires_grad_(group_of(name) in STAGES["adapt_text"].trains)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    whisper.to(device)
    tokens = torch.randint(0, 50257, (BATCH, TOKENS + 1), device=device)
    zeros = torch.zeros(BATCH, FRAMES, 512, device=device)
    short, long = step(whisper, tokens, "zero"), step(whisper, tokens, zeros)
    speed = BATCH * TOKENS / short
    threads = torch.get_num_threads()
    print(f"\nWhisper base on {device}, {threads} threads, {BATCH} x {TOKENS} tokens")
    print(f"stage-1 step: {short:.2f} s ({speed:.0f} tokens/s); with 1 500 zeros {long:.2f} s")
    assert short < long
