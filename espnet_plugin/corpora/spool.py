"""Rows between reading and writing: an SQLite file, for bounded memory and safety from kills.

SQLite sorts on disk, keeps what is committed, and compares text by its UTF-8 bytes, which is the
order that Kaldi's tables need. A unit's rows, skips and its mark of being done are one transaction.
"""

import hashlib
import os
import re
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.corpora.corpus import Context, Corpus, Row, Skip, Unit

MAX_UNIT = 200_000  # rows: a unit is held in memory
OVERSHOOT = 0.5  # seconds that a segment may pass the recording's end (it is cut), as in stage 3
CACHE = 64 * 2**10  # KiB of SQLite's page cache
COMMIT = 50_000, 10.0  # rows, and seconds, after which what was read is made safe
COLUMNS = [
    "unit",
    "n",
    "subset",
    "split",
    "utt",
    "spk",
    "known",
    "grp",
    "sentence",
    "lang",
    "text",
    "source",
    "rec",
    "recdur",
    "start",
    "end",
    "tags",
    "times",
    "items",
]
_TYPES = {"unit": "INT", "n": "INT", "known": "INT", "sentence": "INT", "items": "INT"}
_TYPES |= {"recdur": "REAL", "start": "REAL", "end": "REAL"}
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS units (id INTEGER PRIMARY KEY, key TEXT UNIQUE, state TEXT, items INT);
CREATE TABLE IF NOT EXISTS rows ({", ".join(f'"{c}" {_TYPES.get(c, "TEXT")}' for c in COLUMNS)});
CREATE TABLE IF NOT EXISTS skips (unit INT, n INT, item TEXT, reason TEXT, detail TEXT, items INT);
CREATE TABLE IF NOT EXISTS made_by (value TEXT);
CREATE TABLE IF NOT EXISTS notes (unit INT, note TEXT, n INT);
"""
_SAFE = re.compile(r"[A-Za-z0-9_.-]+")
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")
_UNSAFE_SPEAKER = re.compile(r"[^A-Za-z0-9_.]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff]")
_NO_WORD = re.compile(r"[\W_]+")
_LANG = re.compile(r"[a-z]{2,3}")
_SET = re.compile(r"[a-z0-9_]*")
_ID_LENGTH = 120  # bytes; two of them and more still make a file name


def safe_id(name: str, speaker: bool = False) -> str:
    """Make a name that can stand in an id; names that are changed get a hash, so none collide.

    Letters, digits, ``_`` and ``.`` stay, in a speaker no ``-``: that joins speaker and utterance,
    and sorts before all of them, so that sorting by speaker and by utterance agree.
    """
    if len(name) <= _ID_LENGTH and _SAFE.fullmatch(name) and not (speaker and "-" in name):
        return name
    safe = (_UNSAFE_SPEAKER if speaker else _UNSAFE).sub("_", name)
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=5).hexdigest()
    return f"{safe[:_ID_LENGTH]}_{digest}"


def sentence_key(text: str) -> int:
    """Return a 64-bit signed hash of a sentence: case, punctuation and spacing do not matter."""
    words = text.casefold().split()
    plain = " ".join(words)
    if not "".join(words).isalnum():
        plain = _NO_WORD.sub(" ", plain).strip()
    digest = hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


@dataclass
class UnitRows:
    """What reading a unit gave, in the form of the tables (without the unit's number)."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    skips: list[tuple[str, str, str, int]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    items: int = 0


def pack(corpus: str, row: Row) -> tuple[Any, ...] | Skip:
    """Turn a row into the table's columns, or say why it is no utterance.

    Raises:
        ValueError: The row is none that a corpus may give (its author's mistake).
    """
    text = row.text if row.text.isprintable() else _CONTROL.sub(" ", row.text)
    text = " ".join(text.split())
    if not any(map(str.isalnum, text)) or (row.tags is not None and not row.tags):
        return Skip(row.name, "no words", row.text[:80], row.items)
    if not _LANG.fullmatch(row.lang):
        raise ValueError(f"{row.name}: language {row.lang!r} is no code of two or three letters")
    for part in (row.subset, row.split or ""):
        if not _SET.fullmatch(part):
            raise ValueError(f"{row.name}: subset or split {part!r} has not only a-z, 0-9 and _")
    start, end = row.start, row.end
    if start is not None and end is not None:
        if end <= start:
            return _misplaced(row, "no duration")
        if end - row.seconds > OVERSHOOT or start >= row.seconds:
            return _misplaced(row, "past the end of the recording")
        # whole milliseconds, and never past the end
        start, end = round(start, 3), min(round(end, 3), int(row.seconds * 1000) / 1000)
        if start < 0 or start >= end:
            return _misplaced(row, "no duration")
    name = safe_id(row.name)
    speaker = f"{corpus}_{name if row.speaker is None else safe_id(row.speaker, True)}"
    utt = speaker if row.speaker is None else f"{speaker}-{name}"
    if "\n" in row.source or "\0" in row.source:
        return Skip(row.name, "file name with a line break", repr(row.source), row.items)
    times = None
    if row.times is not None:
        length = row.seconds if start is None or end is None else end - start
        parts = [(min(a, length), min(b, length), words) for a, b, words in row.times]
        if sum(words for _, _, words in parts) != len(text.split()):
            raise ValueError(f"{row.name}: times have another number of words than the text")
        times = " ".join(f"{a:.2f}:{b:.2f}:{words}" for a, b, words in parts)
    return (
        row.subset,
        row.split,
        utt,
        speaker,
        int(row.speaker is not None),
        row.group,
        sentence_key(text),
        row.lang,
        text,
        row.source,
        None if row.recording is None else f"{corpus}_{safe_id(row.recording)}",
        row.seconds,
        start,
        end,
        None if row.tags is None else " ".join(row.tags),
        times,
        row.items,
    )


def _misplaced(row: Row, reason: str) -> Skip:
    detail = f"{row.start:.3f} to {row.end:.3f} s of {row.seconds:.3f} s"
    return Skip(row.name, reason, detail, row.items)


def read_unit(corpus: Corpus, unit: Unit, context: Context) -> UnitRows:
    """Read a unit; this is what the worker processes do.

    Raises:
        ValueError: An unsafe archive, or a unit with too many rows; any error of a file names it.
    """
    result = UnitRows()
    try:
        for found in corpus.read(unit, context):
            packed = pack(corpus.name, found) if isinstance(found, Row) else found
            if isinstance(packed, Skip):
                entry = packed.item, packed.reason, packed.detail, packed.items
                result.skips.append(entry)
                result.items += packed.items
                continue
            result.rows.append(packed)
            result.items += packed[-1]
            if isinstance(found, Row):
                if found.end is not None and found.end > found.seconds:
                    result.notes["end cut to the recording's"] += 1
                if found.notes:
                    result.notes.update(found.notes)
            if len(result.rows) > MAX_UNIT:
                raise ValueError(
                    f"a unit has over {MAX_UNIT} rows; the corpus must make more units"
                )
    except Exception as error:
        error.add_note(f"({corpus.name}: while reading {unit.key})")
        raise
    return result


class Spool:
    """The rows of a corpus on disk.

    Args:
        path: The SQLite file, made or taken up.
        made_by: What the rows depend on besides the units; another one starts anew.

    Raises:
        ValueError: Another process is at work on it.
    """

    def __init__(self, path: Path, made_by: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # sorting needs room, and /tmp may be small
        os.environ["SQLITE_TMPDIR"] = str(path.parent.absolute())
        self.db = sqlite3.connect(path, timeout=1.0)
        try:
            self.db.execute(f"PRAGMA cache_size = -{CACHE}")
            self.db.execute("PRAGMA synchronous = NORMAL")
            self.db.execute("PRAGMA locking_mode = EXCLUSIVE")
            self.db.execute("PRAGMA temp_store = FILE")
            self.db.executescript(SCHEMA)
        except sqlite3.OperationalError as error:
            self.db.close()
            raise ValueError(
                f"{path}: is another process preparing this corpus? ({error})"
            ) from None
        if (made := self.db.execute("SELECT value FROM made_by").fetchone()) != (made_by,):
            if made is not None:
                for table in ("units", "rows", "skips", "notes", "made_by"):
                    self.db.execute(f"DELETE FROM {table}")
            self.db.execute("INSERT INTO made_by VALUES (?)", (made_by,))
            self.db.commit()
        self._open, self._since = 0, time.monotonic()  # rows that are not committed
        self._next = self.one("SELECT COALESCE(MAX(id), -1) + 1 FROM units")

    def one(self, query: str, *values: Any) -> Any:
        """Return the first column of the first row."""
        return self.db.execute(query, values).fetchone()[0]

    def done(self) -> dict[str, str]:
        """Return the state of each unit that was read, by its key."""
        return dict(self.db.execute("SELECT key, state FROM units"))

    def forget(self, keys: Iterable[str]) -> None:
        """Drop all that came from some units."""
        self.db.execute("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY)")
        self.db.executemany(
            "INSERT INTO gone SELECT id FROM units WHERE key = ?", ((key,) for key in keys)
        )
        for table in ("rows", "skips", "notes"):
            self.db.execute(f"DELETE FROM {table} WHERE unit IN (SELECT id FROM gone)")
        self.db.execute("DELETE FROM units WHERE id IN (SELECT id FROM gone)")
        self.db.execute("DROP TABLE gone")
        self.db.commit()

    def add(self, key: str, state: str, result: UnitRows) -> None:
        """Add a unit that was read."""
        unit, self._next = self._next, self._next + 1
        marks = ", ".join("?" * len(COLUMNS))
        self.db.execute("INSERT INTO units VALUES (?, ?, ?, ?)", (unit, key, state, result.items))
        self.db.executemany(
            f"INSERT INTO rows VALUES ({marks})",
            ((unit, n, *row) for n, row in enumerate(result.rows)),
        )
        self.db.executemany(
            "INSERT INTO skips VALUES (?, ?, ?, ?, ?, ?)",
            ((unit, n, *skip) for n, skip in enumerate(result.skips)),
        )
        self.db.executemany(
            "INSERT INTO notes VALUES (?, ?, ?)",
            ((unit, note, n) for note, n in sorted(result.notes.items())),
        )
        self._open += len(result.rows) + 1
        if self._open >= COMMIT[0] or time.monotonic() - self._since >= COMMIT[1]:
            self.commit()

    def commit(self) -> None:
        """Make what was added last through a kill."""
        self.db.commit()
        self._open, self._since = 0, time.monotonic()

    def order_units(self, keys: Iterable[str]) -> None:
        """Number the units as the corpus lists them, whatever order they were read in."""
        self.db.execute("DROP TABLE IF EXISTS unit_order")
        self.db.execute("CREATE TABLE unit_order (id INTEGER PRIMARY KEY, place INT)")
        ids = dict(self.db.execute("SELECT key, id FROM units"))
        self.db.executemany(
            "INSERT INTO unit_order VALUES (?, ?)", ((ids[key], n) for n, key in enumerate(keys))
        )
        self.db.commit()

    def skipped(self) -> Iterator[tuple[str, str, str, int]]:
        """Yield ``(item, reason, detail, items)`` of what was skipped, in the corpus's order."""
        yield from self.db.execute(
            "SELECT item, reason, detail, items FROM skips JOIN unit_order o ON o.id = unit "
            "ORDER BY o.place, n"
        )

    def counts(self) -> Mapping[str, Any]:
        """Count items and notes."""
        return {
            "items": self.one("SELECT COALESCE(SUM(items), 0) FROM units"),
            "notes": dict(
                self.db.execute("SELECT note, SUM(n) FROM notes GROUP BY note ORDER BY 1")
            ),
        }

    def close(self) -> None:
        """Close the file."""
        self.db.commit()
        self.db.close()
