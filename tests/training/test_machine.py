"""A disk, the memory or the system ends a run: one message, with what to do."""

import errno
import os
from pathlib import Path

import pytest
import torch

from espnet_plugin.monitor.options import TrainingError
from espnet_plugin.room import DiskError
from espnet_plugin.training import machine


@pytest.mark.parametrize(
    ("number", "path", "said"),
    [
        (errno.ENOSPC, None, "{run}: No space left on device; .* are free there.*: make room"),
        (errno.EROFS, "{run}/watch.json", "{run}/watch.json: Read-only file system; .*mend that"),
    ],
)
def test_a_failing_disk_is_one_message(
    tmp_path: Path, number: int, path: str | None, said: str
) -> None:
    name = [path.format(run=tmp_path)] if path else []
    with pytest.raises(DiskError, match=said.format(run=tmp_path)), machine.told(tmp_path):
        raise OSError(number, os.strerror(number), *name)
    with pytest.raises(FileNotFoundError), machine.told(tmp_path):
        (tmp_path / "missing").read_text()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
            "a process that reads audio is gone: DataLoader worker .* Killed. Where .*num_workers",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB."),
            "memory does not suffice: CUDA out of memory. Lower batch_bins",
        ),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), "Lower batch_bins"),
    ],
)
def test_memory_and_killed_readers_are_explained(error: Exception, said: str) -> None:
    with pytest.raises(TrainingError, match=said), machine.told("exp"):
        raise error
    with pytest.raises(RuntimeError, match="^a defect$"), machine.told("exp"):
        raise RuntimeError("a defect")
