"""Stopping in the middle of an epoch and going on: signals, random state, reports, files."""

import os
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from espnet2.train.reporter import Reporter

from espnet_plugin.training import stopping
from espnet_plugin.training.midway import (
    Midway,
    pack_report,
    random_state,
    remaining,
    set_random_state,
    unpack_report,
)
from espnet_plugin.training.progress import Batches, Run
from espnet_plugin.training.resuming import forget_missing, link_best, restore_weights
from espnet_plugin.training.saving import EXTRA, KEPT, Checkpoints

CRITERIA = [("valid", "loss", "min")]


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(()))]


def test_the_random_state_survives_a_checkpoint(tmp_path: Path) -> None:
    np.random.randn()  # leaves a cached value
    extra = {"epoch": 3, "batches": 4, "report": {}, "random": [random_state()]}
    torch.save({"model": {}, EXTRA: extra}, tmp_path / "c.pth")
    expected = draws()
    midway = Midway.read(tmp_path / "c.pth")
    assert midway is not None and (midway.epoch, midway.batches) == (3, 4)
    set_random_state(midway.random_of(0))
    assert draws() == expected
    assert midway.random_of(3) is midway.random[0], "with more processes than there were"
    torch.save({"model": {}}, tmp_path / "end.pth")
    assert Midway.read(tmp_path / "end.pth") is None


def test_an_epochs_mean_goes_on_where_it_was() -> None:
    losses = [(0.1 + i / 7, i % 3 + 1) for i in range(8)]

    def report(reporter: Any, part: list[Any]) -> None:
        for value, weight in part:
            reporter.register({"loss": torch.tensor(value)}, torch.tensor(weight))
            reporter.register({"lr": 0.1})
            reporter.next()

    whole, parts = Reporter(), Reporter()
    with whole.observe("train", epoch=1) as sub:
        report(sub, losses)
    first = parts.start_epoch("train", 1)
    report(first, losses[:5])
    packed = pack_report(first)
    with parts.observe("train", epoch=1) as sub:
        unpack_report(packed, sub)
        report(sub, losses[5:])
    for key in ("loss", "lr", "total_count"):
        assert whole.stats[1]["train"][key] == parts.stats[1]["train"][key]


def test_batches_that_are_done_are_left_out() -> None:
    class Own(list[int]):
        def after(self, done: int) -> "Own":
            return Own(self[done:])

    assert list(remaining([1, 2, 3, 4], 3)) == [4]
    assert list(remaining(Own([1, 2, 3, 4]), 1)) == [2, 3, 4]
    assert list(remaining([1, 2], 0)) == [1, 2]


def test_a_signal_stops_between_updates_after_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = type("Options", (), {"ngpu": 0})()
    run = Run(tmp_path, True, [], "adapt", Checkpoints(tmp_path), options)
    run.begin_epoch(2)
    written, seen = list[int](), list[int]()

    def write(done: int) -> None:
        os.kill(os.getpid(), signal.SIGTERM)  # Slurm's next signal: the write goes on
        written.append(done)

    def between(done: int) -> None:
        run.done = done
        if done % 2 == 0:
            run.stop_if_asked()

    run.write_midway = write
    before = [signal.getsignal(number) for number in stopping.SIGNALS]
    reporter = Reporter().start_epoch("train", 2)
    batches = Batches(iter(range(10)), run, reporter, between, done=4)
    with stopping.listen(), pytest.raises(SystemExit) as stopped:
        for batch in batches:
            seen.append(batch)
            if batch == 2:
                os.kill(os.getpid(), signal.SIGUSR1)
    assert stopped.value.code == stopping.EXIT_AGAIN == 75
    assert seen == [0, 1, 2, 3] and written == [8]
    assert "SIGUSR1: stopped with exit code 75" in capsys.readouterr().out
    assert [signal.getsignal(number) for number in stopping.SIGNALS] == before
    assert stopping.requested() is None

    run.checkpoints.saved = (2, 8)  # asked again before anything was done: nothing to write
    with stopping.listen(), pytest.raises(SystemExit):
        os.kill(os.getpid(), signal.SIGTERM)
        run.stop_if_asked()
    assert written == [8]


def test_a_worker_outlives_the_signals() -> None:
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    began = list[int]()
    try:
        stopping.begin_worker(began.append, 3)
        for number in stopping.SIGNALS:
            os.kill(os.getpid(), number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert began == [3]


def at_epoch(losses: dict[int, float]) -> Reporter:
    reporter = Reporter()
    reporter.stats = {e: {"valid": {"loss": loss}} for e, loss in losses.items()}
    reporter.set_epoch(max(losses))
    return reporter


def test_the_weights_of_epochs_follow_the_checkpoint(tmp_path: Path) -> None:
    """Killed in epoch 3, back to epoch 2: 1 was the best, and epoch 3 had removed it."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.entries = [{"position": [3, 0], "weights": ["1epoch.pth"]}]
    (tmp_path / KEPT).mkdir()
    for name in (f"{KEPT}/1epoch.pth", f"{KEPT}/3epoch.pth", "3epoch.pth"):
        (tmp_path / name).write_text(name)
    for name in ("latest.pth", "valid.loss.best.pth"):
        (tmp_path / name).symlink_to("3epoch.pth")
    reporter, model = at_epoch({1: 0.5, 2: 0.7}), torch.nn.Linear(2, 2)
    restore_weights(checkpoints, reporter, model)
    said = list[str]()
    forget_missing(tmp_path, reporter, CRITERIA, 2, said.append)
    link_best(tmp_path, reporter, CRITERIA)
    assert not said
    found = {p.name: p.resolve().name for p in tmp_path.glob("*.pth")}
    assert found == {
        "1epoch.pth": "1epoch.pth",
        "2epoch.pth": "2epoch.pth",
        "latest.pth": "2epoch.pth",
        "valid.loss.best.pth": "1epoch.pth",
    }
    assert not (tmp_path / KEPT / "3epoch.pth").exists()
    saved = torch.load(tmp_path / "2epoch.pth", weights_only=True)
    assert torch.equal(saved["weight"], model.weight)


def test_an_epoch_whose_weights_are_gone_is_not_the_best(tmp_path: Path) -> None:
    reporter, said = at_epoch({1: 0.5, 2: 0.4, 3: 0.7, 4: 0.6}), list[str]()
    for epoch in (1, 4):
        (tmp_path / f"{epoch}epoch.pth").write_text("")
    forget_missing(tmp_path, reporter, CRITERIA, 2, said.append)
    assert sorted(reporter.stats) == [1, 3, 4] and len(said) == 1
    assert "2epoch.pth is gone" in said[0]
    link_best(tmp_path, reporter, CRITERIA)
    assert (tmp_path / "valid.loss.best.pth").resolve().name == "1epoch.pth"
