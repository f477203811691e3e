"""The state of a run in the middle of an epoch, beyond what ESPnet saves at its end.

Which batches are left follows from the epoch and the number of those done. What does not follow
from anything is kept: the random state of each rank, and what the epoch has reported so far.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.train.reporter import Average, ReportedValue, SubReporter, WeightedAverage

from espnet_plugin.training.saving import EXTRA


@dataclass
class Midway:
    """Where a run goes on in an epoch.

    Attributes:
        epoch: The epoch, from 1.
        batches: How many of its batches are done, on each rank.
        report: What was reported, as `pack_report` makes it.
        random: Random state of each rank of the run that was stopped.
    """

    epoch: int
    batches: int
    report: dict[str, Any]
    random: list[dict[str, Any]]

    @classmethod
    def read(cls, checkpoint: Path) -> "Midway | None":
        """Read it from a checkpoint; None if that is of the end of an epoch."""
        # Mapped: the rest of the file, which may be large, is not read.
        states = torch.load(checkpoint, map_location="cpu", mmap=True, weights_only=True)
        if EXTRA not in states:
            return None
        return cls(**_copied(states[EXTRA]))

    def random_of(self, rank: int) -> dict[str, Any]:
        """Return a rank's random state; with more ranks than there were, some begin alike.

        So do all of them at the start of each epoch, where ESPnet seeds them by its number.
        """
        return self.random[rank % len(self.random)]


def _copied(value: Any) -> Any:
    """Copy tensors out of a mapped file, so that the file can go."""
    if isinstance(value, torch.Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(part) for part in value)
    return value


def remaining(batches: Any, done: int) -> Iterable[Any]:
    """Return an epoch's batches without the first `done`.

    Our own are found at once (`after`); of others, those done are drawn and dropped.
    """
    if not done:
        return batches
    if hasattr(batches, "after"):
        return batches.after(done)
    return _drawn(iter(batches), done)


def _drawn(batches: Iterator[Any], done: int) -> Iterator[Any]:
    for _ in range(done):
        next(batches)
    return batches


def random_state() -> dict[str, Any]:
    """Return the state of every random generator of this process, as plain values and tensors."""
    kind, keys, place, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), place, has_gauss, gauss),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set what `random_state` returned."""
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def pack_report(reporter: SubReporter) -> dict[str, Any]:
    """Return what an epoch has reported so far, as tensors; `unpack_report` is its inverse."""
    stats = {}
    for key, values in reporter.stats.items():
        packed = {"values": torch.tensor([v.value for v in values], dtype=torch.float64)}
        if values and isinstance(values[0], WeightedAverage):
            packed["weights"] = torch.tensor([v.weight for v in values], dtype=torch.float64)
        stats[key] = packed
    return {"count": reporter.count, "total_count": reporter.total_count, "stats": stats}


def unpack_report(report: dict[str, Any], reporter: SubReporter) -> None:
    """Let a new epoch's reporter go on from a packed one."""
    reporter.count, reporter.total_count = report["count"], report["total_count"]
    for key, packed in report["stats"].items():
        values: list[ReportedValue] = []
        if "weights" in packed:
            pairs = zip(packed["values"].tolist(), packed["weights"].tolist(), strict=True)
            values += [WeightedAverage(value, weight) for value, weight in pairs]
        else:
            values += [Average(value) for value in packed["values"].tolist()]
        reporter.stats[key] = values
