"""Decoding by several processes: one a GPU, or several on a CPU.

On a CPU, threads of one process wait for each other at every small operation of the search;
processes with a thread each do not. Results do not depend on batches, so nor on processes.
"""

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

from espnet_plugin.decode.options import Options
from espnet_plugin.decode.plan import Job


class Bar(Protocol):
    """What is used of a tqdm bar."""

    def update(self, n: int) -> Any:
        """Count n utterances."""

    def set_postfix_str(self, s: str, refresh: bool = ...) -> Any:
        """Say what is being done."""

    def write(self, s: str) -> Any:
        """Print a line."""


class _Sent:
    """Stands for the progress bar in a process that has none: passes what it is told on."""

    def __init__(self, messages: Any) -> None:
        self.messages = messages

    def update(self, n: int) -> None:
        self.messages.put(("update", n))

    def set_postfix_str(self, s: str, refresh: bool = True) -> None:
        self.messages.put(("set_postfix_str", s, refresh))

    def write(self, s: str) -> None:
        self.messages.put(("write", s))


@dataclass(frozen=True)
class Worker:
    """What a process does with its jobs, and where.

    Attributes:
        run: Decodes jobs: called with jobs, a device and a bar.
        devices: One for each process.
        threads: Of each process.
    """

    run: Callable[[list[Job], str, Bar], None]
    devices: tuple[str, ...]
    threads: int


_place: dict[str, Any] = {}  # of this process: its device and where messages go


def _start(worker: Worker, numbers: Any, messages: Any) -> None:
    import torch

    torch.set_num_threads(worker.threads)
    _place.update(device=worker.devices[numbers.get()], bar=_Sent(messages), run=worker.run)


def _work(jobs: list[Job]) -> list[Job]:
    _place["run"](jobs, _place["device"], _place["bar"])
    return jobs


def check_device(device: str) -> None:
    """Check that a device can be computed on.

    Raises:
        ValueError: If torch does not know it, or it is a GPU that is not there.
    """
    import torch

    try:
        found = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device is cpu, cuda, cuda:1, ..., got '{device}'") from None
    if found.type == "cuda" and (found.index or 0) >= (there := torch.cuda.device_count()):
        raise ValueError(f"device '{device}', but torch sees {there} GPUs: use cpu")


def devices_of(device: str, workers: int) -> tuple[str, ...]:
    """Return a device for each process: a GPU each, or the CPU for all.

    Raises:
        ValueError: If there are fewer GPUs than processes, one GPU is named for several, or there
            is no such device.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    check_device(device)
    if workers == 1 or device == "cpu":
        return (device,) * workers
    if device != "cuda":
        raise ValueError(f"{workers} workers take a GPU each: --device cuda, not {device}")
    import torch

    if torch.cuda.device_count() < workers:
        raise ValueError(f"{workers} workers, but {torch.cuda.device_count()} GPUs")
    return tuple(f"cuda:{number}" for number in range(workers))


def parts(jobs: Sequence[Job], workers: int) -> list[list[Job]]:
    """Cut jobs into what one process takes at a time.

    Systems with the same encoder stay together, for its output serves them all; the last ones are
    cut by set, so that no process is left waiting for long.
    """

    def encoder(job: Job) -> tuple[Options, str]:
        return job.options, job.system.encoder

    seen = {encoder(job): i for i, job in reversed(list(enumerate(jobs)))}
    order = sorted(jobs, key=lambda job: seen[encoder(job)])
    groups = [list(group) for _, group in groupby(order, key=encoder)]
    groups.sort(key=lambda group: -sum(len(j.utterances) - len(j.texts) for j in group))
    cut = groups[:-workers]
    for group in groups[-workers:]:
        for name in dict.fromkeys(job.set_name for job in group):
            cut.append([job for job in group if job.set_name == name])
    return cut


def spread(jobs: Sequence[Job], worker: Worker, bar: Bar) -> list[Job]:
    """Run jobs by processes; returns them complete.

    Raises:
        Exception: What a process raised; the others end what they are at, and what is decoded
            stays.
    """
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        messages, numbers = manager.Queue(), manager.Queue()
        for number in range(len(worker.devices)):
            numbers.put(number)
        # read when torch and its libraries start, before `set_num_threads` can be called
        before = os.environ.get("OMP_NUM_THREADS")
        os.environ["OMP_NUM_THREADS"] = str(worker.threads)
        pool = ProcessPoolExecutor(
            len(worker.devices), context, initializer=_start, initargs=(worker, numbers, messages)
        )
        try:
            running = {pool.submit(_work, part) for part in parts(jobs, len(worker.devices))}
            found: list[Job] = []
            while running:
                ended, running = wait(running, timeout=0.5, return_when="FIRST_COMPLETED")
                _tell(messages, bar)
                found += [job for future in ended for job in future.result()]
            return found
        finally:
            pool.shutdown(cancel_futures=True)
            _tell(messages, bar)
            if before is None:
                del os.environ["OMP_NUM_THREADS"]
            else:
                os.environ["OMP_NUM_THREADS"] = before


def _tell(messages: Any, bar: Bar) -> None:
    while True:
        try:
            name, *arguments = messages.get_nowait()
        except queue.Empty:
            return
        getattr(bar, name)(*arguments)
