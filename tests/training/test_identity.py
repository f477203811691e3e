"""A checkpoint of another run is refused; what may change is said and applies."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.optim import build_optimizer
from espnet_plugin.training import identity, resuming


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            layer = torch.nn.ModuleDict({"fc1": torch.nn.Linear(3, 3)})
            decoder = torch.nn.ModuleDict({"layers": torch.nn.ModuleList([layer])})
            encoder = torch.nn.ModuleDict({"conv1": torch.nn.Conv1d(2, 2, 1)})
        self.whisper = torch.nn.ModuleDict({"encoder": encoder, "decoder": decoder})


def noted(model: torch.nn.Module | None = None, **changes: Any) -> dict[str, Any]:
    options = dict.fromkeys(identity.OPTIONS) | {"seed": 0, "train_data": "dump/train"}
    options |= {"adaptation_stage": "adapt_full", "optim": "adamw", "lora": None}
    options |= {"init_dir": "exp/init"} | changes
    return identity.describe(SimpleNamespace(**options), model or Model())


def test_a_checkpoint_of_another_run_is_refused() -> None:
    path, before = Path("exp/a/checkpoint.pth"), noted()
    identity.check(before, noted(init_dir="/elsewhere/init", seed=1), path)
    identity.check({}, noted(), path)  # written before this was noted
    other = Model()
    with torch.no_grad():
        next(other.parameters())[0] += 1
    changes: list[tuple[torch.nn.Module | None, dict[str, Any], str]] = [
        (None, {"adaptation_stage": "adapt_text"}, "--adaptation_stage is adapt_text, was adapt_f"),
        (None, {"optim": "sgd"}, "--optim is sgd, was adamw"),
        (None, {"lora": "ffn=2"}, r"--lora is \{'ffn': .*, was None"),
        (other, {}, "--init_dir is exp/init, whose weights have changed since"),
        (other, {"init_dir": "exp/b"}, "--init_dir is exp/b, was exp/init"),
    ]
    for model, change, said in changes:
        with pytest.raises(ValueError, match=rf"^{path} is of another run: {said}.*--output_dir"):
            identity.check(before, noted(model, **change), path)


def test_data_and_batches_that_changed_are_said() -> None:
    before, now = noted(), noted(seed=7, train_data="dump/more")
    both = {"processes": 1, "passes": {"batch": 3}}
    (said,) = resuming.changes(before | both, now | both)
    assert "--train_data is dump/more, was dump/train; --seed is 7, was 0" in said
    assert not list(resuming.changes(both, now | both)), "of an older version: not known"


def train(steps: int, total: int, **options: Any) -> tuple[Any, FreezeSchedule, identity.Asked]:
    model = Model()
    conf = {"lr": 1e-3, "weight_decay": 0.1} | options
    optimizer = build_optimizer(model, torch.optim.AdamW, conf)
    inner = {"warmup_steps": 2, "total_steps": total}
    groups = ["encoder", "ffn"]
    schedule = FreezeSchedule(optimizer, trainable=groups, inner="warmuplinear", inner_conf=inner)
    asked = identity.Asked([optimizer], [schedule])
    for _ in range(steps):
        optimizer.step()
        schedule.step()
    return optimizer, schedule, asked


def rates(optimizer: Any) -> list[float]:
    return [group["lr"] for group in optimizer.param_groups]


def test_a_raised_length_and_other_rates_apply_from_the_step_that_was_reached() -> None:
    before, schedule, _ = train(10, total=10)
    assert rates(before) == [0, 0]
    saved = copy.deepcopy([before.state_dict(), schedule.state_dict()])
    for length, options, expected in (
        (20, {}, ["total_steps is now 20, was 10"]),
        (20, {"lr": 2e-3}, ["lr is now 0.002, was 0.001 (encoder, ffn)", "total_steps is now 20"]),
        (10, {"weight_decay": 0.2}, ["weight_decay is now 0.2, was 0.1 (encoder, ffn)"]),
        (10, {}, []),
    ):
        resumed, resumed_schedule, asked = train(0, length, **options)
        resumed.load_state_dict(saved[0])
        resumed_schedule.load_state_dict(saved[1])
        said = asked.apply()
        assert len(said) == len(expected)
        assert all(want in words for want, words in zip(expected, said, strict=True))
        whole, _, _ = train(10, length, **options)
        assert rates(resumed) == rates(whole)
        assert [g["weight_decay"] for g in resumed.param_groups] == [
            g["weight_decay"] for g in whole.param_groups
        ]
        resumed_schedule.step()
        assert rates(resumed) == rates(train(11, length, **options)[0])
