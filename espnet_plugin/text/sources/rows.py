"""Parquet: columns decoded batch by batch, passed on as Arrow streams."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_plugin.text.sources.fields import check_columns
from espnet_plugin.text.sources.records import SourceSettings

if TYPE_CHECKING:
    import pyarrow

ROLES = ("text", "lang", "source")
_ROWS = 4096  # decoded at a time
_BUFFER = 1 << 20  # bytes of a column read at a time


def cut_rows(path: str | Path, settings: SourceSettings) -> Iterator[tuple[int, int, bytes]]:
    """Cut a parquet file into runs of rows with about `block_bytes` of text each.

    Yields:
        First row (from 0), one past the last, and an Arrow stream of UTF-8 bytes with a column for
        each of `ROLES` that the file has.

    Raises:
        ValueError: A file that is truncated or damaged, that lacks a field, or that stores it as
            something else than strings. Names the file.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(
            path, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        ) as file:
            names = file.schema_arrow.names
            check_columns(path, names, settings)
            fields = (settings.field, settings.lang_field, settings.source_field)
            columns = {
                role: name
                for role, name in zip(ROLES, fields, strict=True)
                if name in names and name
            }
            for role, name in columns.items():
                _check_type(path, role, name, file.schema_arrow.field(name).type)
            batches = file.iter_batches(
                batch_size=_ROWS, columns=sorted(set(columns.values())), use_threads=False
            )
            yield from _join((_by_role(batch, columns) for batch in batches), settings.block_bytes)
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # the disk or the permissions, not the file's content
        raise ValueError(f"{path}: truncated or damaged parquet ({error})") from error


def _check_type(path: str | Path, role: str, name: str, found: "pyarrow.DataType") -> None:
    from pyarrow import types

    value = found.value_type if types.is_dictionary(found) else found
    tests = [types.is_string, types.is_large_string, types.is_binary, types.is_large_binary]
    if role != "text":  # of these a record may have none, or a number
        tests += [types.is_null, types.is_integer]
    if not any(test(value) for test in tests):
        raise ValueError(f"{path}: column '{name}' holds {found}, strings are needed")


def _by_role(batch: "pyarrow.RecordBatch", columns: dict[str, str]) -> "pyarrow.RecordBatch":
    import pyarrow

    arrays = []
    for name in columns.values():
        array = batch.column(name)
        if pyarrow.types.is_integer(array.type):
            array = array.cast(pyarrow.string())
        arrays.append(array.cast(pyarrow.large_binary()))
    return pyarrow.RecordBatch.from_arrays(arrays, names=list(columns))


def _join(
    batches: Iterable["pyarrow.RecordBatch"], block_bytes: int
) -> Iterator[tuple[int, int, bytes]]:
    """Join small batches, and cut large ones, to about `block_bytes`."""
    waiting: list[pyarrow.RecordBatch] = []
    start = size = 0
    for batch in batches:
        rows = max(1, batch.num_rows * block_bytes // max(batch.nbytes, 1))
        for low in range(0, batch.num_rows, rows):
            part = batch.slice(low, rows)
            waiting.append(part)
            size += part.nbytes
            if size >= block_bytes:
                yield start, (start := start + sum(map(len, waiting))), _stream(waiting)
                waiting, size = [], 0
    if waiting:
        yield start, start + sum(map(len, waiting)), _stream(waiting)


def _stream(batches: list["pyarrow.RecordBatch"]) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def read_rows(payload: bytes) -> dict[str, list[bytes | None]]:
    """Read an Arrow stream of `cut_rows`: values by role, None for null."""
    import pyarrow

    with pyarrow.ipc.open_stream(payload) as reader:
        table = reader.read_all()
    return {role: table.column(role).to_pylist() for role in table.column_names}
