"""Adapters by group: what moves, names, merging, mistakes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin import groups, lora
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.model import AsyncSwitchModel
from espnet_plugin.optim import build_optimizer
from espnet_plugin.stages import STAGES
from tests.test_checkpointing import batch, step

ADAPTERS = "cross_attn=4, ffn=2"
WIDTH, INNER, LAYERS = 16, 32, 2


def trained(directory: Path, adapters: Any, **options: Any) -> tuple[AsyncSwitchModel, Any]:
    """Two updates of stage 3 with adapters."""
    torch.manual_seed(0)
    model = AsyncSwitchModel(directory, lora=adapters, autocast="none", **options).train()
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1})
    schedule = FreezeSchedule(optimizer, trainable=list(lora.parse(adapters)))
    schedule.begin_epoch(1)
    for _ in range(2):
        model(**batch(True))[0].backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return model.eval(), schedule


def loss_of(model: AsyncSwitchModel) -> float:
    with torch.no_grad():
        return float(model(**batch(True))[0])


def test_adapters_alone_move_and_merge_into_plain_weights(tiny_whisper: Path) -> None:
    model, schedule = trained(tiny_whisper, ADAPTERS)
    plain = AsyncSwitchModel(tiny_whisper, autocast="none").eval()
    start, state = plain.state_dict(), model.state_dict()
    assert [name for name in state if ".lora_" not in name] == list(start)
    for name, tensor in start.items():
        assert torch.equal(state[name], tensor), name
    merged = lora.merged(state, str(tiny_whisper), lora.parse(ADAPTERS))
    assert set(merged) == set(start)
    changed = {name for name in start if not torch.equal(merged[name], start[name])}
    assert changed == lora.adapted(state)
    assert {groups.group_of(name) for name in changed} == {"cross_attn", "ffn"}
    assert len(changed) == LAYERS * (4 + 2)
    before = loss_of(plain)
    plain.load_state_dict(merged)
    assert abs(loss_of(model) - before) > 1e-3
    assert loss_of(plain) == pytest.approx(loss_of(model), abs=1e-5)
    audit = schedule.audit()
    each = 4 * (2 * 4 * WIDTH)
    assert f"cross_attn: {4 * LAYERS} adapters of rank 4, {each * LAYERS:,} in all" in audit
    moving = LAYERS * (each + 2 * 2 * (WIDTH + INNER))
    assert f"{moving:,}" in audit.splitlines()[-3]


def test_the_partition_holds_adapters(tiny_whisper: Path) -> None:
    model = AsyncSwitchModel(tiny_whisper, lora={"encoder": {"r": 3, "alpha": 3}, "ffn": 2})
    parts = groups.partition(model)
    names = [name for name, _ in model.named_parameters()]
    assert sorted(name for part in parts.values() for name in part) == sorted(names)
    chosen = groups.select(["encoder", "ffn.1", "output"], names)
    assert all(".lora_" in name for name in chosen if groups.group_of(name) != "output")
    assert {groups.layer_of(n) for n in chosen if groups.group_of(n) == "ffn"} == {1}
    assert sum(".lora_A." in name for name in parts["encoder"]) == 6 * LAYERS
    encoder, decoder = model.whisper.encoder.layers[0], model.whisper.decoder.layers[0]
    assert (encoder.fc1.scaling, decoder.fc1.scaling) == ({"default": 1.0}, {"default": 2.0})


def test_a_group_can_be_trained_whole_beside(tiny_whisper: Path) -> None:
    adapters = {"cross_attn": {"r": 2, "alpha": 8, "dropout": 0.1}, "output": "full"}
    model, _ = trained(tiny_whisper, adapters)
    state, start = model.state_dict(), AsyncSwitchModel(tiny_whisper).state_dict()
    changed = {name for name in start if not torch.equal(state[name], start[name])}
    assert {groups.group_of(name) for name in changed} == {"output"}
    module = model.whisper.decoder.layers[0].encoder_attn.q_proj
    assert module.scaling["default"] == 4 and module.lora_dropout["default"].p == 0.1


def test_a_state_is_restored_with_its_adapters(tiny_whisper: Path) -> None:
    model, _ = trained(tiny_whisper, ADAPTERS)
    other = AsyncSwitchModel(tiny_whisper, lora=ADAPTERS, autocast="none").eval()
    assert loss_of(other) != loss_of(model)
    other.load_state_dict(model.state_dict(), strict=True)
    assert loss_of(other) == loss_of(model)
    with pytest.raises(RuntimeError, match=r"Missing key.*lora_A"):
        other.load_state_dict(AsyncSwitchModel(tiny_whisper).state_dict(), strict=True)


@pytest.mark.parametrize("autocast", ["none", "bfloat16"])
def test_checkpointing_goes_with_adapters(tiny_whisper: Path, autocast: str) -> None:
    def run(checkpointing: str) -> tuple[float, dict[str, torch.Tensor], int]:
        options: dict[str, Any] = {"checkpointing": checkpointing, "autocast": autocast}
        torch.manual_seed(0)
        model = AsyncSwitchModel(tiny_whisper, lora="encoder=2 ffn=2", **options).train()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".lora_" in name)
        return step(model, batch(True))

    plain, again = run("none"), run("all")
    assert plain[0] == again[0] and again[2] < 0.5 * plain[2]
    for name, grad in plain[1].items():
        assert torch.equal(grad, again[1][name]), name


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("position=4", "position has no linear layers.*position=full"),
        ("output=4", "output has no linear layers"),
        ("ffn=0", "rank of ffn is a whole number above 0, got 0"),
        ("ffn=-2", "got -2"),
        ("ffn", "rank of ffn is a whole number above 0, got ;"),
        ("fnn=4", r"unknown parameter group 'fnn' \(did you mean ffn\?\)"),
        ("ffn=4,ffn=8", "named twice"),
        ("output=full", "no group has a rank"),
        ({"ffn": {"rank": 4}}, "ffn has no option 'rank'"),
        ({"ffn": {"r": 4, "alpha": 0}}, "alpha > 0"),
        ({"ffn": {"alpha": 4}}, "got nothing"),
        ({"ffn": {"r": 4, "alpha": "x"}}, "alpha and dropout of ffn are numbers"),
        ("{ffn: 4", "'{ffn: 4' is no mapping"),
    ],
)
def test_mistakes_are_named(value: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        lora.parse(value)


def test_a_group_that_the_stage_does_not_train_is_refused() -> None:
    stage = STAGES["adapt_align"]
    with pytest.raises(ValueError, match="stage adapt_align does not train ffn; it trains cross"):
        lora.check_stage(lora.parse("ffn=4"), stage.name, stage.trains)


def test_nothing_said_is_nothing_done() -> None:
    assert lora.parse(None) == lora.parse("") == lora.parse({}) == {}


def test_a_command_line_may_give_the_mapping_and_the_record_says_what_was_meant() -> None:
    found = lora.parse("{ffn: {r: 4, alpha: 16}, cross_attn: 8, output: full}")
    assert found == lora.parse({"ffn": {"r": 4, "alpha": 16}, "cross_attn": 8, "output": "full"})
    recorded = lora.describe_options(found)
    assert recorded["cross_attn"] == {"r": 8, "alpha": 16.0, "dropout": 0.0}, "2 r, as is trained"
    again = lora.parse(recorded)
    for group in ("ffn", "cross_attn"):
        one, other = found[group], again[group]
        assert one is not None and other is not None and one.scale == other.scale
    assert again["output"] is None
