"""Train systems that do not need each other side by side, in processes that share a CPU.

At every small operation the threads of one training wait for each other; two trainings with a
thread each do not. Weights then differ from those of one training with two threads as sums in
another order do.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from espnet_plugin.stages import System, get_system
from espnet_plugin.systems import Plan, is_trained, train
from espnet_plugin.training.stopping import SIGNALS, Stopped, hold, listen, note, requested


def train_side_by_side(names: Sequence[str], plan: Plan, workers: int) -> None:
    """Train systems, each when the one it starts from is finished.

    Finished ones are skipped, interrupted ones resumed.

    Args:
        names: Systems; where several could be next, the first is.
        plan: Where things are.
        workers: Processes; each has its share of the processors.

    Raises:
        ValueError: If there is no worker, or several are to share GPUs.
        SystemExit: If a signal asked to stop.
        Exception: What a training raised; the others end what they are at.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    if workers > 1 and plan.options.get("ngpu", "0") != "0":
        raise ValueError(f"{workers} workers share a CPU: with GPUs, give --workers 1")
    systems = [get_system(name) for name in names]
    pending = _pending(systems, plan)
    if workers == 1 or len(pending) < 2:
        train(names, plan)
        return
    train([system.name for system in systems if system not in pending], plan)  # says so
    context = multiprocessing.get_context("spawn")
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = threads  # read when torch starts
    numbers = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(numbers,))
    try:
        with listen(to_children=True):
            run_when_ready(pending, lambda system: _submit(pool, system.name, plan), workers)
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


def _pending(systems: Sequence[System], plan: Plan) -> list[System]:
    """Return what is not finished.

    Raises:
        ValueError: Names all directories that were made otherwise, so that one look is enough.
    """
    found, faults = [], []
    for system in systems:
        try:
            if not is_trained(system, plan):
                found.append(system)
        except ValueError as error:
            faults.append(str(error))
    if faults:
        raise ValueError("\n".join(faults))
    return found


def run_when_ready(
    systems: Sequence[System], submit: Callable[[System], "Future[Any]"], workers: int
) -> None:
    """Submit each system once the one it starts from is finished, if that is among them.

    Args:
        systems: In the order of preference.
        submit: Starts a training; its result is an exit code.
        workers: Trainings at a time. None waits in a process's queue: after a signal it would
            begin there.

    Raises:
        SystemExit: With a training's exit code, if it is not 0; after a signal as `Stopped`.
    """
    waiting, running = list(systems), dict[Future[Any], System]()
    while waiting or running:
        if requested() and not running:
            raise Stopped
        unfinished = {system.name for system in (*waiting, *running.values())}
        ready = [system for system in waiting if system.start not in unfinished]
        for system in ready[: 0 if requested() else workers - len(running)]:
            waiting.remove(system)
            running[submit(system)] = system
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            if code := future.result():
                raise SystemExit(code)
            del running[future]


def _submit(pool: ProcessPoolExecutor, name: str, plan: Plan) -> "Future[Any]":
    """Begin a training; the process that may be made for it inherits that signals are held."""
    with hold():
        return pool.submit(_train, name, plan)


def _start(numbers: Any) -> None:
    """Begin a process: a signal is noted for the next training; a bar has its own line."""
    for number in SIGNALS:
        signal.signal(number, note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    os.environ["TQDM_POSITION"] = str(numbers.get())


def _train(name: str, plan: Plan) -> Any:
    try:
        train([name], plan)
    except SystemExit as stopped:  # an exception that cannot be sent between processes
        return stopped.code
    return 0
