"""Bytes of plain and compressed files, cut at line ends, in constant memory."""

import gzip
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CHUNK = 1 << 20  # bytes read at a time
_PROBE = 1 << 16  # bytes read at a time in search of a line end

_BOM = b"\xef\xbb\xbf"
# UTF-32 comes first: its little-endian mark begins with that of UTF-16
_OTHER_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAGIC = {
    b"\x1f\x8b": "gzip (.gz)",
    b"\x28\xb5\x2f\xfd": "Zstandard (.zst)",
    b"\xfd7zXZ\x00": "xz (.xz)",
    b"PAR1": "parquet (.parquet)",
    b"PK\x03\x04": "a zip archive; unpack it",
}


def _open(path: Path, compression: str) -> Any:
    if compression == ".gz":
        return gzip.open(path, "rb")
    if compression == ".xz":
        return lzma.open(path, "rb")
    if compression == ".zst":
        import pyarrow  # its reader tells a truncated file from a complete one

        return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path), "rb"), "zstd")
    return open(path, "rb", buffering=0)


def read_chunks(path: str | Path, compression: str = "") -> Iterator[bytes]:
    """Read a file from start to end, uncompressed, without a UTF-8 byte order mark.

    Args:
        path: The file.
        compression: `.gz .zst .xz`, or empty.

    Yields:
        Not empty, at most `CHUNK` bytes.

    Raises:
        ValueError: A compressed file that is truncated or damaged; text in UTF-16 or UTF-32; a
            file that is something else than its name says. Names the file.
    """
    path = Path(path)
    if compression and not path.stat().st_size:
        raise ValueError(f"{path}: truncated: a {compression} file of 0 bytes")
    first = True
    with _open(path, compression) as file:
        while True:
            try:
                chunk = file.read(CHUNK)
            except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
                if isinstance(error, OSError) and error.errno:
                    raise  # the disk, not the file's content
                raise ValueError(f"{path}: truncated or damaged {compression} ({error})") from error
            if first:
                chunk, first = chunk[_text_start(chunk, path) :], False
                if not chunk:
                    continue  # a mark and nothing else, or an empty file: the next read ends it
            if not chunk:
                return
            yield chunk


def _text_start(head: bytes, path: Path) -> int:
    """Return the length of the byte order mark; refuse what is not UTF-8 text."""
    for mark, encoding in _OTHER_BOMS.items():
        if head.startswith(mark):
            raise ValueError(
                f"{path}: {encoding} text (byte order mark {mark.hex(' ')}), UTF-8 is needed; "
                f"convert it: iconv -f {encoding} -t UTF-8 FILE > NEW"
            )
    for magic, kind in _MAGIC.items():
        if head.startswith(magic):
            raise ValueError(f"{path}: the name says text, the content is {kind}")
    return len(_BOM) if head.startswith(_BOM) else 0


def whole_lines(
    chunks: Iterable[bytes], block_bytes: int, longest: int
) -> Iterator[tuple[bytes, int]]:
    """Cut a stream at the first line end at or after each `block_bytes`.

    Of a line longer than `longest` the surplus is left out, so that memory stays bounded and the
    reader still sees a line that is too long.

    Yields:
        Whole lines, and how many bytes of the stream they stand for.
    """
    buffer, left_out = bytearray(), 0
    for chunk in chunks:
        buffer += chunk
        while len(buffer) >= block_bytes:
            end = buffer.find(b"\n", block_bytes - 1) + 1
            if not end:
                surplus = len(buffer) - (buffer.rfind(b"\n") + 1) - longest - 1
                if surplus > CHUNK:  # not at every chunk: it costs a search
                    del buffer[-surplus:]
                    left_out += surplus
                break
            with memoryview(buffer) as view:
                lines = bytes(view[:end])
            yield lines, end + left_out
            del buffer[:end]
            left_out = 0
    if buffer:
        yield bytes(buffer), len(buffer) + left_out


def iterate_lines(path: str | Path, compression: str, longest: int) -> Iterator[bytes]:
    """Read a file line by line, without line ends; lines above `longest` come cut."""
    for data, _ in whole_lines(read_chunks(path, compression), _PROBE, longest):
        yield from data.removesuffix(b"\n").split(b"\n")


def ranges(path: str | Path, block_bytes: int) -> Iterator[tuple[int, int]]:
    """Cut a plain file where `whole_lines` would, reading only near the cuts.

    Yields:
        First byte and one past the last of whole lines.

    Raises:
        ValueError: As `read_chunks`.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        start = _text_start(file.read(8), Path(path))
        while start < size:
            end = start + block_bytes
            file.seek(end - 1)
            while end < size:
                probe = file.read(_PROBE)
                found = probe.find(b"\n")
                if found >= 0:
                    end += found
                    break
                end += len(probe)
                if not probe:
                    break
            end = min(end, size)
            yield start, end
            start = end


def read_range(path: str | Path, start: int, end: int, most: int) -> bytes:
    """Read the bytes `start` to `end` of a plain file, at most `most` of them.

    Raises:
        ValueError: The file has become shorter since it was cut.
    """
    wanted = min(end - start, most)
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read(wanted)
    if len(data) < wanted:
        raise ValueError(f"{path}: has become shorter while it was read")
    return data


def count_lines(path: str | Path, end: int) -> int:
    """Count the line ends in the first `end` bytes of a plain file."""
    lines = 0
    with open(path, "rb", buffering=0) as file:
        while end > 0 and (chunk := file.read(min(end, CHUNK))):
            lines += chunk.count(b"\n")
            end -= len(chunk)
    return lines
