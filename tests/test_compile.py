"""`compile: true`: the same losses and gradients, and few compilations."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin import compiling, loss_kernels
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.model import AsyncSwitchModel
from espnet_plugin.optim import build_optimizer
from espnet_plugin.stages import STAGES

TEXTS = ["saya nak pergi", "meeting", "besok petang lunch dengan kawan saya", "dia makan nasi"]
SIZES = (2, 3, 4, 2)  # utterances in each batch; lengths differ too


@pytest.fixture
def fresh() -> Iterator[None]:
    compiling.compile_layer.cache_clear()
    torch._dynamo.reset()
    yield
    compiling.compile_layer.cache_clear()
    torch._dynamo.reset()


def batches(model: AsyncSwitchModel, paired: bool) -> Iterator[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    for number, size in enumerate(SIZES):
        rows = [
            torch.from_numpy(model.prompt.encode(TEXTS[(number + i) % 4], "cs"))
            for i in range(size)
        ]
        entry = {
            "text": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1),
            "text_lengths": torch.tensor([len(r) for r in rows]),
        }
        if paired:
            entry["speech"] = 0.1 * torch.randn(size, 4000 + 800 * number, generator=generator)
            entry["speech_lengths"] = 4000 + 800 * number - 320 * torch.arange(size)
        yield entry


def run(directory: Path, stage: str, compile: bool) -> list[tuple[float, dict[str, Any]]]:
    """Losses and gradients of a stage's batches, and the loss in validation."""
    model = AsyncSwitchModel(directory, autocast="none", compile=compile).train()
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-3})
    FreezeSchedule(optimizer, trainable=list(STAGES[stage].trains)).begin_epoch(1)
    results = []
    for entry in batches(model, STAGES[stage].data == "paired"):
        model.zero_grad()
        loss = model(**entry)[0]
        loss.backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append((loss.item(), grads))
    model.eval()
    with torch.no_grad():
        results.append((model(**entry)[0].item(), {}))
    return results


def compare(directory: Path, stage: str) -> None:
    for (plain, grads), (compiled, others) in zip(
        run(directory, stage, False), run(directory, stage, True), strict=True
    ):
        assert compiled == pytest.approx(plain, abs=1e-5)
        assert set(grads) == set(others)
        for name, grad in grads.items():
            assert (others[name] - grad).abs().max() < 1e-5, name


@pytest.fixture
def counter(monkeypatch: pytest.MonkeyPatch, fresh: None) -> Any:
    """Counts what is compiled, and compiles it quickly."""
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")
    monkeypatch.setattr(compiling, "BACKEND", counter)
    return counter


@pytest.mark.slow
def test_shapes_share_few_compilations(tiny_whisper: Path, counter: Any) -> None:
    compare(tiny_whisper, "adapt_text")
    # for training and for validation; not for each of two layers, five batches and four shapes
    assert 1 <= counter.frame_count <= 3
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.slow
def test_paired_batches_compile_encoder_and_decoder(tiny_whisper: Path, counter: Any) -> None:
    compare(tiny_whisper, "adapt_full")
    assert 2 <= counter.frame_count <= 6


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["adapt_text", "adapt_align", "adapt_full"])
def test_inductor_gives_the_same_loss_and_gradients(
    tiny_whisper: Path, fresh: None, stage: str
) -> None:
    if shutil.which("g++") is None:
        pytest.skip("inductor needs g++ on a CPU")
    compare(tiny_whisper, stage)


def test_a_missing_compiler_is_named(
    tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match=r"needs a C\+\+ compiler on a CPU, and none of .*g\+\+"):
        run(tiny_whisper, "adapt_text", True)


def test_a_missing_triton_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package triton"):
        compiling.check_compiler(torch.device("cuda", 0))


@pytest.mark.parametrize("lacking", ["a C compiler", "Python.h"])
def test_what_triton_compiles_with_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lacking: str
) -> None:
    """Triton is there, and its first kernel would fail in the middle of a run."""
    header = tmp_path / "Python.h"
    if lacking == "a C compiler":
        header.touch()
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(compiling.importlib.util, "find_spec", lambda name: name)
    has = {"gcc": None if lacking == "a C compiler" else "/usr/bin/gcc"}
    monkeypatch.setattr(shutil, "which", has.get)
    monkeypatch.setattr(compiling.sysconfig, "get_path", lambda *_: str(tmp_path))
    gpu = torch.device("cuda", 0)
    with pytest.raises(ValueError, match=f"compile: true needs .*{lacking}"):
        compiling.check_compiler(gpu)
    kernel, reason = loss_kernels.choose("auto", gpu, True)
    assert kernel == "chunked" and lacking in reason
    with pytest.raises(ValueError, match=f"loss_kernel liger needs .*{lacking}"):
        loss_kernels.choose("liger", gpu, True)
    header.touch()
    has["gcc"] = "/usr/bin/gcc"
    compiling.check_compiler(gpu)
    assert loss_kernels.choose("auto", gpu, True)[0] == "liger"


def test_parameters_keep_their_names(tiny_whisper: Path) -> None:
    plain, compiled = (AsyncSwitchModel(tiny_whisper, compile=c) for c in (False, True))
    assert list(plain.state_dict()) == list(compiled.state_dict())


@pytest.mark.slow
def test_a_gradual_schedule_with_adapters_stays_compiled(tiny_whisper: Path, counter: Any) -> None:
    """Each set of what moves in a layer is a form of its own, more than torch allows by itself."""
    joining = ["cross_attn", "ffn.1", "self_attn.0", "ffn.0", "self_attn.1", "encoder"]
    joins = [{"at": number, "groups": [name]} for number, name in enumerate(joining)]
    lora = "cross_attn=2 ffn=2 self_attn=full encoder=2"
    models, schedules = [], []
    for compile in (False, True):
        torch.manual_seed(0)
        model = AsyncSwitchModel(tiny_whisper, autocast="none", compile=compile, lora=lora).train()
        optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-3})
        schedules.append(FreezeSchedule(optimizer, kind="gradual", joins=joins))
        models.append(model)
    counts = []
    for epoch in range(1, len(joins) + 1):
        for entry in islice(batches(models[0], True), 1, 3):
            losses = []
            for model, schedule in zip(models, schedules, strict=True):
                schedule.begin_epoch(epoch)
                model.zero_grad()
                losses.append(model.train()(**dict(entry))[0])
                losses[-1].backward()
                with torch.no_grad():
                    model.eval()(**dict(entry))
            assert losses[1].item() == pytest.approx(losses[0].item(), abs=1e-5)
            plain, compiled = ({n: p.grad for n, p in m.named_parameters()} for m in models)
            for name, grad in plain.items():
                assert (grad is None) == (compiled[name] is None), name
                assert grad is None or (compiled[name] - grad).abs().max() < 1e-5, name
        counts.append(counter.frame_count)
    assert counts == sorted(set(counts)), f"a phase was not compiled: {counts}"
    assert counts[-1] > 8
