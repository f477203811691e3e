"""Finished units of work on disk: arrays in one file, facts in another that is written last."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import atomic_write, read_json


class AccountingError(RuntimeError):
    """Lines read are not lines kept and dropped: a defect of this program, never the user's."""


def account(where: str, read: int, kept: int, dropped: Mapping[str, int]) -> None:
    """Check that lines read = lines kept + lines dropped for each reason.

    Raises:
        AccountingError: If they are not.
    """
    if read != kept + sum(dropped.values()) or min([kept, *dropped.values()]) < 0:
        raise AccountingError(f"{where}: {read} lines read, {kept} kept, dropped {dict(dropped)}")


class Units:
    """The finished units of one phase in the directory of unfinished work."""

    def __init__(self, work: str | Path, name: str) -> None:
        """Name the phase; its directory is made with the first unit."""
        self.directory = Path(work) / name

    def arrays_path(self, index: int) -> Path:
        """Where a unit's arrays are."""
        return self.directory / f"{index:06d}.npz"

    def near_path(self, index: int) -> Path:
        """Where a unit's signatures for near-duplicates are, `(bands, lines, rows)` uint16."""
        return self.directory / f"{index:06d}.near.npy"

    def facts_path(self, index: int) -> Path:
        """Where a unit's facts are; what is not there is not finished."""
        return self.directory / f"{index:06d}.json"

    def finished(self, index: int) -> dict[str, Any] | None:
        """Return the facts of a unit, None if it is not finished."""
        path = self.facts_path(index)
        return read_json(path) if path.is_file() else None

    def write(
        self,
        index: int,
        facts: Mapping[str, Any],
        arrays: Mapping[str, np.ndarray] | None = None,
        near: np.ndarray | None = None,
    ) -> None:
        """Write a unit; it is finished once its facts are there.

        Raises:
            OSError: If it cannot be written (a full disk); finished units stay.
        """
        if arrays is not None:
            with atomic_write(self.arrays_path(index)) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        if near is not None:
            with atomic_write(self.near_path(index)) as file:
                np.save(file, near)
        with atomic_write(self.facts_path(index), "w") as file:
            json.dump(facts, file, ensure_ascii=False)

    def read(self, index: int, *names: str) -> list[np.ndarray]:
        """Read some of a unit's arrays."""
        with np.load(self.arrays_path(index)) as stored:
            return [stored[name] for name in names]


def plain(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts above zero by name, the names sorted, for JSON."""
    return {name: int(n) for name, n in sorted(Counter(counts).items()) if n}
