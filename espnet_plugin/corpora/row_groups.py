"""Parquet and Arrow files: where to cut them, and their rows; damage is named.

A row of audio may have a megabyte, a row of text a hundred bytes: parts and batches are cut by
bytes, and columns are read page by page, so that memory depends on neither. A row can only be
reached from the start of its group or file: a process goes on where its last part ended, so that it
reads each row once.
"""

import bisect
import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

PART_ROWS = 20_000
PART_BYTES = 256 * 2**20
BATCH_BYTES = 16 * 2**20
_BUFFER = 2**20  # bytes of a column read at a time
_END = b"\xff\xff\xff\xff\0\0\0\0"  # of an Arrow stream
Cuts = list[tuple[int, int]]


@contextlib.contextmanager
def _named(path: str, kind: str) -> Iterator[None]:
    """Turn pyarrow's errors into one that names the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk or the permissions, not the file's content
        raise ValueError(f"{path}: truncated or damaged {kind} ({error})") from None


def _rows_of(size: int, rows: int, limit: int, most: int) -> int:
    """Return how many rows of a file make up about `limit` bytes."""
    return max(1, min(most, limit * max(rows, 1) // max(size, 1)))


def _cut(rows: int, step: int) -> Cuts:
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


def cut_parquet(path: str) -> tuple[tuple[str, ...], Cuts]:
    """Return a parquet file's columns, and ranges of rows to read at a time.

    Raises:
        ValueError: It is truncated or damaged.
    """
    from pyarrow import parquet

    with _named(path, "parquet"), parquet.ParquetFile(path) as file:
        meta = file.metadata
        size = sum(meta.row_group(n).total_byte_size for n in range(meta.num_row_groups))
        step = _rows_of(size, meta.num_rows, PART_BYTES, PART_ROWS)
        return tuple(file.schema_arrow.names), _cut(meta.num_rows, step)


def read_parquet(
    path: str, start: int, end: int, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the values of rows.

    Args:
        path: The file.
        start: First row.
        end: One past the last.
        columns: To be read.

    Raises:
        ValueError: It is truncated or damaged.
    """
    with _named(path, "parquet"):
        yield from _rows(_Parquet, path, start, end, columns)


class _Forward:
    """The rows of a file from some row on, read forwards.

    Args:
        path: The file.
        start: A row that is wanted first.
        columns: To be read.
    """

    def __init__(self, path: str, start: int, columns: Sequence[str]) -> None:
        self.path, self.columns = path, list(columns)
        self.first = self._first(start)  # number of the first row of the batch
        self._batches = self._read()
        self._batch: pyarrow.RecordBatch | None = None

    def _first(self, start: int) -> int:
        """Return the row that reading begins with, to reach another one."""
        return 0

    def _read(self) -> Iterator["pyarrow.RecordBatch"]:
        """Read batches from there on."""
        raise NotImplementedError

    def reaches(self, start: int) -> bool:
        """Tell whether a row is best reached by going on."""
        return self._first(start) <= self.first <= start

    def rows(self, start: int, end: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the number and the values of rows."""
        while start < end:
            there = 0 if self._batch is None else self._batch.num_rows
            if self._batch is None or start >= self.first + there:
                self.first += there
                self._batch = next(self._batches, None)
                if self._batch is None:
                    return
                continue
            low = start - self.first
            high = min(end - self.first, there)
            part = self._batch.slice(low, high - low)
            step = _rows_of(part.nbytes, part.num_rows, BATCH_BYTES, 1024)
            for place in range(0, part.num_rows, step):
                for n, record in enumerate(part.slice(place, step).to_pylist()):
                    yield start + place + n, record
            start = self.first + high


_KEPT = 4  # files that stay open
_open: dict[tuple[Any, ...], _Forward] = {}


def _rows(
    kind: type[_Forward], path: str, start: int, end: int, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield rows, by the reader of an earlier part if that is quicker."""
    stat = os.stat(path)
    key = (path, stat.st_size, stat.st_mtime_ns, *columns)
    reader = _open.pop(key, None)  # nobody else may move it
    if reader is None or not reader.reaches(start):
        reader = kind(path, start, columns)
    yield from reader.rows(start, end)
    while len(_open) >= _KEPT:
        del _open[next(iter(_open))]
    _open[key] = reader  # not one that failed or was left before its end


class _Parquet(_Forward):
    """See `_Forward`; a group of rows can be reached without what is before it."""

    def __init__(self, path: str, start: int, columns: Sequence[str]) -> None:
        from pyarrow import parquet

        # unlike pre-buffered columns, pages are dropped when they have been read
        options = {"buffer_size": _BUFFER, "pre_buffer": False, "page_checksum_verification": True}
        self._file = parquet.ParquetFile(path, **options)
        meta = self._file.metadata
        sizes = (meta.row_group(n).num_rows for n in range(meta.num_row_groups))
        self._starts = [0, *itertools.accumulate(sizes)]
        super().__init__(path, start, columns)

    def _group(self, start: int) -> int:
        return max(0, bisect.bisect_right(self._starts, start) - 1)

    def _first(self, start: int) -> int:
        return self._starts[self._group(start)]

    def _read(self) -> Iterator["pyarrow.RecordBatch"]:
        for group in range(self._group(self.first), self._file.metadata.num_row_groups):
            meta = self._file.metadata.row_group(group)
            size = _rows_of(meta.total_byte_size, meta.num_rows, BATCH_BYTES, 1024)
            yield from self._file.iter_batches(
                size, row_groups=[group], columns=self.columns, use_threads=False
            )


class _Arrow(_Forward):
    """See `_Forward`."""

    def _read(self) -> Iterator["pyarrow.RecordBatch"]:
        return (batch.select(self.columns) for batch in _batches(self.path))


def _batches(path: str) -> Iterator["pyarrow.RecordBatch"]:
    """Yield the batches of an Arrow stream or file; memory is mapped, not read."""
    import pyarrow

    with pyarrow.memory_map(path) as source:
        head = source.read(6)
        source.seek(0)
        if head == b"ARROW1":
            with pyarrow.ipc.open_file(source) as reader:
                yield from (reader.get_batch(n) for n in range(reader.num_record_batches))
            return
        size = source.size()
        source.seek(max(0, size - len(_END)))
        if source.read(len(_END)) != _END:
            raise ValueError(f"{path}: truncated or damaged Arrow stream (it has no end mark)")
        source.seek(0)
        with pyarrow.ipc.open_stream(source) as reader:
            yield from reader


def cut_arrow(path: str) -> tuple[tuple[str, ...], Cuts]:
    """Return an Arrow file's columns, and ranges of rows to read at a time.

    Raises:
        ValueError: It is truncated or damaged.
    """
    columns: tuple[str, ...] = ()
    rows = size = 0
    with _named(path, "Arrow file"):
        for batch in _batches(path):
            columns = tuple(batch.schema.names)
            rows += batch.num_rows
            size += batch.nbytes
    return columns, _cut(rows, _rows_of(size, rows, PART_BYTES, PART_ROWS))


def read_arrow(
    path: str, start: int, end: int, columns: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the values of rows; see `read_parquet`."""
    with _named(path, "Arrow file"):
        yield from _rows(_Arrow, path, start, end, columns)
