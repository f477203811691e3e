"""Exact duplicates, caps by source and the validation split, decided by 64-bit hashes of the lines.

What counts as the same line is its normal form: Unicode NFKC, lower case, and every run of
characters that are not letters, marks or digits made one space (none at the ends). So `Jom, makan!`
and `jom makan` are the same; lines without any letter or digit all are. The hash is xxHash64 of the
normal form in UTF-8: among 38 million different lines the chance that any two share one is 4e-5.
(What is a letter follows the Unicode tables of Python and `regex`: characters younger than either
may be judged differently by other versions.)

Memory of the decisions over a whole corpus: the hashes that the caller gives (8 bytes a line), 1
byte a line for the result, and the temporary arrays named below: 0.5 GB for 38 million lines, 1 GB
with a cap by source.
"""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
import regex

# Raised whenever the normal form or the hash changes: the lines kept, and the split, change too.
DEDUP_VERSION = "1"

PARTITION = 1 << 21  # lines whose hashes are sorted together
_NOT_WORD = regex.compile(r"[^\p{L}\p{M}\p{N}\n]+")
_ASCII = bytes(
    ord(chr(code).lower()) if chr(code).isalnum() and code < 128 else 10 if code == 10 else 32
    for code in range(256)
)


def normal_forms(texts: Sequence[str]) -> list[bytes]:
    """Reduce lines to what makes them the same line (see the module).

    Args:
        texts: lines; line ends inside them count as spaces.

    Returns:
        The normal form of each, UTF-8.
    """
    forms: list[bytes] = [b""] * len(texts)
    plain = [index for index, text in enumerate(texts) if text.isascii()]
    other = [index for index, text in enumerate(texts) if not text.isascii()]
    joined = _joined([texts[index] for index in plain]).encode().translate(_ASCII)
    for index, form in zip(plain, joined.split(b"\n"), strict=False):
        forms[index] = b" ".join(form.split())
    wide = unicodedata.normalize("NFKC", _joined([texts[index] for index in other])).lower()
    wide = _NOT_WORD.sub(" ", unicodedata.normalize("NFKC", wide))
    for index, line in zip(other, wide.split("\n"), strict=False):
        forms[index] = line.strip(" ").encode()
    return forms


def _joined(texts: list[str]) -> str:
    """Join lines by line ends, so that each stays one line."""
    joined = "\n".join(texts)
    if joined.count("\n") > len(texts) - 1:
        joined = "\n".join([text.replace("\n", " ") for text in texts])
    return joined


def line_hashes(texts: Sequence[str]) -> np.ndarray:
    """Hash the normal forms of lines.

    Args:
        texts: lines.

    Returns:
        `(lines,)` uint64.

    Raises:
        ValueError: xxhash is not installed.
    """
    return _hashes(normal_forms(texts))


def source_hashes(sources: Sequence[str]) -> np.ndarray:
    """Hash the names of the lines' sources, exactly as written.

    Returns:
        `(lines,)` uint64.

    Raises:
        ValueError: xxhash is not installed.
    """
    names = list(dict.fromkeys(sources))
    hashes = dict(zip(names, _hashes([name.encode() for name in names]).tolist(), strict=True))
    return np.fromiter(map(hashes.__getitem__, sources), np.uint64, len(sources))


def _hashes(values: list[bytes]) -> np.ndarray:
    try:
        from xxhash import xxh64_intdigest
    except ImportError:
        raise ValueError("text needs xxhash: pip install 'espnet-asyncswitch[text]'") from None
    return np.fromiter(map(xxh64_intdigest, values), np.uint64, len(values))


def mix(hashes: np.ndarray, salt: str = "") -> np.ndarray:
    """Turn hashes into others that look independent of them and of those of another salt.

    SplitMix64's finaliser (Steele, Lea and Flood 2014) over the hash and that of the salt.

    Args:
        hashes: any shape, uint64.
        salt: any text.

    Returns:
        The same shape, uint64.
    """
    x = hashes.astype(np.uint64) ^ _hashes([salt.encode()])[0]
    x ^= x >> np.uint64(30)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(27)
    x *= np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return x


