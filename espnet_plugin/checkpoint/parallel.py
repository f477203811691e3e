"""Work on many tensors in a few threads, with results that do not depend on how many."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

THREADS_EACH, MAX_THREADS = 2, 4  # for a processor: one waits for the disk, another computes


def usable_threads(threads: int | None = None) -> int:
    """Return a number of threads: what is asked for, else by the processors of this process.

    Raises:
        ValueError: It is below 1.
    """
    if threads is not None:
        if threads < 1:
            raise ValueError(f"threads: {threads}, at least 1 is needed")
        return threads
    affinity = getattr(os, "sched_getaffinity", None)  # not everywhere
    processors = len(affinity(0)) if affinity else os.cpu_count() or 1
    return min(MAX_THREADS, THREADS_EACH * processors)


def for_each[T](
    names: Iterable[str],
    worker: Callable[[], AbstractContextManager[Callable[[str], T]]],
    threads: int,
) -> dict[str, T]:
    """Call a function with each name, in several threads.

    Args:
        names: Taken in this order.
        worker: Entered once by each thread; gives the function, with buffers and files of its own.
        threads: How many, this one included.

    Returns:
        What the function returned, by name, in the order of `names`.

    Raises:
        BaseException: What the function raised. No name is begun after that; if several calls
            failed, the exception is that of the first in order.
    """
    waiting = enumerate(list(names))
    lock, stop = threading.Lock(), threading.Event()
    results: dict[int, tuple[str, T]] = {}
    errors: dict[int, BaseException] = {}

    def run() -> None:
        position = -1
        try:
            with worker() as work:
                while not stop.is_set():
                    with lock:
                        position, name = next(waiting, (-1, ""))
                    if position < 0:
                        break
                    results[position] = name, work(name)
        except BaseException as error:  # raised again below
            errors[position] = error
            stop.set()

    helpers = [threading.Thread(target=run, daemon=True) for _ in range(threads - 1)]
    try:
        for thread in helpers:
            thread.start()
        run()
        for thread in helpers:
            thread.join()
    finally:  # an interrupt reaches this thread alone
        stop.set()
        for thread in helpers:
            if thread.ident is not None:
                thread.join()
    if errors:
        raise errors[min(errors)]
    return dict(results[position] for position in sorted(results))
