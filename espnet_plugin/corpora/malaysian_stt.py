"""Malaysian-STT-Whisper and the pseudo-labelled YouTube sets: transcripts with Whisper's tokens.

Tables (JSONL or parquet) name audio files and have a transcript with Whisper's tokens and
timestamps, under one of `TEXT_KEYS`. The audio, mostly MP3, is in zips, some of them split, or
unpacked below the root. A row may have several segments: they become ``utt2times``, or utterances
of their own (``rows=segments``). Labels are mostly a machine's: see `pseudo_labels`.

Nobody says who speaks. Clips are called ``worker-video-window`` or ``window-clip``: a video stands
for a speaker, or where the video is not known a hundred neighbouring windows, so that a split does
not tear most videos apart.
"""

import dataclasses
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
from espnet_plugin.corpora.hub_layout import first_of, no_audio, parquet_files, words_of
from espnet_plugin.corpora.pseudo_labels import OPTIONS, filtered, read_limits, relabelled
from espnet_plugin.corpora.row_files import records, table_units
from espnet_plugin.corpora.sound import Audio
from espnet_plugin.corpora.whisper_text import WhisperText, read_whisper
from espnet_plugin.corpora.zip_set import open_zips
from espnet_plugin.corpora.zip_volumes import find_zips

TEXT_KEYS = ("new_text", "text", "segment_timestamp", "word_timestamp")
FOLDERS = ("", "data")  # below the root: where tables and zips are; never the audio's own folders
WINDOWS = 100  # neighbouring windows that count as one speaker
_VIDEO = re.compile(r"(?P<video>\d+-\d+)-\d+")
_WINDOW = re.compile(r"(?P<window>\d+)-\d+")
_UNSAFE = re.compile(r"[^A-Za-z0-9.]")  # in a speaker
_PART = re.compile(r"-\d{5}-of-\d{5}.*")


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List the parts of the tables."""
    return _find(root, options, CORPUS)


def find_youtube(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List the parts of the tables."""
    return _find(root, options, YOUTUBE)


def _find(root: str, options: Mapping[str, str], corpus: Corpus) -> Iterator[Unit]:
    folder = existing_folder(root, corpus)
    places = [folder / name for name in FOLDERS if (folder / name).is_dir()]
    tables = [path for place in places for path in _tables(place)]
    if not tables:
        raise wrong_root(root, corpus)
    read_limits(options)
    chosen = words_of(options["tables"])
    names = sorted({table_name(path) for path in tables})
    for name in chosen:
        if name not in names:
            raise ValueError(f"tables: '{name}' is not there; there are {' '.join(names)}")
    zips = tuple(volumes for place in places for volumes in find_zips(place))
    files = [path for volumes in zips for path in volumes]
    for path in tables:
        if not chosen or table_name(path) in chosen:
            yield from table_units(path, folder, (zips, tuple(map(str, places))), files=files)


def _tables(folder: Path) -> list[Path]:
    jsonl = [*folder.glob("*.jsonl"), *folder.glob("*.jsonl.gz")]
    return sorted(jsonl + parquet_files(folder, depth=1))


def table_name(path: Path) -> str:
    """Return what a table is called: ``extra`` of ``extra-00000-of-00002.parquet``."""
    return _PART.sub("", path.name.partition(".")[0])


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a part of a table."""
    rows = _rows(unit, context)
    if context.options["language"] == "words":
        rows = relabelled(rows)
    return filtered(rows, read_limits(context.options))


def _rows(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    part, (zips, folders) = unit.data
    archives = open_zips(zips, context.media) if zips else None
    wanted = context.options["text_key"]
    keys = TEXT_KEYS if wanted == "auto" else (wanted,)
    for where, _, record in records(part, ("audio_filename", "filename", *TEXT_KEYS)):
        if isinstance(record, Skip):
            yield record
            continue
        _, name = first_of(record, ("audio_filename", "filename"))
        key, raw = first_of(record, keys)
        if not isinstance(name, str) or not name.strip():
            yield Skip(where, "no audio_filename")
        elif not isinstance(raw, str):
            yield Skip(name, "no transcript", f"none of {' '.join(keys)}" if not key else repr(raw))
        elif not (found := read_whisper(raw)).pieces:
            yield Skip(name, "no words", raw[:80])
        elif found.task == "translate":
            yield Skip(name, "a translation, not a transcript", raw[:80])
        else:
            try:
                audio = named_audio(name, folders, archives)
            except AudioError as error:
                yield no_audio(name, error)
                continue
            yield from _utterances(name, found, audio, context.options["rows"] == "segments")


def speaker_of(name: str) -> str | None:
    """Return what stands for the speaker: the video, or neighbouring windows; None if unknown."""
    path = PurePosixPath(name)
    folder = _UNSAFE.sub("_", path.parent.name)
    if match := _VIDEO.fullmatch(path.stem):
        return f"{folder}_{match['video'].replace('-', '_')}"
    if match := _WINDOW.fullmatch(path.stem):
        return f"{folder}_{int(match['window']) // WINDOWS:07d}"
    return None


def _utterances(
    name: str, found: WhisperText, audio: Audio, segments: bool
) -> Iterator[Row | Skip]:
    path = PurePosixPath(name)
    stem, speaker, lang = f"{path.parent.name}-{path.stem}", speaker_of(name), found.lang or "ms"
    times = found.times(audio.seconds)
    if not segments or times is None or len(times) == 1:
        row = Row(stem, speaker, found.text, lang, audio.source, audio.seconds, times=times)
        if times is None:  # what is known: the words are in the clip
            row.times = [(0.0, audio.seconds, len(found.text.split()))]
            timed = any(piece.start is not None for piece in found.pieces)
            row.notes = ["timestamps that cannot be were left out"] if timed else ["no timestamps"]
        yield row
        return
    for piece, (start, end, words) in zip(found.pieces, times, strict=True):
        yield Row(
            f"{stem}-{round(start * 1000):06d}-{round(end * 1000):06d}",
            speaker,
            piece.text,
            lang,
            audio.source,
            audio.seconds,
            recording=stem,
            start=start,
            end=end,
            times=[(0.0, end - start, words)],
        )


CORPUS = Corpus(
    "malaysian_stt",
    "MALAYSIAN_STT",
    "Malaysian-STT-Whisper, Malaysian speech with machine labels",
    Licence("none declared", commercial=None, note="ask its makers (Mesolitica) what it is for"),
    where="https://huggingface.co/datasets/mesolitica/Malaysian-STT-Whisper",
    layout="""  *.jsonl with audio_filename and new_text or text,
  or data/*.parquet with audio_filename and segment_timestamp;
  *.zip (x.z01 x.z02 x.zip and x.zip.001 x.zip.002 as well), or their files""",
    find=find,
    read=read,
    options=OPTIONS
    | {
        "tables": Option("", "tables to take, by their names without ending; empty: all"),
        "text_key": Option("auto", "transcript to take; auto: the first", ("auto", *TEXT_KEYS)),
        "rows": Option("whole", "utterances: whole rows, or segments", ("whole", "segments")),
        "language": Option("token", "Whisper's token, or by the words", ("token", "words")),
    },
)

YOUTUBE = dataclasses.replace(
    CORPUS,
    name="malaysian_youtube",
    variable="MALAYSIAN_YOUTUBE",
    title="Malaysian YouTube, 30 s windows with labels by Whisper large-v3",
    where="https://huggingface.co/datasets/mesolitica/pseudolabel-malaysian-youtube-whisper-large-v3",
    find=find_youtube,
)
