"""Blocks read into records."""

import csv
import json
from collections.abc import Sequence
from typing import Any

from espnet_plugin.text.sources import records as why
from espnet_plugin.text.sources.cut import LANG, where
from espnet_plugin.text.sources.formats import format_of
from espnet_plugin.text.sources.records import Block, Records, SourceSettings
from espnet_plugin.text.sources.rows import read_rows
from espnet_plugin.text.sources.separated import csv_rows
from espnet_plugin.text.sources.streams import read_range


def read(block: Block, settings: SourceSettings) -> Records:
    """Read a block; in any process, in any order.

    Args:
        block: From `blocks`.
        settings: Those that it was cut with.

    Returns:
        The records that hold text, and how many lines were dropped for which reason.

    Raises:
        ValueError: Under `strict`, at the first bad line, naming file, line and what was found; a
            file that has become shorter since it was cut.
    """
    return _Reader(block, settings).read()


class _Reader:
    def __init__(self, block: Block, settings: SourceSettings) -> None:
        self.block, self.settings = block, settings
        self.format = format_of(block.path)
        by_record = settings.source_field is not None and self.format.name not in ("txt", "kaldi")
        self.result = Records([], [], [] if by_record else None, self.format.stem, [], 0)
        self.lines: list[int] = []

    def read(self) -> Records:
        if self.block.kind == "rows":
            self._parquet()
        elif self.format.name == "csv":
            self._csv()
        elif self.format.name == "txt":
            self._plain()
        else:
            {"jsonl": self._json, "tsv": self._tsv, "kaldi": self._kaldi}[self.format.name]()
        return self.result

    def _drop(self, reason: str, line: int, found: str) -> None:
        if self.settings.strict and reason != why.BLANK:
            raise ValueError(f"{where(self.block, line)}: {found}")
        self.result.dropped[reason] += 1

    def _keep(self, text: str, line: int, lang: Any = None, source: Any = None) -> None:
        """Keep a record unless its text is blank; `lang` and `source` as the file has them."""
        text = text.strip()
        if not text:
            self._drop(why.BLANK, line, "blank")
            return
        self.result.texts.append(text)
        self.result.langs.append(lang if lang and isinstance(lang, str) else None)
        if self.result.sources is not None:
            known = source not in (None, "") and isinstance(source, str | int)
            self.result.sources.append(str(source) if known else self.result.source)
        self.lines.append(line)
        self.result.lines = self.lines

    def _data(self) -> bytes:
        block, settings = self.block, self.settings
        if block.payload is not None:
            return block.payload
        # all but the surplus of a last line that is too long
        most = settings.block_bytes + settings.max_line_bytes + 1
        return read_range(block.path, block.start, block.end, most)

    def _decoded(self) -> tuple[list[str], Sequence[int]]:
        """Split a block into lines; drop what is too long, has NUL bytes or is not UTF-8."""
        data, longest = self._data().removesuffix(b"\n"), self.settings.max_line_bytes
        if b"\0" not in data:
            try:
                lines = data.decode("utf-8").split("\n")
            except UnicodeDecodeError:
                pass
            else:
                if 4 * max(map(len, lines)) <= longest:  # a character has at most 4 bytes
                    self.result.read = len(lines)
                    return lines, range(len(lines))
        lines, numbers = [], []
        raw_lines = data.split(b"\n")
        self.result.read = len(raw_lines)
        for number, raw in enumerate(raw_lines):
            text = self._decode(raw, number)
            if text is not None:
                lines.append(text)
                numbers.append(number)
        return lines, numbers

    def _decode(self, raw: bytes, line: int) -> str | None:
        longest = self.settings.max_line_bytes
        if len(raw) > longest:
            self._drop(why.LINE_TOO_LONG, line, f"longer than {longest} bytes (max_line_bytes)")
        elif b"\0" in raw:
            self._drop(why.NUL_BYTES, line, "has NUL bytes: a damaged or UTF-16 file")
        else:
            try:
                return raw.decode("utf-8")
            except UnicodeDecodeError as error:
                found = raw[error.start : error.start + 1].hex()
                self._drop(
                    why.NOT_UTF8, line, f"not UTF-8: byte {found} in column {error.start + 1}"
                )
        return None

    def _plain(self) -> None:
        lines, numbers = self._decoded()
        texts = [line.strip() for line in lines]
        if "" in texts:
            self.result.dropped[why.BLANK] += texts.count("")
            numbers = [number for number, text in zip(numbers, texts, strict=True) if text]
            texts = [text for text in texts if text]
        self.result.texts, self.result.lines = texts, numbers
        self.result.langs = [None] * len(texts)

    def _kaldi(self) -> None:
        has_lang = LANG in self.block.columns
        before = len(self.block.columns)
        for line, number in zip(*self._decoded(), strict=True):
            fields = line.split(maxsplit=before)
            text = fields[before] if len(fields) > before else ""
            self._keep(text, number, fields[0] if has_lang else None)

    def _json(self) -> None:
        settings, loads = self.settings, json.loads
        for line, number in zip(*self._decoded(), strict=True):
            try:
                entry = loads(line)
            except (ValueError, RecursionError) as error:
                if not line.strip():
                    self._drop(why.BLANK, number, "blank")
                else:
                    self._drop(why.NOT_JSON, number, f"not JSON ({error})")
                continue
            text = entry.get(settings.field) if isinstance(entry, dict) else None
            if not isinstance(text, str):
                self._drop(why.MISSING_FIELD, number, self._missing(entry))
                continue
            lang = entry.get(settings.lang_field)
            source = entry.get(settings.source_field) if settings.source_field else None
            if "\\u" in line and not all(_encodable(str(v)) for v in (text, lang, source)):
                self._drop(why.NOT_UTF8, number, "half of a surrogate pair (\\ud800 to \\udfff)")
            else:
                self._keep(text, number, lang, source)

    def _missing(self, entry: Any) -> str:
        field = self.settings.field
        if not isinstance(entry, dict):
            return f"no field '{field}': a JSON {type(entry).__name__}, not an object"
        if field in entry:
            return f"field '{field}' holds no string but {json.dumps(entry[field])[:80]}"
        return f"no field '{field}'; found: {', '.join(entry)[:200] or 'none'}"

    def _columns(self) -> tuple[int, int | None, int | None]:
        """Find the columns of text, language and source."""
        columns, settings = self.block.columns, self.settings
        lang = columns.index(settings.lang_field) if settings.lang_field in columns else None
        source = columns.index(settings.source_field) if settings.source_field else None
        return columns.index(settings.field), lang, source

    def _row(self, row: list[str], line: int, places: tuple[int, int | None, int | None]) -> None:
        columns, (text, lang, source) = self.block.columns, places
        if len(row) != len(columns):
            self._drop(
                why.WRONG_COLUMNS, line, f"{len(row)} columns, the header has {len(columns)}"
            )
            return
        self._keep(
            row[text],
            line,
            row[lang] if lang is not None else None,
            row[source] if source is not None else None,
        )

    def _tsv(self) -> None:
        places = self._columns()
        for line, number in zip(*self._decoded(), strict=True):
            if line.strip():
                self._row(line.rstrip("\r").split("\t"), number, places)
            else:
                self._drop(why.BLANK, number, "blank")

    def _csv(self) -> None:
        places, longest = self._columns(), self.settings.max_line_bytes
        data = self._data()
        text = data.decode("utf-8", "surrogateescape")
        suspect = b"\0" in data or not _encodable(text)
        for start, _, row in csv_rows(text):
            self.result.read += 1
            if isinstance(row, csv.Error):
                self._drop(why.NOT_CSV, start, f"not CSV ({row})")
            elif not row:
                self._drop(why.BLANK, start, "blank")
            elif suspect or 4 * sum(map(len, row)) > longest:
                raw = "\n".join(row).encode("utf-8", "surrogateescape")
                if self._decode(raw, start) is not None:
                    self._row(row, start, places)
            else:
                self._row(row, start, places)

    def _parquet(self) -> None:
        values = read_rows(self.block.payload or b"")
        texts = values["text"]
        nothing: list[bytes | None] = [None] * len(texts)
        langs, sources = values.get("lang", nothing), values.get("source", nothing)
        self.result.read = len(texts)
        for row, (raw, lang, source) in enumerate(zip(texts, langs, sources, strict=True)):
            if raw is None:
                self._drop(why.MISSING_FIELD, row, f"null in column '{self.settings.field}'")
            elif (text := self._decode(raw, row)) is not None:
                self._keep(text, row, _label(lang), _label(source))


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _label(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "replace")
