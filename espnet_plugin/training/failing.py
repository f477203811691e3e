"""A process that fails ends all processes of its run, and they say why.

They would wait for it in an exchange: gloo soon notices that a connection is closed, NCCL gives up
after ten minutes, and neither says what happened. ESPnet's spawning of processes and torchrun end
the others within 30 s, srun within a minute (`cmd.sh` asks for it), ESPnet's launcher over ssh
never. So a process that fails leaves a note in the store where all of them met, and in each of the
others a thread looks there.

Waiting is no failure: while rank 0 verifies or writes a checkpoint of many gigabytes on a slow
disk, NCCL's ten minutes may pass. So the thread lets all wait for half an hour, as gloo does.
"""

import json
import logging
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from espnet_plugin.cli import DEBUG_VARIABLE, USER_ERRORS, describe
from espnet_plugin.monitor.options import TrainingError

NOTE, READ = "asyncswitch/failed", "asyncswitch/read"  # keys of the store
EVERY = 1.0  # seconds between two looks
GRACE = 10.0  # seconds in which a process may end by itself, by gloo's error say
LONGEST = 2000  # characters of a note
LOST = re.compile("gloo/transport|ncclRemoteError|remote process|Connection (reset|closed)")
PATIENCE = timedelta(minutes=30)  # for what another process is to do
TOLD = 2  # exit code of a user's mistake, as in `cli.run`


@contextmanager
def end_together() -> Iterator[None]:
    """Watch the other processes for the duration of the block, in which they meet.

    Raises:
        SystemExit: In place of an error that came of another process's failure; says what it was.
        TrainingError: Likewise, where the other was killed and could not say it.
    """
    lookout = _Lookout()
    lookout.start()
    try:
        yield
        if _meeting():
            torch.distributed.barrier()  # a process that is done too early would seem to be lost
    except Exception as error:
        first = lookout.report(error)
        if first is None and LOST.search(str(error)):
            raise TrainingError(
                "another process of this run is gone, and has not said why: it was killed, perhaps "
                "for its memory, or its computer is down. Look at its log and at the system's, and "
                "run the same command again to go on from the last checkpoint "
                f"({str(error)[:LONGEST]})"
            ) from error
        if first is None or first["what"] == _what(error):  # all of them found the same
            raise
        lookout.say(f"{_said(first)} (here: {_what(error)})")
        raise SystemExit(1) from None
    finally:
        lookout.stop()


@contextmanager
def told(spawned: bool) -> Iterator[None]:
    """Let a process that ESPnet has started say a user's mistake in one message, as others do.

    Args:
        spawned: Whether it was.

    Raises:
        SystemExit: With `TOLD`, in place of such an error.
    """
    try:
        yield
    except USER_ERRORS as error:
        if not spawned or os.environ.get(DEBUG_VARIABLE):
            raise
        print(f"error: {describe(error)}", file=sys.stderr, flush=True)
        raise SystemExit(TOLD) from None


class _Lookout(threading.Thread):
    """Looks for a note of another process; ends this one if it does not end by itself."""

    def __init__(self) -> None:
        super().__init__(name="lookout", daemon=True)
        self.over, self.connected = threading.Event(), threading.Event()
        self.store: Any = None
        self.first: dict[str, Any] | None = None  # what another process noted

    def run(self) -> None:
        while not _meeting():
            if self.over.wait(EVERY / 4):
                return
        # A connection of its own: one that waits would lock the other. It is made while the process
        # that has the store is there; later that would be tried for minutes.
        self.store = torch.distributed.distributed_c10d._get_default_store().clone()
        _wait_longer()
        self.connected.set()
        while not self.over.wait(EVERY):
            try:
                if not self.store.check([NOTE]):
                    continue
                self.first = json.loads(self.store.get(NOTE))
                self.store.add(READ, 1)
                reason = _said(self.first)
            except RuntimeError:  # also where that process ended well, a moment before this one
                reason = "the process where all of them meet is gone"
            if not self.over.wait(GRACE):
                self.say(reason)
                sys.stderr.flush()
                os._exit(1)  # the main thread waits for an exchange that will not come
            return

    def report(self, error: Exception) -> dict[str, Any] | None:
        """Leave a note of this process's failure, for the others.

        Returns:
            What another process noted before, or None.
        """
        if _meeting():
            self.connected.wait(5 * EVERY)
        self.stop()
        if self.first is not None or self.store is None:
            return self.first
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        note = {"rank": rank, "host": platform.node(), "what": _what(error)}
        try:
            first: dict[str, Any] = json.loads(self.store.compare_set(NOTE, "", json.dumps(note)))
            if first != note:
                self.store.add(READ, 1)
                return first
            # The store may be this process's: it stays until the others have read the note.
            end = time.monotonic() + 5 * EVERY
            while self.store.add(READ, 0) < world - 1 and time.monotonic() < end:
                time.sleep(EVERY / 10)
        except RuntimeError as lost:
            logging.warning("the other processes cannot be told: %s", lost)
        return None

    def say(self, reason: str) -> None:
        """Say why this process ends."""
        rank = torch.distributed.get_rank() if _meeting() else 0
        text = f"process {rank} ends: {reason}"
        logging.error(text)
        print(f"error: {text}", file=sys.stderr, flush=True)

    def stop(self) -> None:
        """Look no more."""
        self.over.set()
        if self.is_alive():
            self.join(5 * EVERY)


def _wait_longer() -> None:
    """Let all exchanges to come, and where processes meet for the first, last for `PATIENCE`."""
    private = torch.distributed.distributed_c10d
    private._get_default_store().set_timeout(PATIENCE)
    newer = getattr(torch.distributed, "set_timeout", None)
    (newer or private._set_pg_timeout)(PATIENCE)


def _what(error: Exception) -> str:
    return f"{type(error).__name__}: {describe(error)}"[:LONGEST]


def _said(note: dict[str, Any]) -> str:
    return f"process {note['rank']} on {note['host']} failed: {note['what']}"


def _meeting() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
