"""Zips that are split into volumes, and their directories.

``zip -s`` makes ``x.z01 x.z02 x.zip``, 7-Zip and ``split`` make ``x.zip.001 x.zip.002``. Python's
`zipfile` refuses the first or reads them wrongly: an offset counts from the start of its volume.
"""

import bisect
import functools
import itertools
import os
import re
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from espnet_plugin.corpora.archives import MEMBER_LIMIT, ArchiveError, check_name

_NUMBERED = re.compile(r"(?P<stem>.+\.zip)\.(?P<number>\d{3,})", re.IGNORECASE)
_SPANNED = re.compile(r"(?P<stem>.+)\.z(?P<number>\d{2,})", re.IGNORECASE)
_END, _END64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_ENTRY = struct.Struct("<4s4xHH4xLLLHHHHHLL")
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
Volumes = tuple[str, ...]


def find_zips(folder: str | Path) -> list[Volumes]:
    """List the zips of a folder, each as its volumes in order.

    Raises:
        FileNotFoundError: A volume is missing; names it.
    """
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    numbered: dict[tuple[str, bool], dict[int, str]] = defaultdict(dict)
    for name in names:
        if match := _NUMBERED.fullmatch(name):
            numbered[match["stem"], False][int(match["number"])] = name
        elif match := _SPANNED.fullmatch(name):
            numbered[match["stem"], True][int(match["number"])] = name
    found = {name: (name,) for name in names if name.lower().endswith(".zip")}
    for (stem, spanned), volumes in numbered.items():
        for number in range(1, max(volumes) + 1):
            if number not in volumes:
                name = f"{stem}.z{number:02d}" if spanned else f"{stem}.{number:03d}"
                raise FileNotFoundError(
                    f"{Path(folder) / name}: a volume of a split zip is missing"
                )
        last = [name for name in found if name.lower() == f"{stem}.zip".lower()]
        if spanned and not last:
            name = f"{Path(folder) / stem}.zip"
            raise FileNotFoundError(f"{name}: the last volume of a split zip is missing")
        key = last[0] if spanned else stem
        found[key] = (*(volumes[number] for number in sorted(volumes)), *(last if spanned else ()))
    return [tuple(str(Path(folder) / name) for name in found[key]) for key in sorted(found)]


@functools.lru_cache(maxsize=128)
def _file(path: str, state: tuple[int, int]) -> IO[bytes]:
    """Open a file; the last used ones stay open, the others close when they are dropped."""
    return open(path, "rb", buffering=0)


