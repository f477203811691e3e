"""Signals that ask a run to stop: SIGTERM, and SIGUSR1 (Slurm's warning before the time limit).

A handler only notes the signal. The trainer asks after each update; when any rank was asked, all
ranks stop at the same update, the checkpoint is written, and the process exits with `EXIT_AGAIN`.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_AGAIN = 75  # sysexits.h: EX_TEMPFAIL, "try again"; Slurm's RequeueExit can list it
SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

_received: list[str] = []


class Stopped(SystemExit):
    """Ends the process with `EXIT_AGAIN`: run the same command again to go on."""

    def __init__(self) -> None:
        super().__init__(EXIT_AGAIN)


def requested() -> str | None:
    """Return the name of the signal that asked this process to stop, or None."""
    return _received[0] if _received else None


def note(number: int, frame: FrameType | None) -> None:
    """Handle a signal: remember it."""
    name = signal.Signals(number).name
    if not _received:  # more of them must not break the checkpoint that the first one asked for
        logging.warning("%s: stopping after this update", name)
    _received.append(name)


def _forward(number: int, frame: FrameType | None) -> None:
    _received.append(signal.Signals(number).name)
    for child in multiprocessing.active_children():
        if child.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(child.pid, number)


@contextmanager
def listen(to_children: bool = False) -> Iterator[None]:
    """Take the signals for the duration of the block.

    Args:
        to_children: Pass them to the child processes instead: for the parent of one process a GPU.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # Python takes signals in the main thread alone
        return
    handler = _forward if to_children else note
    old = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        _received.clear()
        for number, before in old.items():
            signal.signal(number, before)


@contextmanager
def hold() -> Iterator[None]:
    """Hold signals back for the duration of the block, and in processes that are made in it.

    A new process would die of a signal until it has its own handlers.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def agreed(distributed: bool, device: str = "cpu") -> bool:
    """Tell whether any rank was asked to stop; every rank has to ask at the same update.

    Args:
        distributed: True where there are several processes.
        device: That the backend's tensors lie on, `cuda` for NCCL.
    """
    if not distributed:
        return bool(_received)
    import torch

    flag = torch.tensor(int(bool(_received)), device=device)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())


def begin_worker(then: Callable[[int], None], worker: int) -> None:
    """Begin a worker of a `DataLoader`: it outlives signals, which Slurm sends to all processes.

    A worker that dies would end the run at once, and without a checkpoint.

    Args:
        then: The worker's own `worker_init_fn`.
        worker: Its number.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    then(worker)
