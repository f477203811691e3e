"""Synth-Manglish: synthetic Malaysian English, in parquet.

Columns ``file_name`` (``stem__voice__...``), ``text`` and ``audio``. There is no official split:
voices are speakers, and a voice is in one set only. What is spoken is a synthesiser's: a result on
its test set says little about people.
"""

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from espnet_plugin.corpora.cells import cell_audio
from espnet_plugin.corpora.corpus import (
    AudioError,
    Context,
    Corpus,
    Licence,
    Option,
    Row,
    Skip,
    Unit,
    existing_folder,
    wrong_root,
)
from espnet_plugin.corpora.hub_layout import no_audio, parquet_files, plain
from espnet_plugin.corpora.pseudo_labels import relabelled
from espnet_plugin.corpora.row_files import need_columns, records, table_units


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the parquet files."""
    folder = existing_folder(root, CORPUS)
    tables = parquet_files(folder)
    if not tables:
        raise wrong_root(root, CORPUS)
    for path in tables:
        yield from table_units(path, folder)


def voice_of(name: str) -> str | None:
    """Return the voice that a file's name says."""
    parts = PurePosixPath(name).stem.split("__")
    return parts[1] if len(parts) > 1 and parts[1] else None


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a parquet file."""
    rows = _rows(unit, context)
    return relabelled(rows) if context.options["language"] == "words" else rows


def _rows(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    table, _ = unit.data
    need_columns(table, "text", "audio")
    for where, row, record in records(table, ("file_name", "text", "audio")):
        assert not isinstance(record, Skip)
        cell = record["audio"]
        inside = cell.get("path") if isinstance(cell, Mapping) else None
        name = plain(record.get("file_name") or inside) or where
        text = plain(record["text"])
        if not text:
            yield Skip(name, "no transcript")
            continue
        try:
            audio = cell_audio(cell, context, table.path, row)
        except AudioError as error:
            yield no_audio(name, error)
            continue
        stem = PurePosixPath(name).stem
        yield Row(stem, voice_of(name), text, "cs", audio.source, audio.seconds)


CORPUS = Corpus(
    "synth_manglish",
    "SYNTH_MANGLISH",
    "Synth-Manglish, about seven hours of synthetic Malaysian English",
    Licence("CC BY 4.0", commercial=True),
    where="https://huggingface.co/datasets/emhaihsan/Synth-Manglish",
    layout="  parquet/train-00000-of-00002.parquet ... (file_name, text, audio)",
    find=find,
    read=read,
    options={"language": Option("cs", "cs for all, or by each utterance's words", ("cs", "words"))},
)
