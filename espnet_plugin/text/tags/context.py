"""What a word's neighbours say, for a whole block of lines at once.

Both rules are array operations over all the words of a block: no Python loop over words.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Masks = NDArray[np.bool_]

# Chance that the next word is of the other language. Monolingual text switches less, but a single
# borrowed word is two switches. From 0.15 to 0.3 the gold development set is tagged equally well.
SWITCH = 0.2
# Chains longer than this are cut: a line of a hundred thousand words must not make a hundred
# thousand steps.
LONGEST = 512


def posterior(odds: Floats, n_words: NDArray[np.int32], switch: float = SWITCH) -> Floats:
    """Log-odds of every word's language given its whole line.

    A line is a chain of two states, the languages, which changes with probability `switch` at every
    word; the forward and backward messages of such a chain are one number a word. Lines are
    processed side by side, position by position.

    Args:
        odds: log-odds of each word out of context, `(words,)`; 0 where it says nothing.
        n_words: words of each line, `(lines,)`.
        switch: probability of a change between neighbours, over 0 and under 0.5.

    Returns:
        Log-odds, `(words,)`; positive for the first language.
    """
    lengths = _cut(n_words.astype(np.int64))
    starts = np.cumsum(lengths) - lengths
    order = np.argsort(-lengths, kind="stable")
    lengths, starts = lengths[order], starts[order]
    shrink = np.float32(1.0 - 2.0 * switch)
    longest = int(lengths[0]) if len(lengths) else 0
    # Lines that have a word at a position are the first so many in order of length.
    active = len(lengths) - np.searchsorted(lengths[::-1], np.arange(longest), side="right")
    forward = np.zeros_like(odds)
    backward = np.zeros_like(odds)
    ends = starts + lengths - 1
    for position in range(1, longest):
        count = active[position]
        here = starts[:count] + position
        forward[here] = _message(forward[here - 1] + odds[here - 1], shrink)
        here = ends[:count] - position
        backward[here] = _message(backward[here + 1] + odds[here + 1], shrink)
    return forward + odds + backward


def _message(odds: Floats, shrink: np.float32) -> Floats:
    """Pass log-odds on to a neighbour: they shrink towards 0."""
    return (2.0 * np.arctanh(shrink * np.tanh(0.5 * odds))).astype(np.float32, copy=False)


def _cut(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cut lines of more than LONGEST words in pieces."""
    if not len(lengths) or lengths.max() <= LONGEST:
        return lengths[lengths > 0]
    pieces = -(-lengths // LONGEST)
    cut = np.full(int(pieces.sum()), LONGEST, np.int64)
    last = np.cumsum(pieces)[pieces > 0] - 1
    whole = lengths[pieces > 0]
    cut[last] = whole - (pieces[pieces > 0] - 1) * LONGEST
    return cut


def before(mask: NDArray[Any], first: Masks, equal: bool = False) -> Masks:
    """Whether the word before has a property; no word stands before a line's first.

    Args:
        mask: the property, or with `equal` any value, `(words,)`.
        first: whether a word is its line's first, `(words,)`.
        equal: ask whether the word before has the same value.

    Returns:
        The answers, `(words,)`.
    """
    answer = np.zeros(len(mask), np.bool_)
    answer[1:] = mask[1:] == mask[:-1] if equal else mask[:-1]
    return answer & ~first


def after(mask: Masks, first: Masks) -> Masks:
    """Whether the next word of the line has a property (see `before`)."""
    answer = np.zeros(len(mask), np.bool_)
    answer[:-1] = mask[1:] & ~first[1:]
    return answer


def share(mask: Masks, of: Masks, n_words: NDArray[np.int32]) -> Floats:
    """Share of the words of a kind that have a property, in each word's line.

    Args:
        mask: the property, `(words,)`.
        of: the kind, `(words,)`.
        n_words: words of each line, `(lines,)`.

    Returns:
        From 0 to 1, `(words,)`; 0 where the line has no word of the kind.
    """
    line = np.repeat(np.arange(len(n_words)), n_words)
    have = np.bincount(line, mask & of, len(n_words))
    total = np.bincount(line, of, len(n_words))
    return (have / np.maximum(total, 1.0))[line].astype(np.float32)