def in_validation(hashes: np.ndarray, share: float, salt: str = "validation") -> np.ndarray:
    """Choose the held-out lines: a function of each line's hash and the salt alone.

    So the choice is the same whatever the order of the lines or the number of workers, equal lines
    fall on the same side, and a line stays on its side when the corpus grows.

    Args:
        hashes: `(lines,)` uint64, of `line_hashes`.
        share: of the lines to hold out, from 0 to below 1; met on average.
        salt: another one gives another split.

    Returns:
        `(lines,)` bool, True where held out.

    Raises:
        ValueError: the share is outside its range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"validation share is {share}; allowed is 0 <= share < 1")
    return mix(hashes, salt) >> np.uint64(11) < np.uint64(round(share * 2**53))


def first_occurrences(
    hashes: Iterable[np.ndarray], keep: Sequence[np.ndarray] | None = None
) -> list[np.ndarray]:
    """Keep the first line of each hash, in corpus order.

    The hashes are sorted a partition (about two million lines) at a time: 100 MB beside them.

    Args:
        hashes: a block `(lines,)` uint64 each, in corpus order.
        keep: a block `(lines,)` bool each: the lines that still count; None for all.

    Returns:
        A block `(lines,)` bool each: True for a line that counts and has no earlier equal.

    Raises:
        ValueError: `keep` has other blocks than the hashes.
    """
    blocks = list(hashes)
    flat, masks = start_masks(blocks, keep)
    for members, order, starts in buckets(blocks, masks):
        flat[members] = False
        flat[members[np.minimum.reduceat(order, starts)]] = True
    return masks


def start_masks(
    blocks: Sequence[np.ndarray], keep: Sequence[np.ndarray] | None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Copy the masks of the lines that count, or make them.

    Args:
        blocks: `(lines,)` each.
        keep: `(lines,)` bool each; None for all lines.

    Returns:
        `(all lines,)` bool, and views of it, a block `(lines,)` each.

    Raises:
        ValueError: `keep` has other blocks than the lines.
    """
    sizes = [len(block) for block in blocks]
    found = sizes if keep is None else [len(mask) for mask in keep]
    if found != sizes:
        raise ValueError(
            f"the masks cover {sum(found)} lines in {len(found)} blocks, the corpus has "
            f"{sum(sizes)} in {len(sizes)}"
        )
    flat = np.ones(sum(sizes), bool)
    masks = np.split(flat, np.cumsum(sizes)[:-1]) if sizes else []
    for mask, given in zip(masks, keep or [], strict=False):
        mask[:] = given
    return flat, masks


