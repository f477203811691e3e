"""Mozilla Spontaneous Speech: answers to questions, ``ss-corpus-ms-MY.tsv`` and ``audios/*.mp3``.

The table has a split for each clip that was checked; the others are split by speaker. Sounds are
tagged (``[laugh]``, ``[noise]``): they are left out. Clips nobody has written down are skipped.
"""

import re
from collections.abc import Iterator, Mapping

from espnet_plugin.corpora.cells import clip_row
from espnet_plugin.corpora.corpus import (
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
from espnet_plugin.corpora.hub_layout import SPLITS, language_code, plain
from espnet_plugin.corpora.row_files import need_columns, records, table_units

_SOUND = re.compile(r"\[[a-z _-]+\]|<[a-z _-]+>", re.IGNORECASE)


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List the parts of the table."""
    folder, language = existing_folder(root, CORPUS), options["language"]
    places = (folder, *(path for path in sorted(folder.iterdir()) if path.is_dir()))
    tables = [
        path
        for place in places
        for path in sorted(place.glob(f"*s-corpus-*{language}*.tsv"))
        if (place / "audios").is_dir()
    ]
    if not tables:
        raise wrong_root(root, CORPUS)
    if len(tables) > 1:
        names = " ".join(str(path.relative_to(folder)) for path in tables)
        raise ValueError(f"{CORPUS.variable}={root}: several tables: {names}; give its own folder")
    audio = str(tables[0].parent / "audios")
    yield from table_units(tables[0], folder, audio, kind="quoted_tsv")


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of the table."""
    table, audios = unit.data
    need_columns(table, "client_id", "audio_file", "transcription", "split")
    lang = language_code(context.options["language"])
    for _, _, record in records(table):
        if isinstance(record, Skip):
            yield record
            continue
        name = record["audio_file"].strip()
        raw = record["transcription"]
        if not raw.strip():
            yield Skip(name, "no transcript")
            continue
        if not (text := plain(_SOUND.sub(" ", raw))):
            yield Skip(name, "no words", raw[:80])
            continue
        split = SPLITS.get(record["split"].strip().lower())
        yield clip_row(name, record["client_id"], text, lang, audios, split)


CORPUS = Corpus(
    "spontaneous_speech",
    "SPONTANEOUS_SPEECH",
    "Mozilla Spontaneous Speech, answers to questions",
    Licence("CC0", commercial=True, note="you promise not to find out who a speaker is"),
    where="https://commonvoice.mozilla.org/spontaneous-speech",
    layout="  ss-corpus-ms-MY.tsv and audios/*.mp3",
    find=find,
    read=read,
    options={"language": Option("ms-MY", "which of its languages")},
)
