"""Checkpoints that a kill leaves whole."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.checkpoint import atomic_write

CHECKPOINT = "checkpoint.pth"


@contextmanager
def atomic_torch_save(seconds: float = 0.0) -> Iterator[None]:
    """Let `torch.save` to a path write a temporary file first, then rename it.

    ESPnet writes onto the live checkpoint: a kill during the write leaves a truncated file, and
    the next resume fails.

    Args:
        seconds: Least time between two checkpoints for resuming (with the optimiser's state they
            are four times the model); earlier ones are not written. 0 writes each.
    """
    plain, last = torch.save, time.monotonic()

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal last
        if isinstance(f, str | Path):
            if Path(f).name == CHECKPOINT:
                if time.monotonic() - last < seconds:
                    return
                last = time.monotonic()
            with atomic_write(f) as file:
                plain(obj, file, *args, **kwargs)
        else:
            plain(obj, f, *args, **kwargs)

    torch.save = save  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.save = plain  # type: ignore[assignment]
