"""Lines by source in bounded memory, the same whatever the order in which parts are merged.

Up to `CAPACITY` different sources are counted exactly. Beyond that, counts come from a Count-Min
sketch (Cormode and Muthukrishnan 2005): never too low, and too high by more than e / `CELLS` of all
lines (0.03 %) with a chance of e^-`ROWS` (2 %). The names reported are the `CAPACITY` with the most
lines within any one block: a source with a share of the corpus has at least that share of some
block, so a frequent source stays. Sums and maxima do not depend on the order, and a name that one
part has to drop would not stay in the whole either.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

CAPACITY = 10_000
ROWS = 4
CELLS = 8192
LONGEST_NAME = 120  # characters; longer names are cut and end in a hash


class SourceCounts:
    """Lines by source.

    Attributes:
        peaks: The most lines of each known source within a block.
        counts: Its lines, where all sources are known; else empty.
        sketch: `(ROWS, CELLS)` int64 counts of hashed names, where not all are known.
    """

    def __init__(self) -> None:
        self.peaks: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.sketch: np.ndarray | None = None

    @property
    def exact(self) -> bool:
        """Whether all sources are known."""
        return self.sketch is None

    def add_block(self, names: Sequence[str]) -> None:
        """Count the sources of a block's lines."""
        block = SourceCounts()
        for name, count in Counter(names).items():
            block.counts[_short(name)] += count
        block.peaks = dict(block.counts)
        block._bound()
        self.merge(block)

    def merge(self, other: "SourceCounts") -> None:
        """Add the counts of another part of the corpus."""
        for name, peak in other.peaks.items():
            self.peaks[name] = max(peak, self.peaks.get(name, 0))
        if self.sketch is None and other.sketch is None:
            self.counts.update(other.counts)
        else:
            self.sketch = self._sketch() + other._sketch()
            self.counts.clear()
        self._bound()

    def _bound(self) -> None:
        """Give up exact counts, and the least frequent names, where there are too many."""
        if len(self.peaks) <= CAPACITY:
            return
        self.sketch = self._sketch()
        self.counts.clear()
        ranked = sorted(self.peaks.items(), key=lambda item: (-item[1], item[0]))
        self.peaks = dict(ranked[:CAPACITY])

    def _sketch(self) -> np.ndarray:
        if self.sketch is not None:
            return self.sketch
        sketch = np.zeros((ROWS, CELLS), np.int64)
        counts = np.fromiter(self.counts.values(), np.int64, len(self.counts))
        for row, cells in enumerate(_cells(list(self.counts))):
            np.add.at(sketch[row], cells, counts)
        return sketch

    def top(self, number: int) -> list[tuple[str, int]]:
        """Give the sources with the most lines and their lines, the most frequent first."""
        counts: Mapping[str, int] = self.counts
        if self.sketch is not None:
            names = list(self.peaks)
            rows = [self.sketch[row, cells] for row, cells in enumerate(_cells(names))]
            counts = dict(zip(names, np.min(rows, axis=0).tolist(), strict=True))
        return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "peaks": dict(sorted(self.peaks.items())),
            "counts": dict(sorted(self.counts.items())),
            "sketch": None if self.sketch is None else self.sketch.tolist(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "SourceCounts":
        """Read what `to_json` returned."""
        counts = cls()
        counts.peaks = dict(value["peaks"])
        counts.counts = Counter(value["counts"])
        if value["sketch"] is not None:
            counts.sketch = np.array(value["sketch"], np.int64).reshape(ROWS, CELLS)
        return counts


def _short(name: str) -> str:
    if len(name) <= LONGEST_NAME:
        return name
    digest = f"{_hash(name):016x}"
    return f"{name[: LONGEST_NAME - len(digest) - 3]}...{digest}"


def _hash(name: str) -> int:
    from xxhash import xxh64_intdigest

    return xxh64_intdigest(name.encode("utf-8", "surrogatepass"))


def _cells(names: Sequence[str]) -> list[np.ndarray]:
    """Give each row's cells of names, `(names,)` int64: 13 bits of the hash a row."""
    hashes = np.fromiter(map(_hash, names), np.uint64, len(names))
    return [
        ((hashes >> np.uint64(13 * row)) % np.uint64(CELLS)).astype(np.int64) for row in range(ROWS)
    ]
