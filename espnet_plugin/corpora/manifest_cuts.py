"""Lhotse cut manifests: a supervision is an utterance; word alignments become ``utt2times``.

Cuts are read as ``lhotse`` reads them, line by line. Audio is a file (relative to the manifest, or
to the option `audio_root`) or the output of a command, one source a recording; what a manifest
holds or refers to otherwise (memory, URLs, Shar) has to be written first: ``cuts.save_audios``.
"""

import gzip
import importlib.util
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.corpora.corpus import AudioError, Context, Row, Skip, Unit
from espnet_plugin.corpora.hub_layout import is_code, language_code, no_audio, plain
from espnet_plugin.corpora.sound import file_audio

if TYPE_CHECKING:
    from lhotse import SupervisionSegment

CUTS = 20_000  # in a unit
EDGE = 0.05  # seconds that a cut may be shorter than an utterance in it
KINDS = ("MonoCut", "MultiCut", "MixedCut")


@dataclass(frozen=True, slots=True)
class Cuts:
    """Some cuts of a manifest, by their numbers."""

    path: str
    start: int
    end: int
    split: str | None


def _open(path: str | Path) -> Any:
    if str(path).endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return open(path, encoding="utf-8")


def is_cuts(path: Path) -> bool:
    """Tell whether a table is a cut manifest."""
    if not path.name.endswith((".jsonl", ".jsonl.gz")):
        return False
    try:
        with _open(path) as file:
            record = json.loads(file.readline(2**24))
    except (ValueError, OSError, EOFError):
        return False
    return isinstance(record, dict) and record.get("type") in KINDS


def find_cuts(path: Path, root: Path, split: str | None) -> Iterator[Unit]:
    """Make units of a manifest.

    Raises:
        ValueError: Lhotse is not installed.
    """
    if importlib.util.find_spec("lhotse") is None:
        raise ValueError(f"{path}: a Lhotse cut manifest needs Lhotse: pip install lhotse")
    with _open(path) as file:
        count = sum(bool(line.strip()) for line in file)
    for start in range(0, count, CUTS):
        end = min(start + CUTS, count)
        name = path.absolute().relative_to(root.absolute(), walk_up=True)
        yield Unit(f"{name}:{start}", (str(path),), Cuts(str(path), start, end, split), end - start)


def read_cuts(cuts: Cuts, context: Context) -> Iterator[Row | Skip]:
    """Read some cuts."""
    from lhotse.serialization import deserialize_item

    with _open(cuts.path) as file:
        lines = (line for line in file if line.strip())
        for number, line in enumerate(itertools.islice(lines, cuts.start, cuts.end), cuts.start):
            try:
                cut = deserialize_item(json.loads(line))
            except (ValueError, KeyError, TypeError, AssertionError) as error:
                yield Skip(f"{Path(cuts.path).name}:{number}", "not a cut", str(error)[:200])
                continue
            yield from _rows(cut, cuts, context)


def _rows(cut: Any, cuts: Cuts, context: Context) -> Iterator[Row | Skip]:
    if type(cut).__name__ != "MonoCut" or not cut.has_recording:
        yield Skip(cut.id, "not a cut of one channel of a recording", type(cut).__name__)
        return
    if not cut.supervisions:
        yield Skip(cut.id, "audio without transcript")
        return
    sources = cut.recording.sources
    try:
        if len(sources) != 1 or sources[0].type not in ("file", "command"):
            kinds = " ".join(source.type for source in sources)
            raise AudioError(f"{kinds or 'no'} audio; write it to files first")
        if cut.recording.transforms:
            raise AudioError("is changed on the fly (speed, volume); write it to files first")
        source, seconds = sources[0].source, cut.recording.duration
        if sources[0].type == "command":
            source = f"{source} |"
        else:
            path = Path(cuts.path).parent / (context.options["audio_root"] or "") / source
            audio = file_audio(str(path.absolute()))
            source, seconds = audio.source, audio.seconds
    except AudioError as error:
        skip = no_audio(cut.id, error)
        skip.items = len(cut.supervisions)
        yield skip
        return
    for supervision in cut.supervisions:
        if supervision.start < -EDGE or supervision.end > cut.duration + EDGE:
            shown = f"{supervision.start} to {supervision.end} of {cut.duration} s"
            yield Skip(supervision.id, "the cut ends inside of the utterance", shown)
            continue
        lang = language_code(supervision.language or context.options["language"])
        if not is_code(lang):
            yield Skip(supervision.id, "language is no code", str(supervision.language))
            continue
        start = cut.start + max(supervision.start, 0.0)
        end = cut.start + min(supervision.end, cut.duration)
        whole = start <= 1e-3 and end >= seconds - 1e-3
        yield Row(
            supervision.id,
            supervision.speaker,
            plain(supervision.text),
            lang,
            source,
            seconds,
            recording=None if whole else cut.recording.id,
            start=None if whole else start,
            end=None if whole else end,
            times=_times(supervision, cut.start, start, end),
            split=cuts.split,
        )


def _times(
    supervision: "SupervisionSegment", cut_start: float, start: float, end: float
) -> list[tuple[float, float, int]] | None:
    """Return the times of words, from the utterance's start; None where they are not all there."""
    items = (supervision.alignment or {}).get("word") or []
    text = plain(supervision.text).split()
    if [word for item in items for word in plain(item.symbol).split()] != text or not text:
        return None
    times, last = [], 0.0
    for item in items:
        first, stop = cut_start + item.start - start, cut_start + item.end - start
        if not last <= first <= stop <= end - start + 0.02:
            return None
        times.append((first, stop, len(plain(item.symbol).split())))
        last = first
    return times
