"""Random numbers that depend on a name, not on the order or the process in which work is done."""

import hashlib
import random


def keyed_random(seed: int, *key: object) -> random.Random:
    """Make the random generator that belongs to a name.

    The same seed and key give the same numbers in every process and on every machine (Python's
    ``hash`` would not: it is salted), so that ten workers make the corpus that one would make.

    Args:
        seed: The experiment's seed.
        *key: What the numbers are for, e.g. ``("noise", "te01f2-cs0042")``.

    Returns:
        A generator of its own.
    """
    name = "\x1f".join(str(part) for part in (seed, *key))
    return random.Random(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big"))


def keyed_order(seed: int, names: list[str], *key: object) -> list[str]:
    """Sort names into a random order in which each name's place is drawn by the name itself.

    Args:
        seed: The experiment's seed.
        names: Distinct names.
        *key: What the order is for.

    Returns:
        The same names.
    """
    return sorted(names, key=lambda name: (keyed_random(seed, *key, name).random(), name))