def buckets(
    blocks: Sequence[np.ndarray], masks: Sequence[np.ndarray]
) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Group the lines of equal hash, a partition of the hashes at a time.

    Args:
        blocks: `(lines,)` uint64 each.
        masks: `(lines,)` bool each: the lines that count. May change between the partitions.

    Yields:
        `members` `(n,)` int64, the partition's line numbers in the corpus, ascending; `order`
        `(n,)` int64 that sorts them by hash (in any order where equal); and where in it each hash
        begins. Partitions without lines are left out.
    """
    total = sum(len(block) for block in blocks)
    bits = max(0, (max(total, 1) - 1) // PARTITION).bit_length()
    for part in range(1 << bits):
        values, members, offset = [], [], 0
        for block, mask in zip(blocks, masks, strict=True):
            chosen = mask if bits == 0 else mask & (block >> np.uint64(64 - bits) == part)
            lines = np.flatnonzero(chosen)
            values.append(block[lines])
            members.append(lines + offset)
            offset += len(block)
        if not any(map(len, members)):
            continue
        flat = np.concatenate(values)
        del values
        order = np.argsort(flat)
        flat = flat[order]
        starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
        yield np.concatenate(members), order, starts


def cap_per_source(
    hashes: Sequence[np.ndarray],
    sources: Sequence[np.ndarray],
    cap: int,
    keep: Sequence[np.ndarray] | None = None,
    salt: str = "cap",
) -> list[np.ndarray]:
    """Keep at most `cap` lines of each source: those whose salted hash is smallest.

    That is a sample without regard to the order of the lines, so a source that is sorted by date or
    topic keeps all of them in proportion, and the choice does not depend on the workers. Equal
    lines, where duplicates were kept, are taken in corpus order. Beside its arguments it needs 8
    bytes for each line of a source that exceeds the cap and 16 for each source.

    Args:
        hashes: a block `(lines,)` uint64 each, of `line_hashes`.
        sources: a block `(lines,)` uint64 each, of `source_hashes`.
        cap: lines of a source to keep, at least 1.
        keep: a block `(lines,)` bool each: the lines that still count; None for all.
        salt: another one gives another sample.

    Returns:
        A block `(lines,)` bool each.

    Raises:
        ValueError: the cap is below 1, or the blocks differ in number or length.
    """
    if cap < 1:
        raise ValueError(f"cap per source is {cap}; allowed is 1 or more")
    _, masks = start_masks(hashes, keep)
    if [len(block) for block in sources] != [len(block) for block in hashes]:
        raise ValueError("the sources have other blocks than the hashes")
    large, total = _sources_above(sources, masks, cap)
    if not len(large):
        return masks
    # One sortable key a line: the source's rank in the high bits, its hash in the others.
    bits = np.uint64(max(1, len(large) - 1).bit_length())
    flat, filled = np.empty(total, np.uint64), 0
    for block, source, mask in zip(hashes, sources, masks, strict=True):
        _, key = _keys(block, source, mask, large, bits, salt)
        flat[filled : filled + len(key)] = key
        filled += len(key)
    flat.sort()
    ranks = np.arange(len(large), dtype=np.uint64) << (np.uint64(64) - bits)
    starts = np.searchsorted(flat, ranks)
    last = flat[starts + cap - 1]  # the largest key that is kept
    left = dict(enumerate((starts + cap - np.searchsorted(flat, last)).tolist()))
    del flat
    for block, source, mask in zip(hashes, sources, masks, strict=True):
        lines, key = _keys(block, source, mask, large, bits, salt)
        limit = last[(key >> (np.uint64(64) - bits)).astype(np.int64)]
        mask[lines[key > limit]] = False
        for index in np.flatnonzero(key == limit):
            rank = int(key[index] >> (np.uint64(64) - bits))
            mask[lines[index]] = left[rank] > 0
            left[rank] -= 1
    return masks


def _sources_above(
    sources: Sequence[np.ndarray], masks: Sequence[np.ndarray], cap: int
) -> tuple[np.ndarray, int]:
    """Find the sources with more lines than the cap, ascending, and how many lines they have."""
    names, counts = np.empty(0, np.uint64), np.empty(0, np.int64)
    for source, mask in zip(sources, masks, strict=True):
        new, found = np.unique(source[mask], return_counts=True)
        names, places = np.unique(np.concatenate([names, new]), return_inverse=True)
        weights = np.concatenate([counts, found])
        counts = np.zeros(len(names), np.int64)
        np.add.at(counts, places, weights)
    above = counts > cap
    return names[above], int(counts[above].sum())


def _keys(
    hashes: np.ndarray,
    sources: np.ndarray,
    mask: np.ndarray,
    large: np.ndarray,
    bits: np.uint64,
    salt: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Give the lines of a block that belong to large sources, and their keys."""
    lines = np.flatnonzero(mask)
    places = np.minimum(np.searchsorted(large, sources[lines]), len(large) - 1)
    found = large[places] == sources[lines]
    lines, places = lines[found], places[found].astype(np.uint64)
    return lines, (places << (np.uint64(64) - bits)) | (mix(hashes[lines], salt) >> bits)
