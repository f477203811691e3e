"""Trainings side by side: what may run when, and what ends the run."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from espnet_plugin.stages import System, get_system
from espnet_plugin.systems import Plan
from espnet_plugin.training import stopping
from espnet_plugin.training.side_by_side import _start, run_when_ready, train_side_by_side

NAMES = ["adapt_text", "adapt_align", "align_only", "adapt_full"]
NAMES += ["direct_full", "text_full", "align_full"]


def test_a_system_waits_for_the_one_it_starts_from() -> None:
    systems, ended, lock = [get_system(name) for name in NAMES], ["init"], threading.Lock()
    both = threading.Barrier(2, timeout=10)

    def train(system: System) -> int:
        with lock:
            assert system.start in ended
        if system.name in ("adapt_text", "align_only"):
            both.wait()  # ends only because the other one runs as well
        with lock:
            ended.append(system.name)
        return 0

    with ThreadPoolExecutor(2) as pool:
        run_when_ready(systems, lambda system: pool.submit(train, system), 2)
    assert sorted(ended) == sorted(["init", *NAMES])


def test_systems_that_were_trained_before_are_not_waited_for() -> None:
    submitted = []

    def submit(system: System) -> "Future[int]":
        submitted.append(system.name)
        future: Future[int] = Future()
        future.set_result(0)
        return future

    run_when_ready([get_system(name) for name in ("align_full", "text_full")], submit, 2)
    assert submitted == ["align_full", "text_full"]


@pytest.mark.parametrize(
    ("outcome", "error"), [(75, "SystemExit: 75"), (ValueError("bad"), "ValueError: bad")]
)
def test_what_a_training_ends_with_ends_the_run(outcome: int | Exception, error: str) -> None:
    submitted = []

    def submit(system: System) -> "Future[int]":
        submitted.append(system.name)
        future: Future[int] = Future()
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future

    with pytest.raises((SystemExit, ValueError)) as raised:
        run_when_ready([get_system(name) for name in NAMES[:2]], submit, 1)
    assert f"{raised.type.__name__}: {raised.value}" == error
    assert submitted == ["adapt_text"]


def test_after_a_signal_nothing_else_is_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[str] = []
    monkeypatch.setattr(stopping, "_received", received)
    submitted = []

    def submit(system: System) -> "Future[int]":
        submitted.append(system.name)
        received.append("SIGTERM")
        future: Future[int] = Future()
        future.set_result(0)  # it was at its end
        return future

    with pytest.raises(stopping.Stopped):
        run_when_ready([get_system(name) for name in NAMES], submit, 1)
    assert submitted == ["adapt_text"]


@pytest.mark.slow
def test_a_signal_before_a_training_is_noted(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    numbers.put(0)
    pool = ProcessPoolExecutor(1, context, initializer=_start, initargs=(numbers,))
    with stopping.hold():
        future = pool.submit(stopping.requested)
        (process,) = multiprocessing.active_children()
        os.kill(process.pid or 0, signal.SIGTERM)  # it has not run a line of Python
    assert future.result(60) == "SIGTERM"
    pool.shutdown()


@pytest.mark.parametrize(
    ("workers", "ngpu", "message"), [(0, "0", "at least 1"), (2, "1", "give --workers 1")]
)
def test_workers_share_a_cpu(tmp_path: Path, workers: int, ngpu: str, message: str) -> None:
    plan = Plan(tmp_path, {}, {}, ("", ""), {"ngpu": ngpu})
    with pytest.raises(ValueError, match=message):
        train_side_by_side(["init"], plan, workers)
