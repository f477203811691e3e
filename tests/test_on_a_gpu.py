"""Whole runs on a GPU, for whoever has one: `pytest -m gpu`. They end where a CPU's do."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin.checkpoint import load_state
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.recognizer import Recognizer
from espnet_plugin.stages import STAGES
from espnet_plugin.task import AsyncSwitchTask
from espnet_plugin.trainer import AsyncSwitchTrainer, read_curve
from tests.test_task import command, data  # noqa: F401  (fixtures)

pytestmark = pytest.mark.gpu
Command = Callable[..., list[str]]


def losses(folder: Path) -> list[float]:
    return [row["valid_loss"] for row in read_curve(folder / "curve.csv")]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pad": "30s", "checkpointing": "all"},
        {"compile": "true"},
        {"optim": "adamw8bit"},
        {"lora": "cross_attn=4", "num_workers": 2},
    ],
    ids=lambda options: " ".join(options) or "plain",
)
@pytest.mark.parametrize("stage", ["adapt_text", "adapt_align", "adapt_full"])
def test_a_stage_ends_where_it_does_on_a_cpu(
    command: Command,  # noqa: F811
    tmp_path: Path,
    stage: str,
    options: dict[str, Any],
) -> None:
    if "lora" in options and STAGES[stage].data == "text":
        pytest.skip("this stage has no cross-attention")
    if "pad" in options and STAGES[stage].data == "text":
        options = {"checkpointing": "all"}
    plain = {name: value for name, value in options.items() if name != "compile"}
    AsyncSwitchTask.main(cmd=command(stage, "cpu", **plain))
    AsyncSwitchTask.main(cmd=command(stage, "gpu", ngpu=1, **options))
    cpu, gpu = losses(tmp_path / "cpu"), losses(tmp_path / "gpu")
    assert gpu == pytest.approx(cpu, rel=2e-3) and gpu[-1] < gpu[0]
    assert json.loads((tmp_path / "gpu" / "freeze_proof.json").read_text())["identical"]


def test_bfloat16_learns_as_float32_does(command: Command, tmp_path: Path) -> None:  # noqa: F811
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bfloat16")
    for autocast in ("none", "bfloat16"):
        made = command("adapt_full", autocast, 4, ngpu=1, autocast=autocast, valid_wer_utts=2)
        AsyncSwitchTask.main(cmd=made)
    assert losses(tmp_path / "bfloat16") == pytest.approx(losses(tmp_path / "none"), rel=2e-2)


def test_a_stopped_run_goes_on(
    command: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    AsyncSwitchTask.main(cmd=command("adapt_align", "whole", 3, ngpu=1))
    between = AsyncSwitchTrainer._between.__func__  # type: ignore[attr-defined]
    calls = []

    def stopping(cls: Any, *args: Any) -> None:
        calls.append(args)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        between(cls, *args)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncSwitchTrainer, "_between", classmethod(stopping))
        with pytest.raises(SystemExit):
            AsyncSwitchTask.main(cmd=command("adapt_align", "parts", 3, ngpu=1))
    AsyncSwitchTask.main(cmd=command("adapt_align", "parts", 3, ngpu=1))
    whole, parts = load_state(tmp_path / "whole"), load_state(tmp_path / "parts")
    assert all((whole[n] - parts[n]).abs().max() < 1e-4 for n in whole)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("shard", ["false", "true"])
def test_two_gpus_are_as_one(command: Command, tmp_path: Path, shard: str) -> None:  # noqa: F811
    AsyncSwitchTask.main(cmd=command("adapt_full", "one", ngpu=1))
    AsyncSwitchTask.main(cmd=command("adapt_full", "two", ngpu=2, shard_optimizer=shard))
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-3)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("pad", ["batch", "30s"])
def test_decoding_writes_what_it_does_on_a_cpu(
    tiny_whisper: Path, beam_size: int, pad: str
) -> None:
    options = Options(beam_size=beam_size, pad=pad, max_tokens_per_second=20)
    generator = torch.Generator().manual_seed(0)
    waves = [0.1 * torch.randn(n, generator=generator) for n in (8000, 16000, 5000)]
    cpu, gpu = (
        Recognizer(tiny_whisper, options, device)(waves, ["cs", "ms", "en"])
        for device in ("cpu", "cuda")
    )
    assert [hyp.ids for hyp in gpu] == [hyp.ids for hyp in cpu]
    for mine, theirs in zip(gpu, cpu, strict=True):
        assert mine.score == pytest.approx(theirs.score, rel=1e-3)
