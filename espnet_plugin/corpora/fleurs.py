"""FLEURS: read sentences in a hundred languages, with official splits.

``data/<language>/{train,dev,test}.tsv`` without a header, and ``audio/{train,dev,test}.tar.gz`` (or
unpacked), or the hub's parquet files. Nobody says who reads. `fleurs_ms` and `fleurs_en` are Malay
and English; for another language give an alias and its option:

    FLEURS_ID=/data/fleurs local/data.sh --corpora "fleurs_id=fleurs" \
        --corpus_options "fleurs_id.language=id_id"
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from espnet_plugin.cli import nearest
from espnet_plugin.corpora.archives import ArchiveError, Files
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
from espnet_plugin.corpora.hub_layout import (
    language_code,
    no_audio,
    parquet_files,
    plain,
    split_of,
)
from espnet_plugin.corpora.row_files import need_columns, records, table_units
from espnet_plugin.corpora.sound import Audio

HEADER = (
    "id",
    "file_name",
    "raw_transcription",
    "transcription",
    "characters",
    "num_samples",
    "gender",
)
SPLITS = ("train", "dev", "test")
COLUMNS = ("id", "path", "audio", "raw_transcription", "transcription")


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the tables of a language."""
    folder, language = existing_folder(root, CORPUS), options["language"]
    places = [folder / "data", folder, folder / "parquet-data"]
    for place in (place / language for place in places):
        if tables := [table for table in place.glob("*.tsv") if table.stem in SPLITS]:
            for table in sorted(tables):
                audio = _audio_place(place, table.stem)
                yield from table_units(
                    table, folder, (table.stem, audio), header=HEADER, files=[audio]
                )
            return
        if place.is_dir() and (found := parquet_files(place, depth=2)):
            for table in found:
                split = split_of(table)
                yield from table_units(table, folder, ("dev" if split == "valid" else split, None))
            return
    there = [p.name for place in places if place.is_dir() for p in place.iterdir() if p.is_dir()]
    languages = sorted(name for name in there if "_" in name)
    if languages:
        raise FileNotFoundError(
            f"{CORPUS.variable}={root}: has no language '{language}'"
            f"{nearest(language, languages)}; there are {' '.join(languages)}"
        )
    raise wrong_root(root, CORPUS)


def _audio_place(folder: Path, split: str) -> str:
    """Return where a split's audio is: unpacked, else in its archive."""
    audio = folder / "audio"
    for place in (audio / split, audio / f"{split}.tar.gz", audio / f"{split}.tar"):
        if place.exists():
            return str(place)
    raise FileNotFoundError(f"{audio}: has neither a folder {split} nor {split}.tar.gz")


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a table."""
    table, (split, place) = unit.data
    lang = language_code(context.options["language"])
    key = "raw_transcription" if context.options["text"] == "raw" else "transcription"
    files, members, damage = None, {}, ""
    if place is None:
        need_columns(table, "audio", key)
    else:
        try:
            files = context.open(place)
            members = {PurePosixPath(name).name: name for name in files.names()}
        except ArchiveError as error:
            damage = str(error)
    for where, row, record in records(table, COLUMNS if place is None else None):
        if isinstance(record, Skip):
            yield record
            continue
        cell = record.get("audio")
        inside = cell.get("path") if isinstance(cell, Mapping) else None
        name = plain(record.get("file_name") or record.get("path") or inside) or where
        text = plain(record[key])
        if not text:
            yield Skip(name, "no transcript")
        elif damage:
            yield Skip(name, "damaged archive", damage)
        else:
            try:
                if files is None:
                    audio = cell_audio(cell, context, table.path, row)
                else:
                    audio = _member(files, members, name)
            except AudioError as error:
                yield no_audio(name, error)
                continue
            stem = PurePosixPath(name).stem
            yield Row(stem, None, text, lang, audio.source, audio.seconds, split=split)


def _member(files: Files, members: Mapping[str, str], name: str) -> Audio:
    if name not in members:
        raise AudioError("no such file")
    return files.audio(members[name])


CORPUS = Corpus(
    "fleurs",
    "FLEURS",
    "FLEURS, read sentences",
    Licence("CC BY 4.0", commercial=True),
    where="https://huggingface.co/datasets/google/fleurs",
    layout="""  data/ms_my/{train,dev,test}.tsv and data/ms_my/audio/{train,dev,test}.tar.gz,
  or ms_my/**/*.parquet""",
    find=find,
    read=read,
    options={
        "language": Option("ms_my", "which of its languages"),
        "text": Option("raw", "as written, or without case and punctuation", ("raw", "plain")),
    },
)


def _of(name: str, language: str, title: str) -> Corpus:
    options = {**CORPUS.options, "language": Option(language, "which of its languages")}
    return dataclasses.replace(CORPUS, name=name, title=title, options=options)


MALAY = _of("fleurs_ms", "ms_my", "FLEURS, read Malay")
ENGLISH = _of("fleurs_en", "en_us", "FLEURS, read English")
