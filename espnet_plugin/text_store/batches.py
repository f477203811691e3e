"""Which lines stand in which batch: token budgets, length buckets, shuffling, all by arithmetic.

Think of the corpus sorted by length, the longest line first. How many lines have which length is
known from the shards' tables, so the place where each batch of that sequence begins follows from a
table with a row per length; it is never written down as a list. A pass over the corpus then
permutes the lines within each length and the order of the batches, by `shuffle.shuffled`. So any
batch of any pass is found at once, in memory that does not grow with the corpus, and each line
stands in one batch of a pass. Only batches that span more than one length hold padding.
"""

import heapq
from itertools import groupby

import numpy as np

from espnet_plugin.text_store.shuffle import mix, shuffled
from espnet_plugin.text_store.store import TextStore, ranges

ORDER = 0  # names the permutation of the batches; that of a bucket is its number + 1

Row = tuple[int, int, int, int]
"""Batches in a row: place of the first line, how many batches, lines of each, end of the group."""


class BatchPlan:
    """Cuts groups of lines, each sorted by length, into batches within a budget.

    Attributes:
        count: Number of batches.
        lines: Number of lines.
        largest: The batch with the most positions (of several, the one with the longest lines).
    """

    def __init__(
        self,
        by_length: np.ndarray,
        extra: int,
        budget: int,
        multiple: int = 1,
        name: str = "text",
        least: int = 1,
    ) -> None:
        """Lay out the batches.

        Args:
            by_length: `(groups, longest + 1)` how many lines of each length a group has. A batch
                holds lines of one group.
            extra: Positions of a line besides its tokens: prompt and end.
            budget: Largest number of positions of a step, of all processes and with padding.
            multiple: So many processes take batches in turns: the number of batches is made a
                multiple of this, by halving some, and each has this part of the budget.
            name: Of the corpus, for messages.
            least: So many processes share the lines of each batch: it has at least one for each.
                The last batches of a group are made even where the rest is too short.

        Raises:
            ValueError: If a line is longer than the budget, or there are too few lines to give
                `multiple` batches, or `least` lines in each batch.
        """
        longest = int(np.flatnonzero(by_length.any(axis=0)).max(initial=0))
        shares = max(multiple, least)
        if by_length.any() and shares * (longest + extra) > budget:
            needed = f"the longest line, {longest + extra} positions with prompt and end"
            if shares > 1:
                needed += f", for each of the {shares} processes that share them"
            raise ValueError(f"{name}: batch_bins {budget} is less than {needed}")
        rows: list[Row] = []
        place = 0
        for counts in by_length:
            reach, end = place, place + int(counts.sum())
            for length in np.flatnonzero(counts)[::-1]:
                reach += int(counts[length])
                size = budget // multiple // (int(length) + extra)
                if number := -(-max(0, reach - place) // size):
                    rows.append((place, number, size, end))
                    place += number * size
            place = end
        rows = _halved(_evened(rows, least, name), multiple, name)
        table = np.asarray(rows, np.int64).reshape(-1, 4)
        self._places, numbers, self._sizes, self._ends = table.T
        self._first = np.cumsum(numbers) - numbers
        self.count, self.lines = int(numbers.sum()), place
        # Of a row, the first batch has the longest lines.
        buckets = np.cumsum(by_length[:, ::-1])
        bucket = np.searchsorted(buckets, self._places, side="right") % by_length.shape[1]
        longest_line = by_length.shape[1] - 1 - bucket
        lines = np.minimum(self._sizes, self._ends - self._places)
        self.largest = int(self._first[np.argmax(lines * (longest_line + extra))])

    def spans(self, batches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the place of each batch's first line and its number of lines, int64."""
        row = np.searchsorted(self._first, batches, side="right") - 1
        places = self._places[row] + (batches - self._first[row]) * self._sizes[row]
        return places, np.minimum(self._sizes[row], self._ends[row] - places)


def _evened(rows: list[Row], least: int, name: str) -> list[Row]:
    """Spread a group's last lines evenly over its last batches where one has fewer than `least`."""
    kept: list[Row] = []
    for end, group in groupby(rows, key=lambda row: row[3]):
        rest, start, taken = list(group), end, 0
        # One batch more at a time: as long as the ones before were too few, no part of these can
        # have more lines than the first of them, whose lines are the longest.
        while end - start < taken * least or not taken:
            if not rest:
                raise ValueError(
                    f"{name}: too few lines to give each of {least} processes one of every batch: "
                    "use fewer processes, more text or more batch_bins"
                )
            place, number, size, _ = rest.pop()
            if number > 1:
                rest.append((place, number - 1, size, end))
            start, taken = place + (number - 1) * size, taken + 1
        edges = [start + (end - start) * part // taken for part in range(taken + 1)]
        parts = zip(edges, edges[1:], strict=False)
        kept += rest + [(low, 1, high - low, end) for low, high in parts]
    return kept


def _halved(rows: list[Row], multiple: int, name: str) -> list[Row]:
    """Halve batches at the ends of groups until the number of batches is a multiple."""
    missing = -sum(row[1] for row in rows) % multiple
    if not missing:
        return rows
    kept: list[Row] = []
    heap: list[tuple[int, int, int]] = []  # (-lines, place, end of the group)
    for end, group in groupby(rows, key=lambda row: row[3]):
        rest, taken = list(group), 0
        # The last batches have the most lines; one more than is missing leaves one to halve.
        while rest and taken <= missing:
            place, number, size, _ = rest.pop()
            if number > 1:
                rest.append((place, number - 1, size, end))
            place += (number - 1) * size
            heap.append((-min(size, end - place), place, end))
            taken += 1
        kept += rest
    heapq.heapify(heap)
    for _ in range(missing):
        size, place, end = -heap[0][0], heap[0][1], heap[0][2]
        if size < 2:
            raise ValueError(
                f"{name}: too few lines to give each of {multiple} processes as many batches as "
                "the others: use fewer processes, more text or more batch_bins"
            )
        heapq.heapreplace(heap, (size // 2 - size, place, end))
        heapq.heappush(heap, (-(size // 2), place + size - size // 2, end))
    return sorted(kept + [(place, 1, -size, end) for size, place, end in heap])


class TextBatches:
    """The lines of every batch of a store, over passes that are laid end to end.

    Batch `n` is batch `n % per_pass` of pass `n // per_pass`. Shuffled, the first of all is the
    largest: if memory does not suffice, that shows at once. Processes share every batch: of 2 of
    them, one takes its lines 0, 2, 4, ... and the other 1, 3, 5, ... So what a step sees does not
    depend on their number, and they have equally many steps.

    Attributes:
        per_pass: Number of batches of a pass.
    """

    def __init__(
        self,
        store: TextStore,
        extra: int,
        budget: int,
        seed: int = 0,
        shuffle: bool = True,
        by_lang: bool = False,
        multiple: int = 1,
        least: int = 1,
    ) -> None:
        """Lay out the batches; reads the shards' length tables, not their lines.

        Args:
            store: The corpus.
            extra: Positions of a line besides its tokens: prompt and end.
            budget: Largest number of positions of a step, of all processes and with padding.
            seed: With the number of the pass, decides the order; nothing else does.
            shuffle: False gives each pass the same batches, the longest lines first.
            by_lang: Each batch holds lines of one language, and languages come one by one.
            multiple: So many processes take batches in turns; see `BatchPlan`.
            least: So many processes share the lines of each batch.

        Raises:
            ValueError: As `BatchPlan`.
        """
        self._store, self._seed, self._shuffle = store, seed, shuffle
        counts = store.by_length
        shards, languages, width = counts.shape
        # Where each (shard, language, length) begins among the store's sorted lines.
        flat = counts.reshape(shards, -1)
        begins = np.cumsum(flat, axis=1) - flat + store.starts[:-1, None]
        # A group's lines of one length are a bucket, in the plan's order: the longest first. It
        # consists of pieces, one for each language and shard.
        groups = languages if by_lang else 1
        by_length = counts.sum(axis=0).reshape(groups, -1, width).sum(axis=1)
        self.plan = BatchPlan(by_length, extra, budget, multiple, str(store.path), least)
        self.per_pass = self.plan.count
        self._buckets = np.concatenate([[0], np.cumsum(by_length[:, ::-1])])
        axes = (1, 2, 0) if by_lang else (2, 1, 0)
        pieces, begins = (
            part.reshape(counts.shape)[:, :, ::-1].transpose(axes).ravel()
            for part in (flat, begins)
        )
        held = pieces > 0
        self._pieces = np.cumsum(pieces[held]) - pieces[held]
        self._shift = begins[held] - self._pieces

    def _order(self, passes: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return which batches stand at some places of some passes."""
        keys = mix(mix(self._seed, passes), ORDER)
        return shuffled(places, np.full(len(places), self.per_pass), keys)

    def lines(
        self, numbers: np.ndarray, rank: int = 0, world: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return which lines stand in batches, or in one process's share of them.

        Args:
            numbers: `(batches,)` int64, from 0, over passes laid end to end.
            rank: Which share.
            world: Number of shares; at most `least`.

        Returns:
            Line numbers of all of them end to end `(lines,)` int64, and the number of lines of
            each batch `(batches,)` int64.
        """
        passes, batches = np.divmod(numbers, self.per_pass)
        if self._shuffle:
            batches = self._order(passes, batches)
            first = int(self._order(np.zeros(1, np.int64), np.zeros(1, np.int64))[0])
            other = np.where(batches == first, self.plan.largest, first)
            swapped = (passes == 0) & np.isin(batches, [first, self.plan.largest])
            batches = np.where(swapped, other, batches)
        starts, sizes = self.plan.spans(batches)
        sizes = (sizes - rank + world - 1) // world
        places = np.repeat(starts, sizes) + ranges(0 * sizes, sizes) * world + rank
        if self._shuffle:
            bucket = np.searchsorted(self._buckets, places, side="right") - 1
            first = self._buckets[bucket]
            keys = mix(np.repeat(mix(self._seed, passes), sizes), bucket + 1)
            places = first + shuffled(places - first, self._buckets[bucket + 1] - first, keys)
        piece = np.searchsorted(self._pieces, places, side="right") - 1
        return self._store.sorted_lines(places + self._shift[piece]), sizes
