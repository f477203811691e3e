"""Near-duplicate lines by MinHash and banded LSH, in bounded memory and corpus order.

A line is the set of the character n-grams of its normal form (see `dedup`). Its signature is the
MinHash of that set (Broder 1997), computed by rensa and cut to 16 bits a value (b-bit minwise
hashing, Li and Koenig 2010; two unrelated values agree by chance once in 65 536). The values are
cut into bands of a few rows; lines with an equal band are candidates (locality-sensitive hashing,
Indyk and Motwani 1998), and candidates are near-duplicates where at least `threshold` of all values
agree, an unbiased estimate of the sets' Jaccard similarity (standard error 0.05 at 60 values).

**Which line is dropped.** In each band a line is compared with two lines of its bucket, the first
of the corpus and the last one before it; it is dropped if either is a near-duplicate. The first
line of a cluster is therefore always kept, and the result depends on the lines and their order
alone. A chain (a near b, b near c, a not near c) leaves its first line.

**Memory and disk.** A line's signature takes 120 bytes on disk by default (38 million lines: 4.6
GB), written while the lines are read. The decision reads one band of the keys at a time: 8 bytes a
line for it, 1 for the result, and about 100 MB: 0.4 GB for 38 million lines. An index that holds
all lines at once needs 0.6 kB a line (rensa's) to 3.6 kB (datasketch's).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from espnet_plugin.text.dedup import buckets, mix, normal_forms, start_masks

# Raised whenever signatures change. rensa's own version is part of `NearDuplicates.fingerprint`.
NEAR_VERSION = "1"

SEED = 1
RECALL = 0.9  # chance that a pair as similar as the threshold becomes a candidate, at least
_LINES = 8192  # lines whose signatures are computed together
_PAIRS = 1 << 18  # pairs whose signatures are compared together
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class NearDuplicates:
    """What counts as a near-duplicate.

    Attributes:
        threshold: smallest Jaccard similarity of two near-duplicates, above 0 and up to 1.
        ngram: characters of an n-gram; a shorter line is one n-gram.
        values: of a signature, at most (as many as whole bands take are used).

    Raises:
        ValueError: a value is outside its range.
    """

    threshold: float = 0.8
    ngram: int = 5
    values: int = 64

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(
                f"near-duplicate threshold is {self.threshold}; allowed is above 0, up to 1"
            )
        if self.ngram < 1:
            raise ValueError(f"near-duplicate ngram is {self.ngram}; allowed is 1 or more")
        if not 16 <= self.values <= 1024:
            raise ValueError(f"near-duplicate values is {self.values}; allowed are 16 to 1024")

    @property
    def rows(self) -> int:
        """Values of a band: as many as find a pair at the threshold with a chance of 0.9."""
        fits = [
            rows
            for rows in range(1, self.values + 1)
            if 1 - (1 - self.threshold**rows) ** (self.values // rows) >= RECALL
        ]
        return max(fits, default=1)

    @property
    def bands(self) -> int:
        """Number of bands."""
        return self.values // self.rows

    def chance(self, similarity: float) -> float:
        """Give the chance that two lines of a Jaccard similarity become candidates."""
        return float(1 - (1 - similarity**self.rows) ** self.bands)

    @property
    def fingerprint(self) -> str:
        """All that the signatures depend on, as one line of text.

        Raises:
            ValueError: rensa is not installed.
        """
        version = _rensa().RMinHash.ALGORITHM_VERSION
        return (
            f"near {NEAR_VERSION}, rensa algorithm {version}, {self.bands} x {self.rows} values, "
            f"{self.ngram}-grams, seed {SEED}"
        )

    def signatures(self, texts: Sequence[str]) -> np.ndarray:
        """Compute the signatures of lines.

        Args:
            texts: lines.

        Returns:
            `(bands, lines, rows)` uint16: a band is contiguous, so that it is read alone.

        Raises:
            ValueError: rensa is not installed.
        """
        matrix = _rensa().RMinHash.digest_matrix_from_flat_token_hashes
        found = np.empty((self.bands, len(texts), self.rows), np.uint16)
        values = self.bands * self.rows
        for low in range(0, len(texts), _LINES):  # a value is an object of Python's on the way
            part = texts[low : low + _LINES]
            rows = matrix(*self._grams(part), values, SEED).to_rows()
            flat = np.fromiter(chain.from_iterable(rows), np.uint32, len(part) * values)
            bands = flat.astype(np.uint16).reshape(len(part), self.bands, self.rows)
            found[:, low : low + _LINES] = bands.transpose(1, 0, 2)
        return found

    def _grams(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Hash the n-grams of lines: all in a row, and where each line's begin (and end)."""
        lines = [form.decode().ljust(self.ngram) for form in normal_forms(texts)]
        flat = np.frombuffer("".join(lines).encode("utf-32-le"), np.uint32).astype(np.uint64)
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        hashes = np.zeros(len(flat) - self.ngram + 1, np.uint64)
        for shift in range(self.ngram):
            hashes *= _MULTIPLIER
            hashes += flat[shift : shift + len(hashes)]
        ends = np.cumsum(lengths)
        whole = np.ones(len(flat), bool)  # n-grams that do not reach into the next line
        for shift in range(1, self.ngram):
            whole[ends - shift] = False
        offsets = np.concatenate([[0], np.cumsum(lengths - self.ngram + 1)])
        return mix(hashes[whole[: len(hashes)]]), offsets.astype(np.uint64)

    def first_of_clusters(
        self, signatures: Sequence[np.ndarray], keep: Sequence[np.ndarray] | None = None
    ) -> list[np.ndarray]:
        """Keep the lines that are near no earlier line (see the module).

        Args:
            signatures: a block `(bands, lines, rows)` uint16 each, in corpus order. An element is
                asked for several times and not kept, so they may be opened (memory-mapped) when
                asked for.
            keep: a block `(lines,)` bool each: the lines that count; None for all.

        Returns:
            A block `(lines,)` bool each: True for a line that counts and is near no earlier one.

        Raises:
            ValueError: signatures of another shape, or `keep` has other blocks.
        """
        sizes = [self._lines(signatures[index]) for index in range(len(signatures))]
        _, counts = start_masks([np.empty(size, bool) for size in sizes], keep)
        left, masks = start_masks(counts, counts)
        for band in range(self.bands):
            keys = [self._band_keys(signatures[index], band) for index in range(len(sizes))]
            for members, order, starts in buckets(keys, counts):
                late, early = _pairs(members, order, starts)
                undecided = left[late]  # not dropped by an earlier band
                late, early = late[undecided], early[undecided]
                for low in range(0, len(late), _PAIRS):
                    part = slice(low, low + _PAIRS)
                    a = _gather(signatures, sizes, late[part])
                    b = _gather(signatures, sizes, early[part])
                    left[late[part][(a == b).mean(axis=1) >= self.threshold]] = False
        return masks

    def _lines(self, block: np.ndarray) -> int:
        if block.ndim != 3 or (block.shape[0], block.shape[2]) != (self.bands, self.rows):
            raise ValueError(
                f"signatures have the shape {block.shape}, expected ({self.bands}, lines, "
                f"{self.rows}): they were made with other settings"
            )
        return block.shape[1]

    def _band_keys(self, block: np.ndarray, band: int) -> np.ndarray:
        key = np.zeros(block.shape[1], np.uint64)
        for row in range(self.rows):
            key = key * _MULTIPLIER + block[band, :, row]
        return mix(key)


