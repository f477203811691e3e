"""The alignment of a reference with a hypothesis, from which every error count is read.

Costs and tie-breaking are sclite's (a substitution costs 4, a deletion or insertion 3; read from
the end, a match or substitution is preferred, then an insertion, then a deletion), so both agree
word by word. The edit distance with unit costs, which jiwer and others use, is never larger: two
substitutions (8) are dearer than a deletion and an insertion (6), so in rare utterances sclite
counts one error more.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Op = Literal["cor", "sub", "del", "ins"]

SUBSTITUTION, DELETION, INSERTION = 4, 3, 3
LONG = 40_000  # pairs of words from which numpy is quicker: a recording that nobody cut


@dataclass(frozen=True, slots=True)
class Pair:
    """One step of an alignment.

    Attributes:
        op: `cor`, `sub`, `del` or `ins`.
        ref: index of the reference word; None for an insertion.
        hyp: index of the hypothesis word; None for a deletion.
    """

    op: Op
    ref: int | None
    hyp: int | None


@dataclass(frozen=True, slots=True)
class Alignment:
    """An alignment: its steps in the order of the words, and their counts."""

    pairs: tuple[Pair, ...]
    cor: int
    sub: int
    dele: int
    ins: int

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.sub + self.dele + self.ins

    @property
    def n_ref(self) -> int:
        """Number of reference words."""
        return self.cor + self.sub + self.dele

    @property
    def ref_errors(self) -> list[bool]:
        """For each reference word, whether it was substituted or deleted."""
        return [pair.op != "cor" for pair in self.pairs if pair.ref is not None]


def align(ref: Sequence[Hashable], hyp: Sequence[Hashable]) -> Alignment:
    """Align a reference with a hypothesis.

    Args:
        ref: reference words (or any tokens).
        hyp: hypothesis words.

    Returns:
        The cheapest alignment; among equally cheap ones, the one that sclite picks.
    """
    if isinstance(ref, str) or isinstance(hyp, str):
        raise TypeError("align takes sequences of words, not strings: split them first")
    long = len(ref) * len(hyp) > LONG
    rows = _costs_of_long(ref, hyp) if long else _costs(ref, hyp)
    pairs: list[Pair] = []
    counts = {"cor": 0, "sub": 0, "del": 0, "ins": 0}
    i, j = len(ref), len(hyp)
    while i or j:
        op: Op
        cost = rows[i][j]
        same = bool(i and j) and ref[i - 1] == hyp[j - 1]
        if i and j and cost == rows[i - 1][j - 1] + (0 if same else SUBSTITUTION):
            i, j, op = i - 1, j - 1, "cor" if same else "sub"
        elif j and cost == rows[i][j - 1] + INSERTION:
            j, op = j - 1, "ins"
        else:
            i, op = i - 1, "del"
        pairs.append(Pair(op, None if op == "ins" else i, None if op == "del" else j))
        counts[op] += 1
    pairs.reverse()
    return Alignment(tuple(pairs), counts["cor"], counts["sub"], counts["del"], counts["ins"])


def _costs(ref: Sequence[Hashable], hyp: Sequence[Hashable]) -> list[list[int]]:
    """Cost of aligning every beginning of `ref` (rows) with every beginning of `hyp` (columns)."""
    rows = [[INSERTION * j for j in range(len(hyp) + 1)]]
    for i, word in enumerate(ref, 1):
        above = rows[-1]
        left = DELETION * i
        row = [left]
        for j, other in enumerate(hyp, 1):
            cost = above[j - 1] if word == other else above[j - 1] + SUBSTITUTION
            left = min(cost, above[j] + DELETION, left + INSERTION)
            row.append(left)
        rows.append(row)
    return rows


def _costs_of_long(ref: Sequence[Hashable], hyp: Sequence[Hashable]) -> np.ndarray[Any, Any]:
    """Return what `_costs` does, `(len(ref) + 1, len(hyp) + 1)` int32: a row at a time.

    Insertions in a row add up from its left: without what they cost by place, the cheapest way to
    a place is the cheapest to any place before it.
    """
    number: dict[Hashable, int] = {}
    ours, theirs = (
        np.array([number.setdefault(word, len(number)) for word in words]) for words in (ref, hyp)
    )
    steps = INSERTION * np.arange(len(hyp) + 1, dtype=np.int32)
    rows = np.empty((len(ref) + 1, len(hyp) + 1), np.int32)
    rows[0] = steps
    for i, word in enumerate(ours):
        best = rows[i] + DELETION
        np.minimum(best[1:], rows[i, :-1] + SUBSTITUTION * (theirs != word), out=best[1:])
        rows[i + 1] = np.minimum.accumulate(best - steps) + steps
    return rows
