"""Tensors in files, read and written in pieces.

Plain reads and writes, not memory maps: a mapped file counts towards a process's memory and address
space as far as it was touched, and its end, should the file become shorter, is a crash.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Self

CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Place:
    """One tensor in a file.

    Attributes:
        path: The file.
        dtype: `float32`, `float16`, `bfloat16`; another type by its name in safetensors files.
        shape: Its shape.
        start: Its first byte in the file.
        nbytes: Its bytes.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    nbytes: int

    @property
    def head(self) -> bytes:
        """What stands before the tensor's bytes where it is hashed: its dtype and shape."""
        return f"{self.dtype} {self.shape}\n".encode()


class _Files:
    """Unbuffered files that stay open; for one thread."""

    mode = "rb"

    def __init__(self) -> None:
        self._open: dict[Path, FileIO] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()

    def _at(self, path: Path, position: int) -> FileIO:
        if path not in self._open:
            self._open[path] = FileIO(path, self.mode)
        self._open[path].seek(position)
        return self._open[path]


class Reader(_Files):
    """Reads tensors."""

    def fill(self, buffer: memoryview, place: Place, offset: int = 0) -> None:
        """Fill a buffer of bytes with a tensor's bytes from `offset` on.

        Raises:
            ValueError: The file has become shorter than its header says.
        """
        file, done = self._at(place.path, place.start + offset), 0
        while done < len(buffer):  # the system may read less than it is asked for
            count = file.readinto(buffer[done:])
            if not count:
                raise ValueError(f"{place.path}: the file ends inside a tensor")
            done += count
        left = min(done, place.nbytes - offset - done)
        if left > 0 and hasattr(os, "posix_fadvise"):  # the disk reads the next piece meanwhile
            at = place.start + offset + done
            os.posix_fadvise(file.fileno(), at, left, os.POSIX_FADV_WILLNEED)

    def pieces(self, place: Place, buffer: memoryview) -> Iterator[memoryview]:
        """Read a tensor piece by piece into a buffer; yields the part that was filled."""
        for offset in range(0, place.nbytes, len(buffer)):
            piece = buffer[: min(len(buffer), place.nbytes - offset)]
            self.fill(piece, place, offset)
            yield piece


class Writer(_Files):
    """Writes into files that exist."""

    mode = "r+b"

    def write(self, path: Path, position: int, data: memoryview) -> None:
        """Write bytes at a position, and let the disk begin with them.

        Raises:
            OSError: The disk is full or fails; names the file, which Python's own does not.
        """
        file, done = self._at(path, position), 0
        try:
            while done < len(data):
                done += file.write(data[done:]) or 0
        except OSError as error:
            error.filename = str(path)
            raise
        if hasattr(os, "posix_fadvise"):
            # What was just written cannot be dropped yet; Linux begins to write it out instead,
            # which otherwise waits for gigabytes or for the final fsync.
            os.posix_fadvise(file.fileno(), position, done, os.POSIX_FADV_DONTNEED)


def same_bytes(one: Place, two: Place) -> bool:
    """Tell whether two stored tensors are the same, bit for bit; reads them in pieces."""
    if one.head != two.head:
        return False
    buffers = [memoryview(bytearray(min(CHUNK_BYTES, max(1, one.nbytes)))) for _ in range(2)]
    with Reader() as first, Reader() as second:
        pairs = zip(first.pieces(one, buffers[0]), second.pieces(two, buffers[1]), strict=True)
        return all(bytes(a) == bytes(b) for a, b in pairs)  # views compare byte by byte, slowly
