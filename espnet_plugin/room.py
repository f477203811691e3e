"""Room on disks: checked before something large is written, and said in words for people."""

import errno
import shutil
from collections.abc import Iterable
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT)  # of an OSError: no room


class DiskError(ValueError):
    """Something cannot be written; the message says what it needs, and what to do."""


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:,.1f} GB"


def free_bytes(path: Path) -> int:
    """Return what an ordinary user may still write to a path's disk; it need not be there yet."""
    return shutil.disk_usage(_nearest(path)).free


def check_room(needed: Iterable[tuple[Path, int]], what: str) -> None:
    """Check that disks have room; a full one would be noticed only at the end.

    Args:
        needed: Paths to be written, with the bytes of each; those on one disk are added up.
        what: What needs them and what to do, for the message.

    Raises:
        DiskError: Names the first path that has no room left.
    """
    totals: dict[int, int] = {}
    for path, count in needed:
        device = _nearest(path).stat().st_dev
        totals[device] = totals.get(device, 0) + count
        if totals[device] > (free := free_bytes(path)):
            raise DiskError(
                f"{path}: no room: {size(totals[device])} are needed, {size(free)} are free. {what}"
            )


def _nearest(path: Path) -> Path:
    """Return the path, or the nearest directory above it that is there."""
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())
