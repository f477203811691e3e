"""What a machine does to a run, said in one message: disks, memory, processes that are killed."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from espnet_plugin.monitor.options import TrainingError
from espnet_plugin.room import FULL, DiskError, free_bytes, size

FAILING = (*FULL, errno.EROFS, errno.EIO, errno.ESTALE)  # of a disk, not of a file
AGAIN = "run the same command again to go on from the last checkpoint"


@contextmanager
def told(directory: str | Path) -> Iterator[None]:
    """Say what made a run fail that neither its data nor its options did.

    Args:
        directory: Output directory, named where an error names no file.

    Raises:
        DiskError: If a disk is full, read-only or fails, whatever was being written to it.
        TrainingError: If memory does not suffice, or a process that reads data was killed.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in FAILING:
            raise
        place = Path(error.filename or directory)
        kept = "What the run has written before, its checkpoints above all, stays as it is"
        raise DiskError(
            f"{place}: {error.strerror}; {size(free_bytes(place))} are free there. {kept}: "
            f"{'make room' if error.errno in FULL else 'mend that'}, and run the same command again"
        ) from error
    except RuntimeError as error:
        words = " ".join(str(error).split())
        if words.startswith("DataLoader worker"):  # torch's words
            raise TrainingError(
                f"a process that reads audio is gone: {words.rstrip('.')}. Where the system killed "
                f"it, memory was short: lower num_workers or batch_bins. Then {AGAIN}"
            ) from error
        if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in words:
            raise TrainingError(
                f"memory does not suffice: {words.partition('. ')[0]}. Lower batch_bins and raise "
                "accum_grad, or see --checkpointing, --optim adamw8bit and --lora; "
                f"espnet_plugin.bin.plan shows what fits. Then {AGAIN}"
            ) from error
        raise
