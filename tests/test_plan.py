"""Plans of memory: against what autograd saves, exact sizes, fitting, errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.groups import GROUPS, group_of, select
from espnet_plugin.planning import (
    Setup,
    Shape,
    budget,
    largest_batch,
    parse_machine,
    plan,
    plan_stage,
    read_shape,
)
from espnet_plugin.planning.activations import Batch, Counter
from espnet_plugin.planning.budget import dealt
from espnet_plugin.planning.fit import Fit, batches, options, worst
from espnet_plugin.planning.shapes import NAMES, parameters
from espnet_plugin.stages import STAGES

THREE = ("adapt_text", "adapt_align", "adapt_full")
# Nothing in it is a multiple of something else by accident; the ratio is Whisper's.
SMALL = Shape("small", 32, 3, 2, 2, 2, 128, 128, 503, 80)
BATCH = Batch(size=3, tokens=20, positions=101)


def moving_of(stage: str, shape: Shape = SMALL) -> frozenset[str]:
    return frozenset(select(STAGES[stage].trains, parameters(shape)))


def module_of(shape: Shape, moving: frozenset[str]) -> Any:
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperModel

    torch.manual_seed(0)
    ids = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "decoder_start")}
    model = WhisperModel(WhisperConfig(**shape.settings(), **ids, dropout=0.0)).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in moving)
    return model


def adapted(shape: Shape, groups: tuple[str, ...]) -> tuple[Shape, frozenset[str], Any]:
    """A shape with adapters of rank 3, what moves, and the module."""
    from espnet_plugin import lora

    module = module_of(shape, frozenset())
    lora.inject(module, lora.parse(dict.fromkeys(groups, 3)))
    chosen = select(groups, [name for name, _ in module.named_parameters()])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in chosen)
    shape = replace(shape, lora=tuple((group, 3) for group in groups))
    return shape, frozenset(select(groups, parameters(shape))), module


def saved_bytes(model: Any, batch: Batch, moving: frozenset[str], half: bool, paired: bool) -> int:
    """Run a forward pass and add up the storages that autograd saves, the weights left out."""
    import torch

    from espnet_plugin import whisper as passes

    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage  # kept alive, so that no address is used twice
        return tensor

    frames = 2 * batch.positions
    features = torch.randn(batch.size, SMALL.mels, frames)
    lengths = torch.tensor([frames, frames - 6, frames - 9])
    tokens = torch.randint(0, SMALL.vocab, (batch.size, batch.tokens))
    memory: Any = "zero"
    held = None
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=half),
    ):
        if paired:
            with torch.set_grad_enabled(any(name.startswith("encoder.") for name in moving)):
                memory, held = passes.encode(model, features, lengths)
        passes.decode(model, tokens, memory, held)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("stage", THREE)
def test_activations_are_what_autograd_saves(stage: str, half: bool) -> None:
    moving, paired = moving_of(stage), STAGES[stage].data == "paired"
    batch = BATCH if paired else Batch(3, 20)
    parts = Counter(SMALL, parameters(SMALL), moving, batch, half, "cpu").segments()
    planned = sum(part.kept + part.copies for part in parts)
    measured = saved_bytes(module_of(SMALL, moving), batch, moving, half, paired)
    # Left out: positions of the embedding's rows where it is frozen, and the like.
    assert planned == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize(
    "selectors",
    [("encoder.1-2", "cross_attn.1"), ("ffn.1",), ("encoder.2",), ("cross_attn", "position")],
)
def test_activations_follow_what_moves(selectors: tuple[str, ...]) -> None:
    moving = frozenset(select(selectors, parameters(SMALL)))
    for half in (False, True):
        parts = Counter(SMALL, parameters(SMALL), moving, BATCH, half, "cpu").segments()
        planned = sum(part.kept + part.copies for part in parts)
        measured = saved_bytes(module_of(SMALL, moving), BATCH, moving, half, True)
        assert planned == pytest.approx(measured, rel=0.001)


@pytest.mark.parametrize("half", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    "groups", [("cross_attn",), ("encoder", "self_attn", "ffn", "cross_attn"), ("ffn",)]
)
def test_adapters_are_counted(groups: tuple[str, ...], half: bool) -> None:
    shape, moving, module = adapted(SMALL, groups)
    parts = Counter(shape, parameters(shape), moving, BATCH, half, "cpu").segments()
    planned = sum(part.kept + part.copies for part in parts)
    assert planned == pytest.approx(saved_bytes(module, BATCH, moving, half, True), rel=0.001)
    sizes = {True: 0, False: 0}
    for parameter in module.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    assert sizes[True] == sum(parameters(shape)[name] for name in moving)
    assert sum(sizes.values()) == sum(parameters(shape).values())


@pytest.mark.parametrize("stage", THREE)
def test_weights_gradients_and_optimiser_are_exact(stage: str) -> None:
    import torch

    from espnet_plugin.optim import build_optimizer

    moving, paired = moving_of(stage), STAGES[stage].data == "paired"
    model = module_of(SMALL, moving)
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-3})
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    state = [t for s in optimizer.state.values() for k, t in s.items() if k != "step"]
    batch = BATCH if paired else Batch(3, 20)
    planned = budget(SMALL, moving, batch, parse_machine("1x8"), Setup())
    assert planned.parameters == sum(p.nbytes for p in model.parameters())
    assert planned.all_gradients == sum(p.nbytes for p in model.parameters() if p.grad is not None)
    assert planned.optimiser == sum(t.nbytes for t in state)


def test_the_chunks_of_the_loss_are_those_of_the_loss() -> None:
    import torch

    from espnet_plugin.loss import chunk_rows
    from espnet_plugin.planning.workspace import chunk

    for vocab in (503, 51866, 200_000):
        assert chunk("cpu", 8e9, vocab) == chunk_rows(torch.device("cpu"), vocab)
    assert chunk("cuda", 80e9, 51866) == 3840


def test_released_sizes_have_their_parameters() -> None:
    # openai-whisper's model card, in millions
    known = {"tiny": 39, "base": 74, "small": 244, "medium": 769, "large-v3": 1550, "turbo": 809}
    for name, millions in known.items():
        total = sum(parameters(read_shape(name)).values()) / 1e6
        assert total == pytest.approx(millions, rel=0.035), name
    assert set(known) < set(NAMES)
    assert read_shape("openai/whisper-large-v3-turbo") == read_shape("turbo")


def test_a_model_directory_is_read(tiny_whisper_v3: Path) -> None:
    shape = read_shape(str(tiny_whisper_v3))
    assert (shape.width, shape.encoder_layers, shape.vocab, shape.mels) == (16, 2, 51866, 128)


def test_activations_grow_with_the_batch_alone() -> None:
    machine, moving = parse_machine("1x80"), moving_of("adapt_full")
    one = budget(SMALL, moving, Batch(1, 20, 100), machine, Setup())
    ten = budget(SMALL, moving, Batch(10, 20, 100), machine, Setup())
    assert ten.all_activations == 10 * one.all_activations
    assert ten.all_copies == one.all_copies and ten.optimiser == one.optimiser


def test_each_saving_saves_and_the_order_is_right() -> None:
    shape, machine = read_shape("base"), parse_machine("8x16")
    moving, batch = moving_of("adapt_full", shape), Batch(16, 100, 1500)

    def peak(**setup: Any) -> int:
        return budget(shape, moving, batch, machine, Setup(**setup)).peak

    assert peak() < peak(half=False)
    assert peak(checkpointing=True) < 0.5 * peak()
    assert peak(sharding="fsdp") < peak(sharding="zero1") < peak()
    assert peak(bucket_view=False) - peak() == 4 * sum(
        size for name, size in parameters(shape).items() if name in moving
    )


def test_zero1_deals_tensors_as_the_sharded_optimiser() -> None:
    import torch

    from espnet_plugin.sharding import ShardedOptimizer

    moving = moving_of("adapt_full")
    model = module_of(SMALL, moving)
    sizes = parameters(SMALL)
    for world in (1, 3, 8):
        fake = object.__new__(ShardedOptimizer)
        members = {
            group: [n for n in sizes if group_of(n) == group and n in moving] for group in GROUPS
        }
        named = dict(model.named_parameters())
        groups = [{"name": g, "params": [named[n] for n in names]} for g, names in members.items()]
        fake.__dict__ |= {
            "_partition_parameters_cache": [],
            "world_size": world,
            "param_groups": groups,
            "_moving": set(GROUPS),
        }
        theirs = [
            sum(p.numel() for group in part for p in group["params"])
            for part in fake._partition_parameters()
        ]
        ours = [sum(sizes[name] for name in part) for part in dealt(sizes, moving, world)]
        assert ours == theirs and sum(ours) == sum(sizes[name] for name in moving)
        # no process has more than its share, but where one tensor is more than that
        share = max(sum(ours) / world, max(sizes[name] for name in moving))
        assert max(ours) <= 1.1 * share
    assert isinstance(fake, torch.optim.Optimizer)


@pytest.mark.parametrize("unit", ["positions", "samples", "utterances"])
def test_the_largest_batch_fits_and_a_larger_one_does_not(unit: str) -> None:
    shape, machine = read_shape("tiny"), parse_machine("1x8")
    moving = moving_of("adapt_text" if unit == "positions" else "adapt_full", shape)
    fit = largest_batch(shape, moving, machine, Setup(), unit)
    assert 0 < fit.budget.peak <= machine.usable
    step = {"positions": 1000, "samples": 10 * 16000, "utterances": 1}[unit]
    assert worst(shape, moving, machine, Setup(), unit, fit.bins + step).peak > machine.usable


def test_numel_batches_may_hold_one_utterance_more() -> None:
    fit = Fit("samples", 100 * 16000, None)  # type: ignore[arg-type]
    found = options(fit, world=1, target=70 * 16000)
    assert found is not None
    assert found.lines == {"batch_type": "numel", "batch_bins": 70 * 16000, "accum_grad": 1}
    crowded = options(fit, world=1, target=140 * 16000)
    assert crowded is not None and crowded.lines["accum_grad"] == 2
    assert options(Fit("samples", 31 * 16000, None), 1).lines["batch_bins"] <= 16000  # type: ignore
    spread = options(fit, world=8, target=80 * 16000)
    assert spread is not None and spread.lines["batch_bins"] == 80 * 16000  # of all eight
    text = options(Fit("positions", 9000, None), 8, 64_000)  # type: ignore[arg-type]
    assert text is not None and text.lines == {"batch_bins": 64_000, "accum_grad": 1}  # of all
    assert options(Fit("samples", 0, None), 1) is None  # type: ignore[arg-type]


def test_a_gpu_may_get_one_line_of_text_more() -> None:
    fit = Fit("positions", 2500, None)  # type: ignore[arg-type]
    for target in (9_000, 10_000, 40_000, 1_000_000):
        for world in (1, 4):
            found = options(fit, world, target)
            assert found is not None and isinstance(found.lines["batch_bins"], int)
            more = 448 if world > 1 else 0
            assert found.lines["batch_bins"] / world + more <= 2500
            assert found.update >= target


def test_batches_are_planned_for_short_and_long_utterances() -> None:
    found = batches(read_shape("tiny"), "samples", 60 * 16000)
    assert [(b.size, b.positions) for b in found] == [(60, 50), (20, 150), (6, 500), (2, 1500)]
    assert [b.tokens for b in found] == [13, 29, 85, 245]


@pytest.mark.parametrize(
    ("text", "world", "gigabytes", "half"),
    [
        ("1x80", 1, 80, True),
        ("4x24", 4, 24, True),
        ("2x8x80", 16, 80, True),
        ("2x4x32:v100", 8, 32, False),
        ("1x16:Tesla-T4", 1, 16, False),
        ("8x80:H100", 8, 80, True),
        ("cpu:24", 1, 24, False),
        ("cpu:24:amx", 1, 24, True),
        ("1X39.5", 1, 39.5, True),
    ],
)
def test_machines_are_read(text: str, world: int, gigabytes: float, half: bool) -> None:
    machine = parse_machine(text)
    assert (machine.world, machine.gigabytes, machine.half) == (world, gigabytes, half)


def test_a_gpu_without_bfloat16_is_planned_in_float32() -> None:
    old, new = (plan("small", "2", gpus) for gpus in ("1x16:T4", "1x16"))
    assert "auto is float32 there: these GPUs have no bfloat16" in old and "bf16" not in old
    assert "autocast: none" in old and "autocast: bfloat16" in new
    assert "auto is bfloat16 there (before Ampere float32: name the GPU" in new
    asked = plan("small", "2", "1x16:T4", autocast="bfloat16")
    assert "bf16" in asked, "who asks for it gets it"


@pytest.mark.parametrize(
    ("options_", "error", "says"),
    [
        ({"gpus": "80"}, ValueError, r"'80' is not of the form 8x80"),
        ({"gpus": "1x16:A1000"}, ValueError, r"GPU \(did you mean A100\?\); known are B200"),
        ({"gpus": "0x80"}, ValueError, "at least one device"),
        ({"gpus": "1x0.5"}, ValueError, "do not hold an idle process"),
        ({"stage": "4"}, ValueError, "no stage '4'.*1, 2, 3, all"),
        ({"stage": "adapt_ful"}, ValueError, "did you mean adapt_full"),
        ({"model": "larg-v3"}, FileNotFoundError, "did you mean large-v3"),
        ({"pad": "30"}, ValueError, "--pad: '30' is not one of batch, 30s"),
        ({"autocast": "fp16"}, ValueError, "auto, bfloat16, none"),
        ({"target": -1}, ValueError, "--target must be above 0, got -1"),
        ({"trains": ["fnn"]}, ValueError, "unknown parameter group 'fnn'"),
        ({"stage": "2", "trains": ["ffn"]}, ValueError, "adapt_align does not train ffn"),
    ],
)
def test_mistakes_are_named(options_: dict[str, Any], error: type, says: str) -> None:
    with pytest.raises(error, match=says):
        plan(**{"model": "tiny", "stage": "3", "gpus": "1x8"} | options_)


def test_a_configuration_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "whisper", "d_model": "wide"}')
    with pytest.raises(ValueError, match=r"config.json: d_model is wide"):
        read_shape(str(tmp_path))


def test_what_is_not_offered_is_said_and_never_suggested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from espnet_plugin.planning import support

    monkeypatch.setattr(support, "option_of", lambda feature: None)
    shape, machine = read_shape("large-v3"), parse_machine("4x24")
    found = plan_stage(shape, machine, STAGES["adapt_full"], autocast="bfloat16")
    fitting = [row for row in found.rows if row.fit.bins]
    assert fitting and all(row.missing for row in fitting)
    assert found.chosen is None and found.options is None
    part = plan_stage(shape, machine, STAGES["adapt_full"], trains=["cross_attn", "encoder.28-31"])
    assert part.chosen is not None and not part.chosen.missing


def test_the_table_and_the_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    from espnet_plugin.bin.plan import main

    command = ["--model", "tiny", "--stage", "2", "--gpus", "1x8", "--batch-bins", "16000"]
    assert main(command) == 0
    text = capsys.readouterr().out
    assert main([*command, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)["stages"]["adapt_align"]
    assert f"batch_bins: {data['suggested']['batch_bins']}" in text
    assert f"{data['ways'][0]['largest_batch'] / 16000:,.0f} s of audio" in text
    assert "16,000, as asked (bf16)" in text and ", fits" in text
    assert data["asked"]["peak_bytes"] < data["ways"][0]["peak_bytes"]
