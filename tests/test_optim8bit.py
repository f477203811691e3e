"""Adam with a state of 8 bits: near the plain one, smaller, and the same after a resume."""

import importlib.util
import io
from typing import Any

import pytest
import torch

from espnet_plugin import optim8bit
from espnet_plugin.groups import group_of, select
from espnet_plugin.optim import build_optimizer
from espnet_plugin.optim8bit import adamw8bit
from tests.test_optim import tiny

MOVING = ("self_attn", "ffn", "cross_attn", "output")
needs_it = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


def run(optim: Any, steps: int = 6, resume_at: int = -1, **options: Any) -> tuple[Any, Any]:
    """Updates with made-up gradients of a part of a model; its weights at the start too."""
    model = tiny()
    chosen = select(MOVING, [name for name, _ in model.named_parameters()])
    conf = {"lr": 1e-3, "weight_decay": 0.1, "betas": [0.9, 0.98]} | options

    def build() -> torch.optim.Optimizer:
        return build_optimizer(model, optim, conf, {"ffn": 1e-2}, {"output": 0.0})

    optimizer = build()
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        if step == resume_at:
            file = io.BytesIO()
            torch.save(optimizer.state_dict(), file)
            file.seek(0)
            optimizer = build()
            optimizer.load_state_dict(torch.load(file, weights_only=True))
        for name, parameter in model.named_parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = gradient if name in chosen else None
        optimizer.step()
    return model, optimizer


@pytest.mark.slow  # importing bitsandbytes takes seconds
@needs_it
def test_it_is_near_adamw_and_moves_what_has_gradients() -> None:
    mine, optimizer = run(adamw8bit, min_8bit_size=64)
    plain, _ = run(torch.optim.AdamW)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["ffn"] == 1e-2 and rates["output"] == 1e-3
    for (name, one), other, start in zip(
        mine.named_parameters(), plain.parameters(), tiny().parameters(), strict=True
    ):
        group = group_of(name)
        if group in MOVING:
            moved = (other - start).abs().mean()
            assert moved > 0 and (one - other).abs().mean() < 0.1 * moved, name
        else:
            assert torch.equal(one, start), name


@pytest.mark.slow  # importing bitsandbytes takes seconds
@needs_it
def test_moments_take_a_byte_but_the_embeddings() -> None:
    model, optimizer = run(adamw8bit, steps=1, min_8bit_size=64)
    bits = {
        n: optimizer.state[p]["state1"].dtype
        for n, p in model.named_parameters()
        if p.grad is not None
    }
    assert bits.pop("decoder.embed_tokens.weight") == torch.float32
    assert bits["decoder.layers.0.fc1.weight"] == torch.uint8
    assert bits["decoder.layers.0.fc1.bias"] == torch.float32  # small


@pytest.mark.slow  # importing bitsandbytes takes seconds
@needs_it
def test_a_resumed_run_ends_with_the_same_weights() -> None:
    whole, _ = run(adamw8bit, min_8bit_size=64)
    resumed, _ = run(adamw8bit, resume_at=3, min_8bit_size=64)
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_is_an_optimiser_of_espnets() -> None:
    from espnet2.tasks import abs_task

    import espnet_plugin

    espnet_plugin.register()
    assert abs_task.optim_classes["adamw8bit"] is adamw8bit
    with pytest.raises(ValueError, match=r"adamw8bit has no option 'fused'.*weight_decay"):
        build_optimizer(tiny(), adamw8bit, {"fused": True})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    optim8bit.load_class.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package bitsandbytes: pip install"):
        build_optimizer(tiny(), adamw8bit, {"lr": 1e-3})
    optim8bit.load_class.cache_clear()
