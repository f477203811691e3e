"""Room on the disk: what a checkpoint takes, errors of writing, and what killed writes left."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espnet_plugin.room import FULL, DiskError, check_room, free_bytes, size

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{6}\.\d+\.[0-9a-f]{8}\.tmp")  # as `temporary_sibling` names


def tensor_bytes(value: Any) -> int:
    """Return the bytes of all tensors in nested mappings and sequences."""
    if hasattr(value, "element_size"):
        return int(value.numel() * value.element_size())
    if isinstance(value, Mapping):
        return sum(tensor_bytes(part) for part in value.values())
    if isinstance(value, list | tuple):
        return sum(tensor_bytes(part) for part in value)
    return 0


@contextmanager
def named_errors(path: Path, needed: int, kept: str) -> Iterator[None]:
    """Turn an operating system's error in the block into one that helps.

    Args:
        path: The file being written.
        needed: Bytes that it takes.
        kept: What is still whole.

    Raises:
        DiskError: Names the file, the bytes it needs and those that are free.
    """
    try:
        yield
    except OSError as error:
        free = free_bytes(path.parent)
        help_ = "make room" if error.errno in FULL else "mend that"
        raise DiskError(
            f"{path}: {error.strerror or error}; it takes about {size(needed)}, {size(free)} are "
            f"free. {kept}: {help_}, and run the same command again"
        ) from error


def remove_leftovers(directory: Path) -> list[str]:
    """Remove the temporary files that killed writes left in a run's directory; returns their names.

    A run owns its directory, so those of other machines go as well: a requeued job often runs on
    another node, and each may be as large as a checkpoint.
    """
    found = [p for p in directory.glob(".*.tmp") if TEMPORARY.fullmatch(p.name) and p.is_file()]
    for path in found:
        path.unlink(missing_ok=True)
    return sorted(path.name for path in found)


def check_checkpoints(directory: Path, model: int, moving: int, weights: int) -> str | None:
    """Check before a run that its checkpoints fit.

    The estimate takes two moments for each moving parameter, as Adam has.

    Args:
        directory: Output directory; what an earlier run left there counts as room.
        model: Bytes of the model.
        moving: Bytes of the parameters that will ever move.
        weights: How many weights files of epochs are kept at most, and the finished model.

    Returns:
        A warning, or None.

    Raises:
        DiskError: If a checkpoint could not be replaced safely: two of them do not fit.
    """
    checkpoint = model + 2 * moving
    held = sum(p.stat().st_size for p in directory.glob("*.pth") if not p.is_symlink())
    two, three = (count * checkpoint + weights * model - held for count in (2, 3))
    said = f"A checkpoint takes about {size(checkpoint)}, the model {size(model)}"
    check_room(
        [(directory, two)],
        f"{said}, and one is written beside the one before: make room, or give another "
        "--output_dir",
    )
    if (free := free_bytes(directory)) < three:
        return (
            f"{directory}: {size(free)} are free. {said}: {size(three)} would keep two and write "
            "a third. The older one will be removed before each write"
        )
    return None
