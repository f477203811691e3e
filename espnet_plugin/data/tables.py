"""Kaldi tables (``id value`` a line), read strictly: what ESPnet would misread is an error here.

A table is UTF-8 with Unix line ends, sorted by the bytes of its ids (``LC_ALL=C sort``), ids
unique. Values may contain spaces. White space is cut as ESPnet's ``read_2columns_text`` cuts it, so
both read the same values.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write

BOM = b"\xef\xbb\xbf"
SHOWN = 5  # ids or faults that a message spells out; the rest is counted


def some(names: Iterable[str], shown: int = SHOWN) -> str:
    """Write the first few names, and how many there are in all where that is more."""
    listed = list(names)
    text = ", ".join(listed[:shown])
    return text if len(listed) <= shown else f"{text}, ... ({len(listed)} in all)"


class Faults:
    """Faults of one file by kind, so that 10 000 CRLF lines are one line of the message."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: dict[str, str] = {}
        self._count: dict[str, int] = {}

    def add(self, kind: str, line: int, found: str) -> None:
        """Note a fault.

        Args:
            kind: Faults of one kind are counted together.
            line: Line number from 1.
            found: What was found, and what is allowed.
        """
        self._first.setdefault(kind, f"{self._path}:{line}: {found}")
        self._count[kind] = self._count.get(kind, 0) + 1

    def check(self) -> None:
        """Raise what was noted.

        Raises:
            ValueError: If there is any fault; names file and line of the first of each kind.
        """
        if self._first:
            raise ValueError(
                "\n".join(
                    text + (f" (so in {self._count[kind]} lines)" if self._count[kind] > 1 else "")
                    for kind, text in self._first.items()
                )
            )


def read_table(path: str | Path, *, allow_empty: bool = False) -> dict[str, str]:
    """Read a table such as ``wav.scp``, ``text`` or ``utt2spk``.

    Args:
        path: The file.
        allow_empty: Accept an id without a value, which then is ``""``.

    Returns:
        Values by id, in the order of the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: Duplicate or unsorted ids, an empty value, an empty line or one that starts with
            white space, bytes that are not UTF-8, a carriage return, NUL or byte order mark. The
            message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    data = path.read_bytes()
    faults = Faults(path)
    if data.startswith(BOM):
        faults.add("bom", 1, "starts with a byte order mark; save it as UTF-8 without one")
        data = data[len(BOM) :]
    lines = data.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    table: dict[str, str] = {}
    at_line: dict[str, int] = {}
    previous = ""
    for number, raw in enumerate(lines, 1):
        if b"\r" in raw:
            faults.add("cr", number, "has a carriage return (\\r); use Unix line ends (\\n)")
        if b"\0" in raw:
            faults.add("nul", number, "has a NUL byte: a damaged or UTF-16 file; UTF-8 is needed")
        try:
            fields = raw.decode("utf-8").rstrip().split(maxsplit=1)
        except UnicodeDecodeError as error:
            found = f"is not UTF-8: byte {raw[error.start : error.start + 1].hex()} in column"
            faults.add("utf8", number, f"{found} {error.start + 1}")
            continue
        if not fields or raw[:1].isspace():
            faults.add("blank", number, "is empty or starts with white space; 'ID VALUE' is needed")
            continue
        key, value = fields[0], fields[1] if len(fields) == 2 else ""
        if not value and not allow_empty:
            faults.add("empty", number, f"'{key}' has no value")
        if key in table:
            faults.add("twice", number, f"duplicate id '{key}', first in line {at_line[key]}")
        elif key < previous:  # code points sort as UTF-8 bytes do
            faults.add(
                "order",
                number,
                f"unsorted: '{key}' after '{previous}'; sort with: LC_ALL=C sort -o FILE FILE",
            )
        table[key], at_line[key], previous = value, number, max(key, previous)
    faults.check()
    return table


def write_table(path: str | Path, table: Mapping[str, object]) -> None:
    """Write a table, sorted by the bytes of its ids, atomically.

    Args:
        path: The file to make or replace.
        table: Values by id; an empty value leaves the id alone on its line.

    Raises:
        ValueError: An id or value that would not be read back as it is.
    """
    for key, value in table.items():
        text = str(value)
        line = f"{key} {text}"
        expected = [key, text] if text else [key]
        if set(line) & set("\n\r\0") or line.rstrip().split(maxsplit=1) != expected:
            shown = repr(text) if len(text) <= 60 else f"{text[:25]!r}...{text[-25:]!r}"
            raise ValueError(
                f"{path}: '{key}' cannot have the value {shown} in a table: no line breaks, no "
                "NUL, no white space in ids or at the ends of values"
            )
    with atomic_write(path, "w") as file:
        file.writelines(f"{key} {table[key]}".rstrip() + "\n" for key in sorted(table))
