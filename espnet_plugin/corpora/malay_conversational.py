"""The Malay Conversational Speech Corpus: parquet as on the hub, or as MagicHub gives it away.

Parquet: ``Y`` (text), ``id`` (speaker), ``gender``, ``filename`` (audio). Raw: ``WAV/*.wav``, one
speaker each, and ``TXT/*.txt`` with ``[start,end]<TAB>speaker<TAB>...<TAB>text`` lines, which keep
their times; ``AUDIOINFO.txt`` says who speaks. ``[SONANT]`` and the like are noises, ``[*]`` and
``+`` mark what cannot be made out and overlaps.

The licence forbids commercial use and adapted versions: ``--accept_non_commercial true``.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from espnet_plugin.corpora.archives import Files
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
from espnet_plugin.corpora.hub_layout import no_audio, parquet_files, plain, shard_name
from espnet_plugin.corpora.row_files import need_columns, records, table_units
from espnet_plugin.corpora.textgrid import decode

COLUMNS = ("Y", "id", "filename")
_NOISE = re.compile(r"\[[^\[\]]*\]|<[^<>]*>|(?<!\S)\+(?!\S)|^\+|\+$")
_TIMES = re.compile(r"\[\s*(?P<start>[\d.]+)\s*,\s*(?P<end>[\d.]+)\s*\]")
_CONVERSATION = re.compile(r"(?P<one>[A-Z]\d+_S\d+)_", re.IGNORECASE)


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List parts of the parquet files, or the raw recordings."""
    folder = existing_folder(root, CORPUS)
    if tables := parquet_files(folder):
        for path in tables:
            yield from table_units(path, folder)
        return
    place = next((p for p in (folder, *sorted(folder.iterdir())) if _is_raw(p)), None)
    archive = next(iter(sorted(folder.glob("*.zip"))), None)
    if place is None and archive is None:
        raise wrong_root(root, CORPUS)
    yield Unit("raw", (str(place or archive), *_inside(place)), str(place or archive), weight=1000)


def _is_raw(path: Path) -> bool:
    return (path / "WAV").is_dir() and (path / "TXT").is_dir()


def _inside(place: Path | None) -> list[str]:
    return [] if place is None else [str(place / "WAV"), str(place / "TXT")]


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a parquet file, or all raw recordings (there are twenty)."""
    if isinstance(unit.data, str):
        yield from _read_raw(context.open(unit.data))
        return
    table, _ = unit.data
    need_columns(table, *COLUMNS)
    for where, row, record in records(table, COLUMNS):
        assert not isinstance(record, Skip)
        text, cell = plain(_NOISE.sub(" ", record["Y"] or "")), record["filename"]
        inside = cell.get("path") if isinstance(cell, Mapping) else cell
        name = PurePosixPath(inside).stem if isinstance(inside, str) else ""
        if not text:
            yield Skip(where, "no words", plain(record["Y"])[:80])
            continue
        try:
            audio = cell_audio(cell, context, table.path, row, [context.root])
        except AudioError as error:
            yield no_audio(where, error)
            continue
        speaker = plain(record["id"]) or None
        name = "-".join(filter(None, (shard_name(Path(table.path)), f"{row:06d}", name)))
        yield Row(name, speaker, text, "ms", audio.source, audio.seconds)


def _read_raw(files: Files) -> Iterator[Row | Skip]:
    names = files.names()
    speakers = {}
    for name in names:
        if PurePosixPath(name).name.upper() == "AUDIOINFO.TXT":
            table = [line.split("\t") for line in decode(files.read(name)).splitlines()[1:]]
            speakers = {PurePosixPath(f[1]).stem: f[2].strip() for f in table if len(f) > 2}
    kinds = {
        kind: {p.stem: str(p) for p in map(PurePosixPath, names) if p.parent.name.upper() == kind}
        for kind in ("WAV", "TXT")
    }
    for stem, name in sorted(kinds["TXT"].items()):
        lines = [line for line in decode(files.read(name)).splitlines() if line.strip()]
        if stem not in kinds["WAV"]:
            yield Skip(stem, "missing audio", "no such file", len(lines))
            continue
        try:
            audio = files.audio(kinds["WAV"][stem])
        except AudioError as error:
            yield Skip(stem, "unusable audio", str(error), len(lines))
            continue
        for number, line in enumerate(lines, 1):
            yield _raw_row(stem, number, line, speakers.get(stem), audio.source, audio.seconds)
    for stem in sorted(kinds["WAV"].keys() - kinds["TXT"].keys()):
        yield Skip(stem, "audio without transcript", kinds["WAV"][stem])


def _raw_row(
    stem: str, number: int, line: str, owner: str | None, source: str, seconds: float
) -> Row | Skip:
    fields = line.split("\t")
    match = _TIMES.match(fields[0].strip())
    if match is None or len(fields) < 3:
        return Skip(f"{stem}:{number}", "malformed line of a transcript", line[:80])
    text = plain(_NOISE.sub(" ", fields[-1]))
    if not text:
        return Skip(f"{stem}:{number}", "no words", fields[-1][:80])
    speaker = fields[1].strip()
    if speaker in ("", "0"):  # nobody of the two: noise, or both
        speaker = owner or stem.rpartition("_")[2]
    start, end = float(match["start"]), float(match["end"])
    conversation = _CONVERSATION.match(stem)
    return Row(
        f"{stem}-{round(start * 1000):07d}-{round(end * 1000):07d}",
        speaker,
        text,
        "ms",
        source,
        seconds,
        recording=stem,
        start=start,
        end=end,
        times=[(0.0, max(end - start, 0.0), len(text.split()))],
        group=conversation["one"] if conversation else None,
    )


CORPUS = Corpus(
    "malay_conversational",
    "MALAY_CONVERSATIONAL",
    "Malay Conversational Speech Corpus (MagicHub), five hours",
    Licence(
        "CC BY-NC-ND 4.0",
        commercial=False,
        note="no adapted version may be passed on, and whether a model is one is not settled",
    ),
    where="https://huggingface.co/datasets/malaysia-ai/malay-conversational-speech-corpus",
    layout="""  data/train-00000-of-*.parquet (Y, id, gender, filename),
  or WAV/*.wav TXT/*.txt AUDIOINFO.txt SPKINFO.txt (also in a zip)""",
    find=find,
    read=read,
)
