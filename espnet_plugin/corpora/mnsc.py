"""MNSC, the Multitask National Speech Corpus: its ASR parts, in parquet.

Folders ``ASR-PART1-Train`` ... ``ASR-PART6-Test`` are the official splits. ``context`` is the
audio, ``answer`` the transcript, with ``<Speaker1>:`` before turns and the corpus's markup. Parts 3
to 6 are stretches of up to 30 s of a conversation. Nobody says who speaks, so that only sentences
are kept apart: those of a test set are taken out of training. Sets: ``mnsc_part4_train`` ...
"""

import re
from collections.abc import Iterator, Mapping

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
from espnet_plugin.corpora.hub_layout import no_audio, parquet_files, shard_name, words_of
from espnet_plugin.corpora.language_tags import keeps_language_tags
from espnet_plugin.corpora.marked import read_marked
from espnet_plugin.corpora.pseudo_labels import relabelled
from espnet_plugin.corpora.row_files import need_columns, records, table_units

_FOLDER = re.compile(r"ASR[-_]PART(?P<part>[1-6])[-_](?P<split>train|test|valid\w*)", re.IGNORECASE)
_TURN = re.compile(r"<\s*speaker\s*\d+\s*>\s*:?", re.IGNORECASE)


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the parquet files."""
    folder = existing_folder(root, CORPUS)
    chosen, found = words_of(options["parts"]), False
    for path in sorted(p for p in (folder, *folder.iterdir(), *folder.glob("*/*")) if p.is_dir()):
        if (match := _FOLDER.fullmatch(path.name)) and (tables := parquet_files(path, depth=2)):
            found = True
            split = {"train": "train", "test": "test"}.get(match["split"].lower(), "valid")
            for table in tables if match["part"] in chosen else ():
                part = int(match["part"])
                tagged = part != 4 or keeps_language_tags(table, "answer")
                name = f"part{part}-{split}-{shard_name(table)}"
                yield from table_units(table, folder, (part, split, name, tagged))
    if not found:
        raise wrong_root(root, CORPUS)


def inner(value: object, key: str) -> object:
    """Return what a column holds: itself, or what it has under a key (both layouts occur)."""
    return value[key] if isinstance(value, Mapping) and key in value else value


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a parquet file."""
    rows = _rows(unit, context)
    return relabelled(rows) if context.options["language"] == "words" else rows


def _rows(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    table, (part, split, name, tagged) = unit.data
    need_columns(table, "context", "answer")
    for _, row, record in records(table, ("context", "answer")):
        assert not isinstance(record, Skip)
        item = f"{name}-{row:06d}"
        answer = inner(record["answer"], "text")
        if not isinstance(answer, str):
            yield Skip(item, "no transcript")
            continue
        marked = read_marked(_TURN.sub(" ", answer))
        if not marked.tags:
            yield Skip(item, "no words", answer[:80])
            continue
        try:
            audio = cell_audio(inner(record["context"], "audio"), context, table.path, row)
        except AudioError as error:
            yield no_audio(item, error)
            continue
        yield Row(
            item,
            None,
            marked.text,
            marked.lang,
            audio.source,
            audio.seconds,
            tags=marked.tags if tagged else None,
            subset=f"part{part}",
            split=split,
        )


CORPUS = Corpus(
    "mnsc",
    "MNSC",
    "Multitask National Speech Corpus, its ASR parts",
    Licence("Singapore Open Data Licence 1.0", commercial=True, note="gated: ask for it there"),
    where="https://huggingface.co/datasets/MERaLiON/Multitask-National-Speech-Corpus-v1",
    layout="  ASR-PART1-Train/*.parquet, ASR-PART1-Test/*.parquet, ... (context, answer)",
    find=find,
    read=read,
    options={
        "parts": Option("1 2 3 4 5 6", "parts to prepare", tuple("123456")),
        "language": Option(
            "markup", "of an utterance: by its markup, or by the words", ("markup", "words")
        ),
    },
)
