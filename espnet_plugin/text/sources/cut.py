"""Files cut into blocks."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from espnet_plugin.text.sources.fields import check_columns, check_json
from espnet_plugin.text.sources.formats import Format, format_of, langs_beside
from espnet_plugin.text.sources.records import Block, SourceSettings
from espnet_plugin.text.sources.rows import cut_rows
from espnet_plugin.text.sources.separated import cut_records
from espnet_plugin.text.sources.streams import (
    count_lines,
    iterate_lines,
    ranges,
    read_chunks,
    whole_lines,
)

UTT, LANG = "utt", "lang"  # fields before the text of a Kaldi block


def blocks(paths: Sequence[str | Path], settings: SourceSettings) -> Iterator[Block]:
    """Cut files into blocks: the same files and settings always give the same blocks.

    Args:
        paths: The files, e.g. from `expand`.
        settings: How they are read.

    Yields:
        The blocks of each file in its order, the files in theirs. Empty files give none.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: Naming the file: a compressed or parquet file that is truncated or damaged; text
            in UTF-16 or UTF-32; content of another kind than the name says; a field that no record
            has; a CSV quote that is never closed; a `utt2lang` whose ids are not those of `text`.
    """
    index = itertools.count()
    for path in paths:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
        for block in _cut(str(path), format_of(path), settings):
            yield replace(block, index=next(index))


def _cut(path: str, file_format: Format, settings: SourceSettings) -> Iterator[Block]:
    if file_format.name == "parquet":
        for start, end, payload in cut_rows(path, settings):
            yield Block(0, path, "rows", start, end, payload, start + 1)
    elif file_format.name in ("csv", "tsv"):
        yield from _cut_table(path, file_format, settings)
    elif file_format.name == "kaldi" and (langs := langs_beside(path)):
        lines = _with_langs(path, file_format, langs, settings)
        yield from _cut_stream(path, lines, settings, (LANG, UTT))
    else:
        if file_format.name == "jsonl":
            check_json(path, file_format, settings)
        columns = (UTT,) if file_format.name == "kaldi" else ()
        if file_format.compression:
            chunks = read_chunks(path, file_format.compression)
            yield from _cut_stream(path, chunks, settings, columns)
        else:
            for start, end in ranges(path, settings.block_bytes):
                yield Block(0, path, "range", start, end, columns=columns)


def _cut_stream(
    path: str, chunks: Iterator[bytes], settings: SourceSettings, columns: tuple[str, ...]
) -> Iterator[Block]:
    start, line = 0, 1
    for data, size in whole_lines(chunks, settings.block_bytes, settings.max_line_bytes):
        yield Block(0, path, "bytes", start, start + size, data, line, columns)
        start, line = start + size, line + data.count(b"\n")


def _cut_table(path: str, file_format: Format, settings: SourceSettings) -> Iterator[Block]:
    start = 0
    for columns, line, size, data in cut_records(
        path, file_format, settings.block_bytes, settings.max_line_bytes
    ):
        if not start:
            check_columns(path, columns, settings)
        if data:
            yield Block(0, path, "bytes", start, start + size, data, line, tuple(columns))
        start += size


def _with_langs(
    path: str, file_format: Format, langs: Path, settings: SourceSettings
) -> Iterator[bytes]:
    """Put each utterance's language before its line of `text`."""
    texts = iterate_lines(path, file_format.compression, settings.max_line_bytes)
    table = iterate_lines(langs, "", settings.max_line_bytes)
    for number, (text, lang) in enumerate(itertools.zip_longest(texts, table, fillvalue=b""), 1):
        utt, fields = text.split(maxsplit=1)[:1], lang.split()
        if fields[:1] != utt or len(fields) != 2:
            shown = b" ".join(utt).decode("utf-8", "replace") or "nothing"
            raise ValueError(
                f"{langs}:{number}: found {lang[:80].decode('utf-8', 'replace')!r}, but {path} has "
                f"{shown} there; 'ID LANGUAGE' is needed, the same ids in the same order"
            )
        yield fields[1] + b" " + text + b"\n"


def where(block: Block, line: int) -> str:
    """Name a line of a block, for messages.

    Args:
        block: The block.
        line: Line (of parquet: row) in the block, from 0, as `Records.lines` has it.

    Returns:
        `file:line`, or `file: row N`, from 1.
    """
    first = block.first_line
    if first is None:
        first = 1 + count_lines(block.path, block.start)
    if block.kind == "rows":
        return f"{block.path}: row {first + line}"
    return f"{block.path}:{first + line}"
