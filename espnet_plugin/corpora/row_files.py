"""Tables of utterances as data sets publish them, cut into parts and read record by record.

| file | a part is | a record |
| --- | --- | --- |
| `.jsonl` | some megabytes of whole lines | an object; blank lines do not count |
| `.tsv` | the same | a line: no quotes, as Common Voice and FLEURS write it, or quoted |
| `.csv` | some megabytes of whole records | RFC 4180: quoted fields may hold line breaks |
| `.parquet` | some thousand rows | a row |
| `.arrow` | some thousand rows | a row of a stream, as Hugging Face's ``datasets`` saves it |

The first three may be compressed (`.gz`). A part of those can only be reached by decompressing what
is before it: a process goes on where its last part ended, so that it decompresses a file once.
Memory does not grow with the file.
"""

import csv
import functools
import gzip
import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from espnet_plugin.cli import nearest
from espnet_plugin.corpora.corpus import Skip, Unit
from espnet_plugin.corpora.row_groups import cut_arrow, cut_parquet, read_arrow, read_parquet

PART_BYTES = 4 * 2**20
GZIP_PART_BYTES = 64 * 2**20
LONGEST = 16 * 2**20  # bytes of a line
Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a table.

    Attributes:
        path: The file.
        kind: ``jsonl``, ``csv``, ``tsv``, ``quoted_tsv``, ``parquet`` or ``arrow``.
        start: First byte (of the decompressed file) or row.
        end: The one after the last.
        columns: Their names.
    """

    path: str
    kind: str
    start: int
    end: int
    columns: tuple[str, ...] = ()

    @property
    def weight(self) -> int:
        """Roughly how many rows."""
        rows = self.kind in ("parquet", "arrow")
        return max(1, self.end - self.start if rows else (self.end - self.start) // 256)


def kind_of(path: str | Path) -> str | None:
    """Return a table's kind by its name; None where it is no table."""
    name = Path(path).name.lower()
    kind = name.removesuffix(".gz").rpartition(".")[2]
    if kind in ("parquet", "arrow") and name.endswith(".gz"):
        return None
    return kind if kind in ("jsonl", "csv", "tsv", "parquet", "arrow") else None


def _open(path: str) -> IO[bytes]:
    if path.lower().endswith(".gz"):
        return cast(IO[bytes], gzip.open(path, "rb"))
    return open(path, "rb")


def _lines(file: IO[bytes], path: str) -> Iterator[bytes]:
    while line := file.readline(LONGEST + 1):
        if len(line) > LONGEST:
            raise ValueError(f"{path}: a line is longer than {LONGEST} bytes; is this a table?")
        yield line


def _reader(lines: Iterator[str], kind: str) -> Iterator[list[str]]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST))
    if kind == "tsv":
        return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    return csv.reader(lines, delimiter="\t" if kind == "quoted_tsv" else ",")


def parts(
    path: str | Path, kind: str | None = None, header: Sequence[str] | None = None
) -> Iterator[Part]:
    """Cut a table into parts.

    Args:
        path: The file.
        kind: If its name does not say it, or for ``quoted_tsv``.
        header: Names of the columns of a CSV or TSV that has none itself.

    Raises:
        ValueError: No table, not UTF-8, or a truncated or damaged file; names it.
    """
    path = str(path)
    kind = kind or kind_of(path)
    if kind in ("parquet", "arrow"):
        columns, cuts = (cut_parquet if kind == "parquet" else cut_arrow)(path)
        yield from (Part(path, kind, start, end, columns) for start, end in cuts)
    elif kind in ("jsonl", "csv", "tsv", "quoted_tsv"):
        try:
            with _open(path) as file:
                _check_encoding(path, file.read(400))
                file.seek(0)
                yield from _cut_text(path, kind, file, header)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: truncated or damaged ({error})") from None
    else:
        raise ValueError(
            f"{path}: not a table; allowed are .jsonl .csv .tsv (also .gz) .parquet .arrow"
        )


def _check_encoding(path: str, head: bytes) -> None:
    if b"\0" in head or head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(
            f"{path}: not UTF-8 text (UTF-16, or not text at all); iconv -f UTF-16 -t UTF-8"
        )


def _cut_text(
    path: str, kind: str, file: IO[bytes], header: Sequence[str] | None
) -> Iterator[Part]:
    size = GZIP_PART_BYTES if path.lower().endswith(".gz") else PART_BYTES
    columns, start, position = tuple(header or ()), 0, 0
    if kind == "jsonl" and size == PART_BYTES:  # no need to read it
        end = file.seek(0, io.SEEK_END)
        while start < end:
            file.seek(min(start + size, end))
            file.readline()
            position = file.tell()
            yield Part(path, kind, start, position)
            start = position
        return
    # a reader takes one line after the other: at the end of a record it stands at its last byte
    consumed = 0

    def counted() -> Iterator[str]:
        nonlocal consumed
        for line in _lines(file, path):
            consumed += len(line)
            yield line.decode("latin-1")  # quotes and line ends are the same in UTF-8

    lines = counted()
    found: Iterator[Any] = lines if kind == "jsonl" else _reader(lines, kind)
    while True:
        try:
            record = next(found)
        except StopIteration:
            break
        except csv.Error:
            record = []  # reading the part reports it, and goes on at the next line as well
        if kind != "jsonl" and not columns and record:
            names = [name.encode("latin-1").decode("utf-8-sig", "replace") for name in record]
            columns, start = tuple(name.strip() for name in names), consumed
        elif consumed - start >= size:
            yield Part(path, kind, start, consumed, columns)
            start = consumed
    if consumed > start:
        yield Part(path, kind, start, consumed, columns)


