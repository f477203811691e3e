"""Parquet and Arrow files: where to cut them, and their rows; damage is named.

A row of audio may have a megabyte, a row of text a hundred bytes: parts and batches are cut by
bytes, and columns are read page by page, so that memory depends on neither.
"""

import contextlib
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
    from pyarrow import parquet

    options = {"buffer_size": _BUFFER, "pre_buffer": False, "page_checksum_verification": True}
    with _named(path, "parquet"), parquet.ParquetFile(path, **options) as file:
        first = 0
        for group in range(file.metadata.num_row_groups):
            meta = file.metadata.row_group(group)
            rows = meta.num_rows
            if first + rows > start and first < end:
                size = _rows_of(meta.total_byte_size, rows, BATCH_BYTES, 1024)
                batches = file.iter_batches(
                    size, row_groups=[group], columns=list(columns), use_threads=False
                )
                yield from _within(batches, first, start, end)
            first += rows


def _within(
    batches: Iterator["pyarrow.RecordBatch"], first: int, start: int, end: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the rows of batches that lie in a range; the first of all has the number `first`."""
    for batch in batches:
        low, high = max(start - first, 0), min(end - first, batch.num_rows)
        if low < high:
            part = batch.slice(low, high - low)
            step = _rows_of(part.nbytes, part.num_rows, BATCH_BYTES, 1024)
            for place in range(0, part.num_rows, step):
                for n, record in enumerate(part.slice(place, step).to_pylist()):
                    yield first + low + place + n, record
        first += batch.num_rows
        if first >= end:
            return


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
        chosen = (batch.select(list(columns)) for batch in _batches(path))
        yield from _within(chosen, 0, start, end)
