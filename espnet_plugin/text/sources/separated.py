"""CSV and TSV: where records end, and their fields.

CSV is RFC 4180 as Python's `csv` reads it: fields in double quotes may hold commas and line breaks.
TSV knows no quotes and a line is a record, as Common Voice and FLEURS write it.
"""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_plugin.text.sources.formats import Format
from espnet_plugin.text.sources.streams import read_chunks, whole_lines

if TYPE_CHECKING:
    from _csv import Reader

LONGEST = 16 << 20  # bytes of a CSV record; a quote that is never closed is noticed after as many
_FIELD_LIMIT = 1 << 30  # characters; the module's default of 131 072 is less than a record
_END = "\x00end\x00"  # our record after the last; part of a field where a quote is still open


def _reader(lines: Iterable[str]) -> "Reader":
    csv.field_size_limit(max(_FIELD_LIMIT, csv.field_size_limit()))
    return csv.reader(lines)


def _lines(text: str) -> io.StringIO:
    return io.StringIO(text, newline="\n")  # a lone \r or \u2028 does not end a line


def csv_rows(text: str) -> Iterator[tuple[int, int, list[str] | csv.Error]]:
    """Read whole CSV records.

    Yields:
        Each record's first line in `text` from 0, the line after it, and its fields (none where the
        line is blank) or why it cannot be read.
    """
    reader = _reader(_lines(text))
    while True:
        start = reader.line_num
        try:
            row: list[str] | csv.Error = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = error
        yield start, reader.line_num, row


def _tsv_rows(text: str) -> Iterator[tuple[int, int, list[str]]]:
    for number, line in enumerate(_lines(text)):
        yield number, number + 1, line.rstrip("\r\n").split("\t")


def _complete_lines(data: bytes) -> int:
    """Count the lines of `data` up to the end of its last complete CSV record."""
    text = data.decode("latin-1")  # never fails, and UTF-8 has quotes and line ends nowhere else
    reader = _reader(itertools.chain(_lines(text), [_END]))
    before = complete = 0
    while True:
        try:
            row = next(reader)
        except StopIteration:  # the last record has swallowed the mark
            return before
        except csv.Error:
            row = []  # the reader goes on at the next line, here and when the block is read
        if row == [_END]:
            return complete
        before, complete = complete, reader.line_num


def _split_at_line(data: bytes, line: int) -> tuple[bytes, bytes]:
    parts = data.split(b"\n", line)
    if len(parts) <= line:
        return data, b""
    return data[: len(data) - len(parts[line])], parts[line]


def _header(data: bytes, quoted: bool) -> tuple[list[str] | None, int]:
    """Find the columns, in the first record that is not blank, and the line after them."""
    text = data.decode("utf-8", "replace")
    after = 0
    for _, after, row in csv_rows(text) if quoted else _tsv_rows(text):
        if isinstance(row, list) and any(name.strip() for name in row):
            return [name.strip() for name in row], after
    return None, after


def cut_records(
    path: str | Path, file_format: Format, block_bytes: int, longest: int
) -> Iterator[tuple[list[str], int, int, bytes]]:
    """Cut a CSV or TSV file between records, at about every `block_bytes`.

    Yields:
        The header's columns; of the records that follow the number of the first line (from 1), how
        many bytes of the file they stand for, header included, and the lines without header, which
        may be none. Nothing for a file without a header.

    Raises:
        ValueError: As `read_chunks`; a CSV record that does not end within `LONGEST` or at all; a
            header that cannot be read.
    """
    quoted = file_format.name == "csv"
    columns: list[str] | None = None
    rest, line, blank = b"", 1, True
    chunks = read_chunks(path, file_format.compression)
    for piece, size in whole_lines(chunks, block_bytes, LONGEST if quoted else longest):
        if quoted and size > len(piece):
            raise ValueError(f"{path}: a line after line {line} is longer than {LONGEST} bytes")
        data, size, rest = rest + piece, len(rest) + size, b""
        if quoted and b'"' in data:
            data, rest = _split_at_line(data, _complete_lines(data))
            if len(rest) > LONGEST:
                raise ValueError(_not_closed(path, line + data.count(b"\n")))
        lines, first = data.count(b"\n"), line
        if columns is None:
            blank = blank and not data.strip()
            columns, skipped = _header(data, quoted)
            if columns and any("\r" in name for name in columns):
                raise ValueError(_no_header(path))
            first, data = line + skipped, _split_at_line(data, skipped)[1]
        if columns is not None:
            yield columns, first, size - len(rest), data
        line += lines
    if rest:
        raise ValueError(_not_closed(path, line))
    if columns is None and not blank:
        raise ValueError(_no_header(path))


def _no_header(path: str | Path) -> str:
    return f"{path}: no line can be read as the names of columns; lines must end in \\n or \\r\\n"


def _not_closed(path: str | Path, line: int) -> str:
    return f"{path}:{line}: a quoted field that begins in this record is never closed"
