"""The optimiser's groups, and its fused form against the plain one."""

from typing import Any

import pytest
import torch

from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.groups import group_of
from espnet_plugin.optim import build_optimizer


def tiny() -> Any:
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperModel

    torch.manual_seed(0)
    sizes: dict[str, Any] = {"d_model": 8, "vocab_size": 99, "pad_token_id": 0}
    for part in ("encoder", "decoder"):
        sizes |= {f"{part}_attention_heads": 2, f"{part}_ffn_dim": 16, f"{part}_layers": 2}
    return WhisperModel(WhisperConfig(**sizes))


def train(device: str, **options: Any) -> tuple[Any, torch.optim.Optimizer]:
    """Five steps with made-up gradients; the encoder and position are frozen."""
    model = tiny().to(device)
    conf = {"lr": 1e-2, "weight_decay": 0.1, "betas": [0.9, 0.98]} | options
    optimizer = build_optimizer(
        model, torch.optim.AdamW, conf, {"ffn": 1e-3}, {"output": 0.0, "cross_attn": 0.5}
    )
    schedule = FreezeSchedule(
        optimizer,
        trainable=["self_attn", "ffn", "cross_attn", "output"],
        inner="warmuplinear",
        inner_conf={"warmup_steps": 2, "total_steps": 9},
    )
    schedule.begin_epoch(1)
    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.randn(parameter.shape, generator=generator).to(device)
        if step == 3:  # as after a resume
            state = optimizer.state_dict()
            optimizer.load_state_dict(state)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model, optimizer


def compare(device: str) -> None:
    fused, optimizer = train(device)
    plain, _ = train(device, foreach=False)
    start = tiny().to(device)
    assert all(group["fused"] for group in optimizer.param_groups)
    for (name, mine), theirs, before in zip(
        fused.named_parameters(), plain.parameters(), start.parameters(), strict=True
    ):
        assert (mine - theirs).abs().max() < 1e-6, name
        moves = group_of(name) in ("self_attn", "ffn", "cross_attn", "output")
        assert torch.equal(mine, before) != moves, name


def test_fused_equals_plain_on_the_cpu() -> None:
    compare("cpu")


@pytest.mark.gpu
def test_fused_equals_plain_on_a_gpu() -> None:
    compare("cuda")


def test_groups_have_their_rates() -> None:
    model = tiny()
    optimizer = build_optimizer(
        model, torch.optim.AdamW, {"lr": 1.0, "weight_decay": 0.3}, {"ffn": 0.5}, {"output": 0}
    )
    found = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert found["ffn"] == (0.5, 0.3) and found["output"] == (1.0, 0.0)
    assert found["encoder"] == (1.0, 0.3)


@pytest.mark.parametrize(
    ("options", "fused"), [({}, True), ({"fused": False}, False), ({"foreach": True}, None)]
)
def test_what_is_said_about_fusing_holds(options: dict[str, Any], fused: bool | None) -> None:
    optimizer = build_optimizer(tiny(), torch.optim.AdamW, options)
    assert {g["fused"] for g in optimizer.param_groups} == {fused}


def test_optimisers_without_a_fused_form_work() -> None:
    assert build_optimizer(tiny(), torch.optim.RMSprop, {"lr": 0.1}).param_groups


def test_an_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"AdamW has no option 'fusd' \(did you mean fused\?\)"):
        build_optimizer(tiny(), torch.optim.AdamW, {"fusd": True})