def _pairs(
    members: np.ndarray, order: np.ndarray, starts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pair each line with the first of its bucket and with the one before it, `(pairs,)` each."""
    sizes = np.diff(np.concatenate([starts, [len(order)]]))
    bucket = np.repeat(np.arange(len(starts)), sizes)
    shared = sizes[bucket] > 1
    lines, bucket = members[order[shared]], bucket[shared]
    ascending = np.lexsort([lines, bucket])
    lines, bucket = lines[ascending], bucket[ascending]
    begins = np.concatenate([[True], bucket[1:] != bucket[:-1]]) if len(lines) else bucket == 0
    heads = np.flatnonzero(begins)
    first = np.repeat(lines[heads], np.diff(np.concatenate([heads, [len(lines)]])))
    later = np.flatnonzero(~begins)
    late, previous, first = lines[later], lines[later - 1], first[later]
    other = previous != first
    return np.concatenate([late, late[other]]), np.concatenate([first, previous[other]])


def _gather(
    signatures: Sequence[np.ndarray], sizes: Sequence[int], lines: np.ndarray
) -> np.ndarray:
    """Collect the signatures of lines of the corpus, `(lines, values)` uint16."""
    order = np.argsort(lines, kind="stable")
    ends = np.cumsum(sizes)
    cuts = np.searchsorted(lines[order], np.concatenate([[0], ends]))
    found: np.ndarray | None = None
    for block, (low, high) in enumerate(zip(cuts[:-1], cuts[1:], strict=True)):
        if low < high:
            part = signatures[block]
            rows = part[:, lines[order[low:high]] - (ends[block] - sizes[block])]
            if found is None:
                found = np.empty((len(lines), part.shape[0] * part.shape[2]), part.dtype)
            found[order[low:high]] = rows.transpose(1, 0, 2).reshape(high - low, -1)
    return np.empty((0, 1), np.uint16) if found is None else found


def _rensa():  # type: ignore[no-untyped-def]  # rensa has no types
    try:
        import rensa
    except ImportError:
        raise ValueError(
            "near-duplicates need rensa: pip install 'espnet-asyncswitch[text]'"
        ) from None
    return rensa
