"""The test sets of the Open ASR Leaderboard, in parquet: English, to measure what was forgotten.

Columns ``audio dataset text id audio_length_s``; the transcript is under the first of `TEXT_KEYS`
that there is, as the leaderboard takes it. It does not score references that are empty or say
``ignore time segment in scoring`` after Whisper's English normaliser: they are left out.
Sets: ``esb_ami_test``, ``esb_librispeech_test_clean`` ...
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from espnet_plugin.cli import nearest
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
    no_audio,
    parquet_files,
    plain,
    shard_name,
    split_word,
    words_of,
)
from espnet_plugin.corpora.row_files import need_columns, records, table_units
from espnet_plugin.text import normalize

TEXT_KEYS = ("text", "sentence", "normalized_text", "transcript", "transcription")
IGNORED = "ignore time segment in scoring"
_UNSAFE = re.compile(r"[^a-z0-9]+")
_UNSAFE_ID = re.compile(r"[^A-Za-z0-9_.-]")
_SURE = re.compile(r"(?<![^\s])[A-Za-z]{4,}(?![^\s.,?!])")  # a word that no rule deletes


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the parquet files."""
    folder = existing_folder(root, CORPUS)
    tables = [path for path in parquet_files(folder) if path.parent != folder]
    sets = {path: path.relative_to(folder).parts[0] for path in tables}
    if set(sets.values()) == {"data"}:
        sets = {path: path.relative_to(folder).parts[1] for path in tables}
    if not sets:
        raise wrong_root(root, CORPUS)
    chosen = words_of(options["sets"])
    names = sorted(set(sets.values()))
    for name in chosen:
        if name not in names:
            raise ValueError(f"sets: '{name}'{nearest(name, names)} is none of {' '.join(names)}")
    for path in tables:
        if sets[path] in chosen or not chosen:
            split = _UNSAFE.sub("_", split_word(path).lower())
            yield from table_units(path, folder, (_UNSAFE.sub("_", sets[path].lower()), split))


def is_scored(text: str) -> bool:
    """Tell whether the leaderboard scores a reference."""
    if text.lower().replace("_", " ").strip(" .") == IGNORED:
        return False
    if not any(mark in text for mark in "[(<") and _SURE.search(text):
        return True  # the normaliser takes half a millisecond
    words = normalize(text, "en").text
    return bool(words) and words != IGNORED


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a parquet file."""
    table, (subset, split) = unit.data
    keys = [key for key in TEXT_KEYS if key in table.columns]
    if not keys:
        raise ValueError(
            f"{table.path}: no transcript: has none of {' '.join(TEXT_KEYS)}, but "
            f"{' '.join(table.columns)}"
        )
    need_columns(table, "audio")
    for where, row, record in records(table, ("audio", "id", keys[0])):
        assert not isinstance(record, Skip)
        name = plain(record.get("id")) or where
        text = plain(record[keys[0]])
        if not is_scored(text):
            yield Skip(name, "reference that is not scored", text[:80])
            continue
        try:
            audio = cell_audio(record["audio"], context, table.path, row)
        except AudioError as error:
            yield no_audio(name, error)
            continue
        # ids occur twice, with different audio (in its Common Voice): the row makes them unique
        name = _UNSAFE_ID.sub("_", name.removesuffix(".wav"))
        name = f"{subset}-{name}-{shard_name(Path(table.path))}-{row:06d}"
        yield Row(name, None, text, "en", audio.source, audio.seconds, subset=subset, split=split)


CORPUS = Corpus(
    "esb",
    "ESB",
    "test sets of the Open ASR Leaderboard (English)",
    Licence(
        "each its own", commercial=None, note="GigaSpeech and SPGISpeech: non-commercial research"
    ),
    where="https://huggingface.co/datasets/hf-audio/esb-datasets-test-only-sorted",
    layout="  ami/test-*.parquet, librispeech/test.clean-*.parquet, ... (audio, text, id)",
    find=find,
    read=read,
    options={"sets": Option("", "which of them, e.g. librispeech,ami; empty: all that are there")},
)