def table_units(
    path: str | Path,
    root: str | Path,
    data: Any = None,
    *,
    kind: str | None = None,
    header: Sequence[str] | None = None,
    files: Sequence[str] = (),
) -> Iterator[Unit]:
    """Make a unit of each part of a table; its `data` is ``(part, data)``.

    Args:
        path: The table.
        root: The corpus's root, for the units' names.
        data: What else `read` needs.
        kind: As in `parts`.
        header: As in `parts`.
        files: Further files that its rows are read from.
    """
    name = Path(path).absolute().relative_to(Path(root).absolute(), walk_up=True)
    for part in parts(path, kind, header):
        yield Unit(f"{name}:{part.start}", (str(path), *files), (part, data), part.weight)


def need_columns(part: Part, *names: str) -> None:
    """Check that a table has columns.

    Raises:
        ValueError: It has not; names the file, what it has, and the nearest.
    """
    for name in names if part.kind != "jsonl" else ():
        if name not in part.columns:
            raise ValueError(
                f"{part.path}: has no column '{name}'{nearest(name, part.columns)}; it has "
                f"{' '.join(part.columns) or 'none'}"
            )


def records(
    part: Part, columns: Sequence[str] | None = None
) -> Iterator[tuple[str, int, Record | Skip]]:
    """Read a part.

    Args:
        part: The part.
        columns: Those to read of a parquet or arrow file; those of them that it has.

    Yields:
        A name for messages (``file:row``, ``file@byte``), the row or byte, and the record; or a
        Skip where it is none: not UTF-8, not JSON, another number of columns.

    Raises:
        ValueError: A truncated or damaged file; names it.
    """
    name = Path(part.path).name
    if part.kind in ("parquet", "arrow"):
        read = read_parquet if part.kind == "parquet" else read_arrow
        chosen = [c for c in part.columns if columns is None or c in columns]
        for row, record in read(part.path, part.start, part.end, chosen):
            yield f"{name}:{row}", row, record
        return
    parse: Callable[[bytes, Part], Iterator[tuple[int, Record | Skip]]]
    parse = _json_records if part.kind == "jsonl" else _separated_records
    for offset, found in parse(_text_of(part), part):
        where = f"{name}@{part.start + offset}"
        if isinstance(found, Skip):
            found.item = where
        yield where, part.start + offset, found


@functools.lru_cache(maxsize=4)
def _decompressed(path: str, size: int, changed: int) -> gzip.GzipFile:
    """Open a compressed file; the last few stay open, each at the place where it was left."""
    return gzip.open(path, "rb")


def _text_of(part: Part) -> bytes:
    if part.path.lower().endswith(".gz"):
        stat = os.stat(part.path)
        try:
            stream = _decompressed(part.path, stat.st_size, stat.st_mtime_ns)
            stream.seek(part.start)  # from where it is, if that is before
            data = stream.read(part.end - part.start)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            _decompressed.cache_clear()
            raise ValueError(f"{part.path}: truncated or damaged ({error})") from None
    else:
        with open(part.path, "rb") as file:
            file.seek(part.start)
            data = file.read(part.end - part.start)
    if len(data) < part.end - part.start:
        raise ValueError(f"{part.path}: has become shorter while it was read")
    return data


def _json_records(data: bytes, part: Part) -> Iterator[tuple[int, Record | Skip]]:
    offset = 0
    for line in data.split(b"\n"):
        at, offset = offset, offset + len(line) + 1
        line = line.strip().removeprefix(b"\xef\xbb\xbf")
        if not line:
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield at, Skip("", "not UTF-8", f"byte {error.start + 1} of the line")
        except (ValueError, RecursionError) as error:
            yield at, Skip("", "not JSON", str(error)[:200])
        else:
            bad = Skip("", "not a JSON object", line[:80].decode("utf-8", "replace"))
            yield at, record if isinstance(record, dict) else bad


def _separated_records(data: bytes, part: Part) -> Iterator[tuple[int, Record | Skip]]:
    consumed = 0

    def counted() -> Iterator[str]:
        nonlocal consumed
        for line in io.BytesIO(data):
            text = line.decode("utf-8", "surrogateescape")
            if not consumed and not part.start:
                text = text.removeprefix("\ufeff")
            consumed += len(line)
            yield text

    reader = _reader(counted(), part.kind)
    for _ in itertools.count():
        at = consumed
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield at, Skip("", "not a record", str(error))
            continue
        if not any(row):
            continue
        if len(row) != len(part.columns):
            found = f"{len(row)} columns, not {len(part.columns)}"
            yield at, Skip("", "another number of columns", found)
        elif any("\udc80" <= char <= "\udcff" for field in row for char in field):
            shown = "\t".join(row).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            yield at, Skip("", "not UTF-8", shown[:80])
        else:
            yield at, dict(zip(part.columns, row, strict=True))
