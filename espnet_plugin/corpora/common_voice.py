"""Common Voice: ``cv-corpus-23.0-.../ms/{train,dev,test,validated}.tsv`` and ``clips/*.mp3``.

Speakers are hashed accounts. The official splits take each sentence once; ``train=validated`` takes
all validated clips whose speaker and sentence are in no held-out set. Malay has 39 validated clips
(in version 23): too few to train on or to measure with.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

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
from espnet_plugin.corpora.hub_layout import language_code, plain
from espnet_plugin.corpora.row_files import need_columns, records, table_units


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the tables."""
    folder = existing_folder(root, CORPUS)
    language = options["language"]
    places = [p for p in _places(folder, language) if (p / "clips").is_dir()]
    if len(places) > 1:
        raise ValueError(
            f"{CORPUS.variable}={root}: several versions are there: "
            f"{' '.join(map(str, places))}; name one"
        )
    if not places:
        if archives := sorted(path.name for path in folder.glob("*.tar.gz")):
            raise FileNotFoundError(
                f"{CORPUS.variable}={root}: unpack the archive first: tar -xf {archives[0]}"
            )
        raise wrong_root(root, CORPUS)
    tables = {options["train"]: "train", "dev": "dev", "test": "test"}
    for name, split in tables.items():
        path = places[0] / f"{name}.tsv"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such table; Common Voice has one for each split")
        yield from table_units(path, folder, (split, str(places[0] / "clips")))


def _places(folder: Path, language: str) -> list[Path]:
    if folder.name == language:
        return [folder]
    return [folder / language, *sorted(folder.glob(f"*/{language}"))]


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a table."""
    table, (split, clips) = unit.data
    need_columns(table, "client_id", "path", "sentence")
    lang = language_code(context.options["language"])
    for _, _, record in records(table):
        if isinstance(record, Skip):
            yield record
            continue
        name, text = record["path"].strip(), plain(record["sentence"])
        name += "" if PurePosixPath(name).suffix else ".mp3"
        if not text:
            yield Skip(name, "no transcript")
            continue
        yield clip_row(name, record["client_id"], text, lang, clips, split)


CORPUS = Corpus(
    "common_voice",
    "COMMON_VOICE",
    "Common Voice, read sentences",
    Licence("CC0", commercial=True, note="you promise not to find out who a speaker is"),
    where="https://commonvoice.mozilla.org",
    layout="  cv-corpus-*/ms/{train,dev,test,validated}.tsv and cv-corpus-*/ms/clips/*.mp3",
    find=find,
    read=read,
    options={
        "language": Option("ms", "which of its languages"),
        "train": Option("train", "training clips: the official, or all", ("train", "validated")),
    },
)
