"""Any data set: a manifest with a column map, Hugging Face ``datasets``, or Lhotse cuts.

    MINE=/data/mine/train.jsonl local/data.sh --corpora "mine=manifest" \
        --corpus_options "mine.columns=audio=audio_filepath,text=sentence mine.language=ms"

The root is a file (`.jsonl .csv .tsv .parquet .arrow`, the first three also `.gz`), a folder of
such files, a folder that ``datasets`` saved, a Lhotse cut manifest, or ``hub:owner/name[:config]``.
Audio is a file name (relative to the manifest, or to the option `audio_root`), or in the table. A
split comes from a column or from a file's name (``train.jsonl``, ``test-00000-of-00001.parquet``,
``train/0000.parquet``); without one, utterances are split by speaker.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from espnet_plugin.cli import nearest
from espnet_plugin.corpora import manifest_cuts, manifest_hub
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
    wrong_root,
)
from espnet_plugin.corpora.hub_layout import (
    SPLITS,
    first_of,
    is_code,
    language_code,
    no_audio,
    parquet_files,
    plain,
    split_of,
    words_of,
)
from espnet_plugin.corpora.row_files import Part, Record, kind_of, records, table_units

# A role, and what manifests call it; the first that a table has is taken.
ROLES = {
    "audio": (
        "audio",
        "audio_filepath",
        "audio_filename",
        "audio_path",
        "wav",
        "path",
        "file_name",
    ),
    "text": ("text", "sentence", "transcription", "transcript", "normalized_text"),
    "id": ("id", "utt_id", "utterance_id", "key"),
    "speaker": ("speaker", "speaker_id", "spk", "client_id"),
    "language": ("lang", "language", "locale"),
    "split": ("split",),
    "start": ("start", "offset"),
    "duration": ("duration",),
    "end": ("end",),
}


_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")


def read_columns(options: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Read the column map.

    Args:
        options: With ``columns``: ``ROLE=COLUMN`` words; a role that is not given has its usual
            names, and ``ROLE=`` (empty) ignores it.

    Returns:
        Names to look for by role.

    Raises:
        ValueError: Another form, or an unknown role; names the nearest.
    """
    columns = dict(ROLES)
    for word in words_of(options["columns"]):
        role, equals, name = word.partition("=")
        if not equals or role not in ROLES:
            hint = nearest(role, ROLES) if equals else ""
            raise ValueError(
                f"columns: '{word}'{hint} is not ROLE=COLUMN with a role of {' '.join(ROLES)}"
            )
        columns[role] = (name,) if name else ()
    return columns


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the tables."""
    columns = read_columns(options)
    if root.startswith(manifest_hub.PREFIX):
        tables, folder = manifest_hub.hub_tables(root), Path("/")
    else:
        path = Path(root)
        if not path.exists():
            raise FileNotFoundError(f"{CORPUS.variable}={root}: no such file or folder")
        folder = path if path.is_dir() else path.absolute().parent
        tables = _tables(path)
    if not tables:
        raise wrong_root(root, CORPUS)
    for table, split in tables:
        if manifest_cuts.is_cuts(table):
            yield from manifest_cuts.find_cuts(table, folder, split)
            continue
        for unit in table_units(table, folder, split):
            _check(unit.data[0], columns)
            yield unit


def _tables(path: Path) -> list[tuple[Path, str | None]]:
    """List tables and their splits."""
    if path.is_file():
        if kind_of(path) is None:
            raise ValueError(
                f"{CORPUS.variable}={path}: not a manifest; allowed are .jsonl .csv .tsv "
                "(also .gz) .parquet .arrow"
            )
        return [(path, split_of(path))]
    if saved := manifest_hub.saved_tables(path):
        return saved
    files = [file for file in path.iterdir() if file.is_file() and kind_of(file)]
    files = [file for file in files if kind_of(file) != "parquet"] + parquet_files(path)
    return [
        (file, split_of(file.with_name(file.name.removesuffix(".gz")))) for file in sorted(files)
    ]


def _check(part: Part, columns: Mapping[str, tuple[str, ...]]) -> None:
    """See that a table has what is needed (of JSONL only its records say what they have).

    Raises:
        ValueError: It has not, or lacks a column that was named.
    """
    for role, names in columns.items() if part.kind != "jsonl" else ():
        needed = role in ("audio", "text") or names != ROLES[role]
        if needed and names and not set(names) & set(part.columns):
            raise ValueError(
                f"{part.path}: no column for '{role}' ({' '.join(names)})"
                f"{nearest(names[0], part.columns)}; it has {' '.join(part.columns)}; give "
                f"columns={role}=NAME"
            )


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a table."""
    if isinstance(unit.data, manifest_cuts.Cuts):
        yield from manifest_cuts.read_cuts(unit.data, context)
        return
    part, split = unit.data
    columns = read_columns(context.options)
    label = _UNSAFE.sub("_", unit.key.rpartition(":")[0])  # of rows without an id
    if context.root.startswith(manifest_hub.PREFIX):  # not where the cache happens to be
        label = f"{split}-{Path(part.path).name}"
    wanted = {name for names in columns.values() for name in names}
    folders = [context.options["audio_root"] or str(Path(part.path).parent)]
    for where, row, record in records(part, sorted(wanted)):
        if isinstance(record, Skip):
            yield record
            continue
        found = {role: first_of(record, names)[1] for role, names in columns.items()}
        item = plain(found["id"]) or where
        if found["text"] is None or not plain(found["text"]):
            yield Skip(item, "no transcript")
            continue
        try:
            audio = cell_audio(_cell(found["audio"]), context, part.path, row, folders)
        except AudioError as error:
            yield no_audio(item, error)
            continue
        try:
            start, end = _stretch(found)
        except (TypeError, ValueError):
            shown = f"start {found['start']}, end {found['end']}, duration {found['duration']}"
            yield Skip(item, "start or duration is no number", shown)
            continue
        name = plain(found["id"]) or f"{label}-{row:08d}"
        lang = language_code(plain(found["language"]) or context.options["language"])
        if not is_code(lang):
            yield Skip(item, "language is no code", plain(found["language"]))
            continue
        recording = None
        if start is not None:
            recording = found["audio"] if isinstance(found["audio"], str) else where
        yield Row(
            name,
            plain(found["speaker"]) or None,
            plain(found["text"]),
            lang,
            audio.source,
            audio.seconds,
            recording=recording,
            start=start,
            end=end if end is not None or start is None else audio.seconds,
            split=_split(where, plain(found["split"]), split),
        )


