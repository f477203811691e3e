"""What is computed for what moves: products of the backward pass, counted."""

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.test_checkpointing import batch, build

WIDTH, INNER, LAYERS = 16, 32, 2
ROWS = 3 * 11  # decoder positions
POSITIONS = 3 * 50  # encoder positions


def linear(rows: int, into: int, out: int) -> int:
    """Operations of one of a linear layer's products: forward, of its input, of its weight."""
    return 2 * rows * into * out


def test_stage_2_computes_gradients_of_cross_attention_alone(
    tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Attention by products that the counter knows on a CPU, in place of the fused kernel.
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    model = build(tiny_whisper, ("cross_attn",), autocast="none")
    with FlopCounterMode(display=False) as forward:
        loss = model(**batch(True))[0]
    assert loss.grad_fn is not None
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    counts = backward.get_flop_counts()["Global"]
    square = linear(ROWS, WIDTH, WIDTH)
    of_memory = linear(POSITIONS, WIDTH, WIDTH)
    feed_forward = 2 * linear(ROWS, WIDTH, INNER)  # of the inputs of fc1 and fc2
    # q and out: weight and input (the norm moves); k and v: weights alone, the encoder is frozen.
    cross = 2 * 2 * square + 2 * of_memory
    own = 4 * square  # of the inputs of q, k, v and out
    # Below the first layer's cross-attention nothing moves: no gradient goes there.
    wanted = LAYERS * (feed_forward + cross) + (LAYERS - 1) * own
    products = {str(name): number for name, number in counts.items()}
    assert products["aten.mm"] == wanted
    assert set(products) == {"aten.mm", "aten.bmm"}  # bmm: attention, which has no weights
    ratio = forward.get_total_flops() / backward.get_total_flops()
    assert ratio > 1.5


def attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float = 1.0,
) -> torch.Tensor:
    scores = query @ keys.transpose(-1, -2) * scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    return scores.softmax(-1) @ values


def test_the_frozen_encoder_runs_without_autograd(tiny_whisper: Path) -> None:
    model = build(tiny_whisper, ("cross_attn",), autocast="none")
    seen: list[bool] = []
    layer = model.whisper.encoder.layers[0].fc1
    layer.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    entry = batch(True)
    memory, _ = model.encode(entry["speech"], entry["speech_lengths"])
    assert seen == [False] and memory.grad_fn is None
