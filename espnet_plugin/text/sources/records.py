"""What goes in and out of reading: settings, the units of work, the records."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

BLANK = "blank"
LINE_TOO_LONG = "line_too_long"
MISSING_FIELD = "missing_field"
NOT_CSV = "not_csv"
NOT_JSON = "not_json"
NOT_UTF8 = "not_utf8"
NUL_BYTES = "nul_bytes"
WRONG_COLUMNS = "wrong_columns"
REASONS = (
    BLANK,
    LINE_TOO_LONG,
    MISSING_FIELD,
    NOT_CSV,
    NOT_JSON,
    NOT_UTF8,
    NUL_BYTES,
    WRONG_COLUMNS,
)


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """How files are read; picklable.

    Attributes:
        field: The field (JSON, column) that holds the text.
        lang_field: The field of a record's language. Records may lack it, unless it is another name
            than the default: then a file in which no record has it is an error.
        source_field: The field of a record's source, for caps and statistics. None: the file's
            name without its endings is the source of all of its records.
        strict: The first bad line (blank lines are not bad) is an error instead of being dropped.
        block_bytes: Size of a unit of work, in bytes of uncompressed text.
        max_line_bytes: Longer lines (records) are dropped.

    Raises:
        ValueError: A size below 1, an empty `field`.
    """

    field: str = "text"
    lang_field: str = "lang"
    source_field: str | None = None
    strict: bool = False
    block_bytes: int = 4 << 20
    max_line_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        for name in ("block_bytes", "max_line_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; 1 byte or more is needed")
        if not self.field:
            raise ValueError("field is empty: name the field that holds the text")


@dataclass(frozen=True, slots=True)
class Block:
    """A picklable unit of work: whole lines (records) of one file.

    Attributes:
        index: Position in the corpus, from 0.
        path: The file.
        kind: `range`: the reader opens the file and reads the bytes `start` to `end`. `bytes`:
            `payload` holds the lines. `rows`: `payload` holds an Arrow stream of parquet rows.
        start: First byte (uncompressed) or row.
        end: One past the last byte or row.
        payload: See `kind`.
        first_line: Number of the first line (row) from 1, where it is known.
        columns: Column names of CSV and TSV; of Kaldi files the fields before the text.
    """

    index: int
    path: str
    kind: Literal["range", "bytes", "rows"]
    start: int
    end: int
    payload: bytes | None = None
    first_line: int | None = None
    columns: tuple[str, ...] = ()


@dataclass(slots=True)
class Records:
    """The records of a block, in the file's order; `read` = `len(texts)` + all that was dropped.

    Attributes:
        texts: Texts without surrounding white space, never empty. Those of JSON, CSV and parquet
            may hold line breaks.
        langs: Each record's language as the file says it, None where it does not.
        sources: Each record's source; None: `source` is the source of all.
        source: The file's name without its endings (of a Kaldi file, its directory's).
        lines: Each record's line (row) in the block, from 0; see `where`.
        read: Lines (records) read, blank ones included.
        dropped: How many were dropped for each reason of `REASONS`.
    """

    texts: list[str]
    langs: list[str | None]
    sources: list[str] | None
    source: str
    lines: Sequence[int]
    read: int
    dropped: Counter[str] = field(default_factory=Counter)
