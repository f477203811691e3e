"""A shuffle of any number of things that needs no memory: a keyed permutation, place by place.

A Feistel network over pairs `(left, right)` is a bijection whatever its round function is. Its
domain, `rows x columns`, is the least near-square one that holds all places; a place that falls
outside the wanted range is sent through again until it falls inside ("cycle walking"), which
keeps the map a bijection. See Black and Rogaway, "Ciphers with arbitrary finite domains", 2002.
"""

import numpy as np

ROUNDS = 4


def mix(*parts: int | np.ndarray) -> np.ndarray:
    """Hash non-negative numbers or arrays of them, broadcast, to uint64 (splitmix64's steps)."""
    value = np.zeros(1, np.uint64)
    for part in parts:
        value = value + np.asarray(part).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    return value


def shuffled(places: np.ndarray, sizes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Return where each place goes under the permutation of `0 .. size - 1` that a key names.

    Args:
        places: `(n,)` int64, each below its size.
        sizes: `(n,)` int64, at least 1 and below 2**32: how many things are shuffled together.
        keys: `(n,)` uint64, or `(1,)`: which permutation; see `mix`.

    Returns:
        `(n,)` int64. For a fixed size and key it is a bijection.
    """
    rows = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    columns = (sizes.astype(np.uint64) + rows - np.uint64(1)) // rows
    keys = np.broadcast_to(keys, places.shape)
    found = _rounds(places.astype(np.uint64), rows, columns, keys).astype(np.int64)
    outside = np.flatnonzero(found >= sizes)
    while len(outside):
        again = found[outside].astype(np.uint64)
        again = _rounds(again, rows[outside], columns[outside], keys[outside])
        found[outside] = again.astype(np.int64)
        outside = outside[found[outside] >= sizes[outside]]
    return found


def _rounds(
    places: np.ndarray, rows: np.ndarray, columns: np.ndarray, keys: np.ndarray
) -> np.ndarray:
    left, right = places // columns, places % columns
    for number in range(ROUNDS):
        left = _add(left, _draw(right, keys, 2 * number, rows), rows)
        right = _add(right, _draw(left, keys, 2 * number + 1, columns), columns)
    return left * columns + right


def _draw(half: np.ndarray, keys: np.ndarray, number: int, below: np.ndarray) -> np.ndarray:
    """Draw a number below a bound from a half, the key and the round (Lemire's reduction)."""
    value = (half + keys + np.uint64((number * 0x9E3779B97F4A7C15) & (1 << 64) - 1)) * np.uint64(
        0xBF58476D1CE4E5B9
    )
    value = (value ^ (value >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
    return ((value >> np.uint64(32)) * below) >> np.uint64(32)


def _add(half: np.ndarray, drawn: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Add modulo a bound that both are below."""
    total = half + drawn
    return np.where(total >= below, total - below, total)
