"""Gradient checkpointing and shared casts: the same results from fewer bytes."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin import checkpointing, compiling
from espnet_plugin import whisper as passes
from espnet_plugin.groups import select
from espnet_plugin.model import AsyncSwitchModel
from espnet_plugin.stages import STAGES

THREE = ("adapt_text", "adapt_align", "adapt_full")


def batch(paired: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    entry = {
        "text": torch.randint(300, 50_000, (3, 12), generator=generator),
        "text_lengths": torch.tensor([12, 9, 5]),
    }
    if paired:
        entry["speech"] = 0.1 * torch.randn(3, 16_000, generator=generator)
        entry["speech_lengths"] = torch.tensor([16_000, 7_001, 12_345])
    return entry


def build(directory: Path, moving: tuple[str, ...], dropout: float = 0.0, **options: Any) -> Any:
    model = AsyncSwitchModel(directory, **options).train()
    names = dict(model.named_parameters())
    chosen = select(moving, names)
    for name, parameter in names.items():
        parameter.requires_grad_(name in chosen)
    for layer in (*model.whisper.encoder.layers, *model.whisper.decoder.layers):
        layer.dropout = layer.activation_dropout = layer.self_attn.dropout = dropout
    return model


def step(
    model: Any, entry: dict[str, torch.Tensor], around: AbstractContextManager[Any] | None = None
) -> tuple[float, dict[str, torch.Tensor], int]:
    """Return loss, gradients, and the bytes that autograd saves beside the weights."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved: dict[int, Any] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    torch.manual_seed(3)
    with around or nullcontext(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        loss = model(**entry)[0]
    held = sum(storage.nbytes() for storage in saved.values())
    loss.backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return loss.item(), grads, held


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, grad in one.items():
        assert torch.equal(grad, other[name]), name


@pytest.mark.parametrize("autocast", ["none", "bfloat16"])
@pytest.mark.parametrize("stage", THREE)
def test_losses_and_gradients_are_those_without_it(
    tiny_whisper: Path, stage: str, autocast: str
) -> None:
    moving, entry = STAGES[stage].trains, batch(STAGES[stage].data == "paired")
    options: dict[str, Any] = {"autocast": autocast, "dropout": 0.1}
    plain = step(build(tiny_whisper, moving, **options), entry)
    again = step(build(tiny_whisper, moving, checkpointing=True, **options), entry)
    assert plain[0] == again[0]
    same(plain[1], again[1])
    assert again[2] < 0.5 * plain[2]


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_part_alone_saves_its_own(tiny_whisper: Path, part: str) -> None:
    entry = batch(True)
    held = {
        name: step(build(tiny_whisper, STAGES["adapt_full"].trains, checkpointing=name), entry)[2]
        for name in ("none", part, "all")
    }
    assert held["all"] < held[part] < held["none"]


def counted(run: Callable[..., torch.Tensor], calls: list[Any]) -> Callable[..., torch.Tensor]:
    def count(layer: Any, *inputs: Any) -> torch.Tensor:
        calls.append(layer)
        return run(layer, *inputs)

    return count


def test_frozen_layers_are_not_run_again(
    tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    for name in ("encoder_layer", "decoder_layer"):
        monkeypatch.setattr(passes, name, counted(getattr(passes, name), calls))
    step(build(tiny_whisper, ("cross_attn",), checkpointing=True), batch(True))
    assert len(calls) == 2 + 2 * 2  # the encoder once, the decoder twice
    calls.clear()
    model = build(tiny_whisper, ("encoder.1", "cross_attn"), checkpointing=True)
    step(model, batch(True))
    assert [calls.count(layer) for layer in model.whisper.encoder.layers] == [1, 2]
    calls.clear()
    with torch.no_grad():
        model.eval()(**batch(True))
    assert len(calls) == 4


@pytest.mark.slow
@pytest.mark.parametrize("stage", THREE)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_layers_run_again_too(
    tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch, stage: str, backend: str
) -> None:
    monkeypatch.setattr(compiling, "BACKEND", backend)
    compiling.compile_layer.cache_clear()
    torch._dynamo.reset()
    moving, entry = STAGES[stage].trains, batch(STAGES[stage].data == "paired")
    plain = step(build(tiny_whisper, moving, autocast="none"), entry)
    options: dict[str, Any] = {"compile": True, "checkpointing": "all", "autocast": "none"}
    again = step(build(tiny_whisper, moving, **options), entry)
    assert again[0] == pytest.approx(plain[0], abs=1e-5)
    for name, grad in plain[1].items():
        assert (again[1][name] - grad).abs().max() < 1e-5, name
    assert again[2] < 0.5 * plain[2]
    compiling.compile_layer.cache_clear()
    torch._dynamo.reset()


def test_a_wrong_name_lists_the_right_ones(tiny_whisper: Path) -> None:
    assert checkpointing.parse("True") == {"encoder", "decoder"} and not checkpointing.parse(False)
    with pytest.raises(ValueError, match="none, encoder, decoder, all, true or false, got 'some'"):
        build(tiny_whisper, ("ffn",), checkpointing="some")


@pytest.mark.parametrize("stage", THREE)
def test_one_cast_serves_all_its_products(
    tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    entry = batch(STAGES[stage].data == "paired")
    model = build(tiny_whisper, STAGES[stage].trains, autocast="bfloat16")
    shared = step(model, entry)
    model.zero_grad()
    monkeypatch.setattr(passes, "shared", lambda x, uses: (x,) * uses)
    apart = step(model, entry)
    assert shared[0] == apart[0]
    same(shared[1], apart[1])
    layers, width, rows, frames = 2, 16, 3 * 11, 3 * 50
    saving = 0
    if stage != "adapt_align":  # q, k and v of the decoder, 2 bytes; one cast in place of three
        saving += 2 * 2 * width * rows * layers
    if stage == "adapt_full":
        saving += 2 * 2 * width * frames * layers
    if stage != "adapt_text":  # the memory's casts; one for all layers in place of two for each
        saving += 2 * width * frames * (2 * layers - 1)
    assert apart[2] - shared[2] == saving