def _cell(value: object) -> object:
    """Return the audio of a row; of Lhotse's and others' nested objects the file they name."""
    if isinstance(value, Mapping) and not {"bytes", "array", "path"} & set(value):
        return first_of(dict(value), ("source", "audio_path", "file", "filename"))[1]
    return value


def _split(where: str, word: str, of_table: str | None) -> str | None:
    """Return a row's split.

    Raises:
        ValueError: A word that is none; names the nearest.
    """
    if not word:
        return of_table
    if word.lower() not in SPLITS:
        raise ValueError(
            f"{where}: split '{word}'{nearest(word.lower(), SPLITS)} is none of {' '.join(SPLITS)}"
        )
    return SPLITS[word.lower()]


def _stretch(found: Record) -> tuple[float | None, float | None]:
    """Return start and end of the utterance in its recording; None where it is all of it."""
    if found["start"] is None or found["start"] == "":
        return None, None
    start = float(found["start"])
    if found["duration"] not in (None, ""):
        return start, start + float(found["duration"])
    return start, float(found["end"]) if found["end"] not in (None, "") else None


CORPUS = Corpus(
    "manifest",
    "MANIFEST",
    "a manifest of your own",
    Licence("yours to know", commercial=None),
    where="https://huggingface.co/datasets or your own disk",
    layout="""  a .jsonl, .csv, .tsv, .parquet or .arrow file, or a folder of such, or one that
  Hugging Face's datasets saved, or a Lhotse cut manifest, or hub:OWNER/NAME[:CONFIGURATION]""",
    find=find,
    read=read,
    options={
        "columns": Option("", f"ROLE=COLUMN words; roles: {' '.join(ROLES)}"),
        "language": Option("ms", "language where no column says it"),
        "audio_root": Option("", "folder that file names are relative to; empty: the manifest's"),
    },
)
