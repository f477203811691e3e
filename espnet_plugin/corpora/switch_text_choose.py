"""Which of the candidates to keep, so that the text as a whole comes out as measured.

One process sees the candidates in the order of the corpus and keeps, of each sentence's, the one
whose patterns the text lacks most: the one with the largest sum over the histograms of

    log (wanted share / share so far)

A sentence whose best candidate has patterns that are frequent enough is turned away, as long as no
more than a given share of the sentences is. So the result does not depend on how the work was
divided, and the distributions approach their targets as far as the sentences allow.
"""

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from espnet_plugin.corpora.switch_patterns import Patterns, Shape

PRIOR = 30.0  # lines that the text begins with, in imagination: as wanted
LEAST = (
    0.002  # share that a bin is wanted at, at least: what was never measured is rare, not absent
)
ENOUGH = -0.2  # sum of logarithms below which a candidate is not needed
WEIGHTS = {"cmi": 1.0, "switches": 1.0, "matrix": 1.0, "embedded": 1.0, "place": 1.0, "inner": 0.5}


class Chooser:
    """Keeps account of what is wanted and what is there.

    Args:
        targets: Histograms as shares.
        languages: The pair.
        turn_away: Largest share of sentences to turn away, 0..1.

    Attributes:
        reached: Patterns of the lines kept.
        offered: Sentences with candidates.
        turned_away: Those of which none was kept.
    """

    def __init__(
        self, targets: Mapping[str, np.ndarray], languages: Sequence[str], turn_away: float
    ) -> None:
        if not 0 <= turn_away < 1:
            raise ValueError(f"turn_away is {turn_away}; allowed is 0 to below 1")
        first, second = languages
        self.reached = Patterns((first, second))
        self.offered = self.turned_away = 0
        self._limit = turn_away
        self._wanted = {}
        for name in WEIGHTS:
            shares = np.maximum(targets[name], LEAST)
            self._wanted[name] = (shares / shares.sum()).tolist()
        self._totals = {name: float(self.reached.counts[name].sum()) for name in WEIGHTS}

    def need(self, shape: Shape) -> float:
        """Return how much a line of this shape is needed: 0 is as much as any."""
        need = 0.0
        for name, bins in shape.bins():
            if name not in WEIGHTS or not bins:
                continue
            wanted, there = self._wanted[name], self.reached.counts[name]
            total = self._totals[name] + PRIOR
            part = sum(math.log(wanted[b] * total / (there[b] + PRIOR * wanted[b])) for b in bins)
            need += WEIGHTS[name] * part / len(bins)
        return need

    def choose(self, shapes: Sequence[Shape]) -> int | None:
        """Choose one of a sentence's candidates and count it; None turns the sentence away."""
        self.offered += 1
        needs = [self.need(shape) for shape in shapes]
        best = max(range(len(needs)), key=needs.__getitem__)
        if needs[best] < ENOUGH and self.turned_away + 1 <= self._limit * self.offered:
            self.turned_away += 1
            return None
        self.reached.add(shapes[best])
        for name, bins in shapes[best].bins():
            if name in WEIGHTS:
                self._totals[name] += len(bins)
        return best

    def to_json(self) -> dict[str, Any]:
        """Return the account, for `restore`."""
        return {
            "reached": self.reached.to_json(),
            "offered": self.offered,
            "turned_away": self.turned_away,
        }

    def restore(self, value: Mapping[str, Any]) -> None:
        """Go on with an account that `to_json` returned."""
        self.offered, self.turned_away = value["offered"], value["turned_away"]
        reached = value["reached"]
        if reached["switching"]:
            self.reached = Patterns.from_json(reached, "the state")
        self._totals = {name: float(self.reached.counts[name].sum()) for name in WEIGHTS}


class Seen:
    """A set of 64-bit hashes in 16 bytes each, for tens of millions of lines."""

    def __init__(self) -> None:
        self._size, self._mask = 0, (1 << 10) - 1
        self._table = array("Q", bytes(8 << 10))

    def __len__(self) -> int:
        return self._size

    def __contains__(self, value: int) -> bool:
        return self._table[self._place(self._table, self._mask, value or 1)] != 0

    def add(self, value: int) -> bool:
        """Add a hash; False where it was there."""
        value = value or 1  # 0 marks a free place
        place = self._place(self._table, self._mask, value)
        if self._table[place]:
            return False
        self._table[place] = value
        self._size += 1
        if 2 * self._size > self._mask:
            self._grow()
        return True

    @staticmethod
    def _place(table: "array[int]", mask: int, value: int) -> int:
        place = value & mask
        while table[place] and table[place] != value:
            place = (place + 1) & mask
        return place

    def _grow(self) -> None:
        mask = 2 * self._mask + 1
        table = array("Q", bytes(8 * (mask + 1)))
        for value in self._table:
            if value:
                table[self._place(table, mask, value)] = value
        self._table, self._mask = table, mask
