"""Whole runs with what small GPUs need: adapters, Adam with 8 bits, checkpointing."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin.checkpoint import load_state
from espnet_plugin.groups import group_of
from espnet_plugin.task import AsyncSwitchTask
from espnet_plugin.trainer import AsyncSwitchTrainer
from tests.test_task import command, data  # noqa: F401  (fixtures)

Command = Callable[..., list[str]]


def interrupted_and_whole(make: Command, monkeypatch: Any, stage: str, **options: Any) -> None:
    """Train `whole`, and `parts` in two goes."""
    AsyncSwitchTask.main(cmd=make(stage, "whole", 3, **options))
    trained = AsyncSwitchTrainer.train_one_epoch.__func__

    def interrupted(cls: Any, *args: Any, **kwargs: Any) -> bool:
        if kwargs["reporter"].get_epoch() == 3:
            raise KeyboardInterrupt
        return bool(trained(cls, *args, **kwargs))

    with monkeypatch.context() as patch:
        patch.setattr(AsyncSwitchTrainer, "train_one_epoch", classmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            AsyncSwitchTask.main(cmd=make(stage, "parts", 3, **options))
    AsyncSwitchTask.main(cmd=make(stage, "parts", 3, **options))


@pytest.mark.slow
def test_adapters_are_merged_and_resumed(
    command: Command,  # noqa: F811
    tiny_whisper: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import espnet_plugin

    options = {"lora": "cross_attn=4, encoder=2", "checkpointing": "all", "keep": "last"}
    interrupted_and_whole(command, monkeypatch, "adapt_full", **options)
    assert "cross_attn: 8 adapters of rank 4" in capsys.readouterr().out
    start, whole, parts = (
        load_state(p) for p in (tiny_whisper, *map(tmp_path.joinpath, ("whole", "parts")))
    )
    assert set(whole) == set(start)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    changed = {name for name in start if not torch.equal(whole[name], start[name])}
    assert {group_of(name) for name in changed} == {"cross_attn", "encoder"}
    assert all(name.endswith(("proj.weight", "fc1.weight", "fc2.weight")) for name in changed)
    proof = json.loads((tmp_path / "whole" / "freeze_proof.json").read_text())
    assert proof["identical"] and proof["changed"] == len(changed)
    assert proof["frozen"] == len(start) - len(changed)
    record = json.loads((tmp_path / "whole" / "training.json").read_text())
    assert record["lora"]["cross_attn"] == {"r": 4, "alpha": 8.0, "dropout": 0.0}
    merged = espnet_plugin.Speech2Text(model_dir=tmp_path / "whole").asr_model
    apart = espnet_plugin.Speech2Text(
        asr_train_config=tmp_path / "whole" / "config.yaml",
        asr_model_file=tmp_path / "whole" / "latest.pth",
    ).asr_model
    assert not hasattr(merged.whisper.encoder.layers[0].fc1, "lora_A")
    assert hasattr(apart.whisper.encoder.layers[0].fc1, "lora_A")
    speech, lengths = 0.1 * torch.randn(1, 8000), torch.tensor([8000])
    with torch.no_grad():
        outputs = [each.encode(speech, lengths)[0] for each in (merged, apart)]
    assert (outputs[0] - outputs[1]).abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
def test_eight_bits_are_resumed(
    command: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupted_and_whole(command, monkeypatch, "adapt_full", optim="adamw8bit")
    states = [load_state(tmp_path / name) for name in ("whole", "parts")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lora": "ffn=4"}, "stage adapt_align does not train ffn"),
        ({"lora": "cross_attn=0"}, "rank of cross_attn is a whole number above 0"),
        ({"lora": "cross_attn=4", "keep": "average"}, "average of adapters is not that of"),
        ({"keep": "average"}, "needs --keep_nbest_models of 2 or more epochs, got 1"),
        ({"checkpointing": "som"}, "checkpointing is none, encoder, decoder, all"),
    ],
)
def test_mistakes_are_named(command: Command, options: Any, says: str) -> None:  # noqa: F811
    with pytest.raises(ValueError, match=says):
        AsyncSwitchTask.main(cmd=command("adapt_align", "out", **options))
