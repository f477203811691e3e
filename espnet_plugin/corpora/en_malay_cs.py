"""EN-MALAY-CS-FILTERED: code-switched utterances of the National Speech Corpus, in parquet.

Columns ``audio utt_id speaker_id duration transcription``; splits train, validation and test. They
are recordings of `nsc` part 4: keep its test sets out of training on that (``--keep_out``).
Where transcripts still have the corpus's tags, they give the words' languages; else all is ``cs``.
"""

from collections.abc import Iterator, Mapping

from espnet_plugin.corpora.cells import cell_audio
from espnet_plugin.corpora.corpus import (
    AudioError,
    Context,
    Corpus,
    Licence,
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
    split_of,
)
from espnet_plugin.corpora.language_tags import keeps_language_tags
from espnet_plugin.corpora.marked import read_marked
from espnet_plugin.corpora.row_files import need_columns, records, table_units

COLUMNS = ("audio", "utt_id", "speaker_id", "transcription")


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the parquet files."""
    folder = existing_folder(root, CORPUS)
    tables = parquet_files(folder)
    if not tables:
        raise wrong_root(root, CORPUS)
    for path in tables:
        tagged = keeps_language_tags(path, "transcription")
        yield from table_units(path, folder, (split_of(path), tagged))


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a parquet file."""
    table, (split, tagged) = unit.data
    need_columns(table, *COLUMNS)
    for where, row, record in records(table, COLUMNS):
        assert not isinstance(record, Skip)
        name, speaker = plain(record["utt_id"]), plain(record["speaker_id"])
        raw = record["transcription"]
        if not name or not isinstance(raw, str):
            yield Skip(name or where, "no transcript" if name else "no utt_id")
            continue
        marked = read_marked(raw)
        if not marked.tags:
            yield Skip(name, "no words", raw[:80])
            continue
        try:
            audio = cell_audio(record["audio"], context, table.path, row)
        except AudioError as error:
            yield no_audio(name, error)
            continue
        yield Row(
            name,
            speaker or None,
            marked.text,
            marked.lang if tagged else "cs",
            audio.source,
            audio.seconds,
            tags=marked.tags if tagged else None,
            split=split,
        )


CORPUS = Corpus(
    "en_malay_cs",
    "EN_MALAY_CS",
    "EN-MALAY-CS-FILTERED, code-switched utterances of the National Speech Corpus",
    Licence(
        "derived from the National Speech Corpus (Singapore Open Data Licence 1.0)",
        commercial=None,
        note="gated: ask for it there",
    ),
    where="https://huggingface.co/datasets/yyhenggg/EN-MALAY-CS-FILTERED",
    layout="  data/train-00000-of-*.parquet, validation-*, test-* (audio, utt_id, speaker_id, ...)",
    find=find,
    read=read,
)
