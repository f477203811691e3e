"""IMDA-STT: the National Speech Corpus as JSONL and zips of audio.

``imda-part1.jsonl`` has ``id text filename new_filename``, ``imda-same-part4.jsonl`` has ``filename
text``. Part and speaker come from the names, where they still are those of
the corpus: nine digits (channel, speaker, session, number) or ``sur_0001_0012_phnd_cs-mly...``.
Sets are named like those of `nsc`. Use one of the two, not both: they are the same recordings.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from espnet_plugin.corpora.cells import named_audio
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
from espnet_plugin.corpora.hub_layout import first_of, no_audio, words_of
from espnet_plugin.corpora.language_tags import keeps_language_tags
from espnet_plugin.corpora.marked import read_marked
from espnet_plugin.corpora.row_files import records, table_units
from espnet_plugin.corpora.sound import Audio
from espnet_plugin.corpora.zip_set import ZipSet, open_zips
from espnet_plugin.corpora.zip_volumes import find_zips

FILE_KEYS = ("new_filename", "filename")
_PART = re.compile(r"part[-_ ]?(?P<part>[1-6])")
_PROMPTED = re.compile(r"(?<!\d)\d(?P<speaker>\d{4})\d{4}(?!\d)")
_SESSION = re.compile(
    r"(?P<session>[a-z]{3}_\d+)_(?P<speaker>\d+)_phn[ds]_(?P<style>cs-[a-z]{3}|cc-[a-z]{3}|\w+)"
)
_PAIR = re.compile(r"(?P<session>conf_\d+_\d+)_(?P<speaker>\d+)|(?<!\d)(?P<room>\d{4})-(?P<one>\d)")


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List the parts of the tables."""
    folder = existing_folder(root, CORPUS)
    tables = [path for path in sorted(folder.glob("*.jsonl")) if _PART.search(path.name)]
    if not tables:
        raise wrong_root(root, CORPUS)
    zips = find_zips(folder)
    chosen = words_of(options["parts"])
    for path in tables:
        part = _PART.search(path.name)
        assert part is not None
        if part["part"] in chosen:
            tagged = part["part"] != "4" or keeps_language_tags(path, "text")
            data = int(part["part"]), tuple(zips), tagged
            files = [name for volumes in zips for name in volumes]
            yield from table_units(path, folder, data, files=files)


def who(part: int, name: str) -> tuple[str | None, str | None, str]:
    """Return speaker, session and style (``cs-mly``) as a recording's name has them."""
    stem = PurePosixPath(name).stem.lower()
    if part < 3:
        match = _PROMPTED.search(stem)
        return (f"p{part}_{match['speaker']}" if match else None), None, ""
    if match := _SESSION.search(stem):
        return f"p{part}_{match['speaker']}", f"p{part}_{match['session']}", match["style"]
    if match := _PAIR.search(stem):
        session, speaker = match["session"] or match["room"], match["speaker"] or match["one"]
        return f"p{part}_{session}_{speaker}", f"p{part}_{session}", ""
    return None, None, ""


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a table."""
    table, (part, zips, tagged) = unit.data
    archives = open_zips(zips, context.media) if zips else None
    root = Path(context.root)
    folders = [root, root / Path(table.path).name.partition(".")[0]]
    for where, _, record in records(table):
        if isinstance(record, Skip):
            yield record
            continue
        keys = [key for key in FILE_KEYS if isinstance(record.get(key), str) and record[key]]
        _, raw = first_of(record, ("text",))
        if not keys:
            yield Skip(where, "no file name")
            continue
        name = record[keys[-1]]  # the corpus's own; what `new_filename` keeps of it is not known
        if not isinstance(raw, str):
            yield Skip(name, "no transcript")
            continue
        identity = str(record.get("id") or name)
        speaker, session, style = who(part, identity)
        if speaker is None:
            speaker, session, style = who(part, name)
        marked = read_marked(raw)
        if not marked.tags:
            yield Skip(name, "no words", raw[:80])
            continue
        subset = f"part{part}"
        if style.startswith("cs-"):
            subset = "cs" if style == "cs-mly" else style.replace("-", "_")
        if subset not in ("cs", f"part{part}") and style[3:] not in words_of(
            context.options["mixed"]
        ):
            yield Skip(name, "another pair of languages", style)
            continue
        try:
            audio = _audio([record[key] for key in keys], folders, archives)
        except AudioError as error:
            yield no_audio(name, error)
            continue
        path = PurePosixPath(identity)
        yield Row(
            path.stem if speaker else f"{path.parent.name}-{path.stem}",
            speaker,
            marked.text,
            marked.lang,
            audio.source,
            audio.seconds,
            tags=marked.tags if tagged else None,
            subset=subset,
            group=session,
        )


def _audio(names: list[str], folders: list[Path], zips: ZipSet | None) -> Audio:
    """Find a recording under the first of its names that exists."""
    for name in names[:-1]:
        with contextlib.suppress(AudioError):
            return named_audio(name, folders, zips)
    return named_audio(names[-1], folders, zips)


CORPUS = Corpus(
    "imda_stt",
    "IMDA_STT",
    "IMDA-STT, the National Speech Corpus as JSONL",
    Licence("Singapore Open Data Licence 1.0", commercial=True),
    where="https://huggingface.co/datasets/mesolitica/IMDA-STT",
    layout="  imda-part1.jsonl, imda-same-part4.jsonl, ...; *.zip with the audio, or its files",
    find=find,
    read=read,
    options={
        "parts": Option("1 2 3 4 5 6", "parts to prepare", tuple("123456")),
        "mixed": Option("mly", "languages of part 4 mixed with English", ("mly", "chn", "tml")),
    },
)
