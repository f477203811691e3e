"""Sentences to switch in: a parallel corpus, or text in one language at a time, in units of work.

| input | what it is |
| --- | --- |
| two files (`.txt`, perhaps `.gz .zst .xz`) | line n of one translates line n of the other |
| a file with two fields or columns (`.jsonl .csv .tsv .parquet`) | a pair of sentences a record |
| files, folders or globs of `text.sources` | sentences in one language each |

Which language a monolingual record is in says its own `lang`, else `--matrix`, else its tags.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from espnet_plugin.text.sources import Block, SourceSettings, blocks, format_of, read
from espnet_plugin.text.sources.streams import iterate_lines

UNIT_BYTES = 1 << 18  # of text in a unit: about 3 000 sentences
UNIT_LINES = 2000
MAX_LINE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class AlignedLines:
    """A unit of two aligned files: their raw lines from `first_line` on, counted from 1."""

    path: str
    first_line: int
    lines: tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A sentence to switch in, and its translation where there is one.

    Attributes:
        texts: In the pair's first and second language; None where there is none, and both in the
            first place where the language is not known.
        lang: Of a monolingual record, as its file says.
        line: Its line (of parquet: row) in the unit, from 0.
    """

    texts: tuple[str | None, str | None]
    lang: str | None
    line: int


@dataclass(slots=True)
class Records:
    """The records of a unit: `read == len(records) + sum(dropped)`."""

    records: list[Record]
    read: int
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Inputs:
    """Where sentences come from.

    Attributes:
        parallel: Two aligned files, or one file with two fields.
        fields: Its two fields (columns), in the order of the pair's languages.
        monolingual: Files as `text.sources.expand` gives them.
        text_field: The field of their text.
    """

    parallel: tuple[str, ...] = ()
    fields: tuple[str, str] | None = None
    monolingual: tuple[str, ...] = ()
    text_field: str = "text"

    def __post_init__(self) -> None:
        if bool(self.parallel) == bool(self.monolingual):
            raise ValueError("give either --parallel or --monolingual text")
        if self.parallel and len(self.parallel) == 2 and self.fields is None:
            for path in self.parallel:
                if format_of(path).name not in ("txt", "kaldi"):
                    raise ValueError(
                        f"{path}: aligned files are plain lines (.txt); name the two fields of "
                        "one file with --fields"
                    )
                if format_of(path).name == "kaldi":
                    raise ValueError(
                        f"{path}: lines of Kaldi files begin with ids; write the sentences alone"
                    )
        elif self.parallel and (len(self.parallel) != 1 or self.fields is None):
            raise ValueError(
                f"--parallel is two aligned files, or one file with --fields FIRST,SECOND; got "
                f"{len(self.parallel)} files"
            )
        if self.fields and format_of(self.parallel[0]).name in ("txt", "kaldi"):
            raise ValueError(f"{self.parallel[0]}: has no fields; .jsonl .csv .tsv .parquet do")

    def settings(self) -> SourceSettings:
        """Return how the files are read; of a pair's two fields the second is the `source`."""
        if self.fields:
            return SourceSettings(
                self.fields[0],
                source_field=self.fields[1],
                block_bytes=UNIT_BYTES,
                max_line_bytes=MAX_LINE_BYTES,
            )
        return SourceSettings(
            self.text_field, block_bytes=UNIT_BYTES, max_line_bytes=MAX_LINE_BYTES
        )

    def paths(self) -> list[Path]:
        """Return all files."""
        return [Path(path) for path in (*self.parallel, *self.monolingual)]


def units(inputs: Inputs) -> Iterator[Block | AlignedLines]:
    """Cut the input into units of work: always the same ones, in constant memory.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: As `text.sources.blocks`; aligned files of different length.
    """
    if inputs.parallel and inputs.fields is None:
        yield from _aligned(inputs.parallel[0], inputs.parallel[1])
    else:
        yield from blocks(inputs.paths(), inputs.settings())


def _aligned(first: str, second: str) -> Iterator[AlignedLines]:
    for path in (first, second):
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
    readers = [iterate_lines(p, format_of(p).compression, MAX_LINE_BYTES) for p in (first, second)]
    lines: list[tuple[bytes, bytes]] = []
    start, total = 1, 0
    for one in readers[0]:
        two = next(readers[1], None)
        if two is None:
            raise ValueError(f"{second}: ends at line {total}, {first} goes on: not aligned")
        lines.append((one, two))
        total += 1
        if len(lines) == UNIT_LINES:
            yield AlignedLines(first, start, tuple(lines))
            start, lines = start + len(lines), []
    if next(readers[1], None) is not None:
        raise ValueError(f"{first}: ends at line {total}, {second} goes on: not aligned")
    if lines:
        yield AlignedLines(first, start, tuple(lines))


def read_unit(unit: Block | AlignedLines, inputs: Inputs) -> Records:
    """Read the records of a unit, in any process.

    Returns:
        The records with text, and how many were dropped for which reason.
    """
    if isinstance(unit, AlignedLines):
        return _read_aligned(unit)
    found = read(unit, inputs.settings())
    result = Records([], found.read, Counter(found.dropped))
    for n, (text, lang, line) in enumerate(zip(found.texts, found.langs, found.lines, strict=True)):
        if inputs.fields is None:
            result.records.append(Record((sentence(text), None), lang, line))
            continue
        assert found.sources is not None
        other = sentence(found.sources[n])
        if not other or other == found.source:  # that stands for a record without the field
            result.dropped["missing_field"] += 1
        else:
            result.records.append(Record((sentence(text), other), None, line))
    return result


def _read_aligned(unit: AlignedLines) -> Records:
    result = Records([], len(unit.lines))
    for number, raw in enumerate(unit.lines):
        reason, texts = "", ["", ""]
        for side, line in enumerate(raw):
            if len(line) > MAX_LINE_BYTES:
                reason = "line_too_long"
            try:
                texts[side] = sentence(line.decode("utf-8"))
            except UnicodeDecodeError:
                reason = reason or "not_utf8"
        if not reason and not (texts[0] and texts[1]):
            reason = "blank"
        if reason:
            result.dropped[reason] += 1
        else:
            result.records.append(Record((texts[0], texts[1]), None, number))
    return result


def sentence(text: str) -> str:
    """Return a text on one line, with single spaces."""
    return " ".join(text.split())