class Archive:
    """The bytes of a zip's volumes, as if they were one file.

    Args:
        volumes: As `find_zips` lists them.
    """

    def __init__(self, volumes: Volumes) -> None:
        self.volumes = volumes
        stats = [os.stat(path) for path in volumes]
        self._states = [(stat.st_size, stat.st_mtime_ns) for stat in stats]
        sizes = [stat.st_size for stat in stats]
        self._starts = [0, *itertools.accumulate(sizes)][:-1]
        self.size = sum(sizes)
        # offsets of a spanned zip count from their volume's start, of a cut one from the first's
        spanned = len(volumes) > 1 and volumes[-1].lower().endswith(".zip")
        self._bases = self._starts if spanned else [0]

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes that may reach over several volumes; fewer at the end."""
        place = bisect.bisect_right(self._starts, offset) - 1
        data = b""
        while len(data) < size and place < len(self.volumes):
            file = _file(self.volumes[place], self._states[place])
            at = offset + len(data) - self._starts[place]
            data += os.pread(file.fileno(), size - len(data), at)
            place += 1
        return data

    def place(self, offset: int, size: int) -> str | None:
        """Return ``VOLUME:OFFSET`` of a stretch that lies in one volume; else None."""
        place = bisect.bisect_right(self._starts, offset) - 1
        end = self._starts[place + 1] if place + 1 < len(self._starts) else self.size
        at = offset - self._starts[place]
        return f"{self.volumes[place]}:{at}" if offset + size <= end else None

    def entries(self) -> Iterator["Entry"]:
        """Read the central directory.

        Raises:
            ArchiveError: It is damaged or truncated.
            ValueError: A member's name would lead outside, or it is encrypted or a link.
        """
        path = self.volumes[-1]
        tail_start = max(0, self.size - 2**16 - 22 - 20 - 56)
        tail = self.read(tail_start, self.size - tail_start)
        end = tail.rfind(_END)
        if end < 0 or end + 22 > len(tail):
            raise ArchiveError(f"{path}: damaged zip: it has no directory (is it truncated?)")
        disks, _, _, count, size, offset = struct.unpack_from("<HHHHLL", tail, end + 4)
        if _MAX16 in (disks, count) or _MAX32 in (size, offset):
            end64 = tail.rfind(_END64, 0, end)
            if end64 < 0 or tail.rfind(_LOCATOR, end64, end) < 0:
                raise ArchiveError(f"{path}: damaged zip: its 64-bit directory is missing")
            disks, _, _, count, size, offset = struct.unpack_from("<LLQQQQ", tail, end64 + 16)
            end = end64
        if len(self._bases) > 1 and disks != len(self.volumes) - 1:
            raise ArchiveError(f"{path}: has {disks + 1} volumes, {len(self.volumes)} are there")
        # the directory ends where its end record begins, whatever its offset says
        start = tail_start + end - size
        shift = start - offset if len(self._bases) == 1 else 0
        directory = self.read(start, size) if start >= 0 else b""
        if len(directory) != size or shift < 0:
            raise ArchiveError(f"{path}: damaged zip: its directory is truncated")
        yield from self._parse(directory, count, shift)

    def _parse(self, directory: bytes, count: int, shift: int) -> Iterator["Entry"]:
        path, position = self.volumes[-1], 0
        for _ in range(count):
            if directory[position : position + 4] != b"PK\x01\x02":
                raise ArchiveError(f"{path}: damaged zip: its directory is damaged")
            (
                _,
                flags,
                method,
                crc,
                packed,
                size,
                name_size,
                extra_size,
                comment,
                disk,
                _,
                mode,
                at,
            ) = _ENTRY.unpack_from(directory, position)
            position += _ENTRY.size
            raw = directory[position : position + name_size]
            extra = directory[position + name_size : position + name_size + extra_size]
            position += name_size + extra_size + comment
            if _MAX32 in (packed, size, at) or disk == _MAX16:
                size, packed, at, disk = _wide(extra, size, packed, at, disk)
            name = decoded(raw)
            check_name(path, name)
            if name.endswith("/"):
                continue
            if flags & 1:
                raise ValueError(f"{path}: {name!r} is encrypted; unpack it first")
            if mode >> 28 == 0o12:
                raise ValueError(f"{path}: {name!r} is a symbolic link")
            if size > MEMBER_LIMIT:
                raise ValueError(f"{path}: {name!r} has {size} bytes")
            if disk >= len(self._bases):
                raise ArchiveError(f"{path}: damaged zip: {name!r} is in volume {disk + 1}")
            yield Entry(name, self._bases[disk] + at + shift, packed, size, method, crc)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file in a zip: where its header begins, its packed and real size, method and checksum."""

    name: str
    offset: int
    packed: int
    size: int
    method: int
    crc: int


def _wide(extra: bytes, size: int, packed: int, at: int, disk: int) -> list[int]:
    """Take the values that need 64 bits from the entry's extra field."""
    values = b""
    while len(extra) >= 4 and not values:
        kind, length = struct.unpack_from("<HH", extra)
        values, extra = extra[4 : 4 + length] if kind == 1 else b"", extra[4 + length :]
    result = []
    for value, narrow, width in (
        (size, _MAX32, 8),
        (packed, _MAX32, 8),
        (at, _MAX32, 8),
        (disk, _MAX16, 4),
    ):
        if value == narrow and len(values) >= width:
            value, values = int.from_bytes(values[:width], "little"), values[width:]
        result.append(value)
    return result


def decoded(raw: bytes) -> str:
    """Decode a member's name: UTF-8, as most write it, flagged or not; else code page 437."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")
