"""Recipe stage 3: ``data/<set>`` to ``dump/raw/<set>``, 16 kHz mono audio and sorted tables.

A recording that is 16 kHz mono 16 bit WAV or FLAC already is referred to by the path that stands in
``wav.scp`` (a relative one stays relative to the working directory, as in ESPnet's recipes); any
other becomes FLAC in ``dump/raw/<set>/data``. A journal holds what was made, so a killed run, or
one with faults, goes on where it was; a stamp over the inputs tells when there is nothing to do.
"""

import hashlib
import multiprocessing
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write, read_json, write_json
from espnet_plugin.cli import nearest, progress
from espnet_plugin.data.audio import RATE, AudioOptions, Cut, Made, make_recording
from espnet_plugin.data.datadir import MAPS, DataDir
from espnet_plugin.data.journal import entry_of, read_journal, signatures_of, stamp_of
from espnet_plugin.data.tables import some

STAMP = "format.json"
JOURNAL = "format_journal.jsonl"
FAULTS = "audio_faults.txt"
FILTER_STAMP = "filter.json"
LONG = 30.0  # seconds: Whisper's window
BATCH = 16  # recordings that a worker takes at a time

Job = tuple[str, list[Cut], bool, AudioOptions]


@dataclass
class Formatted:
    """What formatting a set did.

    Attributes:
        path: The directory made.
        utterances: How many it holds.
        seconds: Their duration.
        made: Utterances worked on in this run.
        kept: Utterances that an earlier run had made.
        referred: Utterances whose audio is referred to, not copied.
        done: The stamp matched: nothing was touched.
        too_long: Utterances over 30 s, which decoding refuses.
        notes: Utterances by what was put right: ``resampled``, ``clipped``, ``cut``.
    """

    path: str
    utterances: int = 0
    seconds: float = 0.0
    made: int = 0
    kept: int = 0
    referred: int = 0
    done: bool = False
    too_long: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.path}: {self.utterances} utterances, {self.seconds / 3600:.2f} h"
        if self.done:
            text += "; done already"
        else:
            text += f"; {self.made} made, {self.kept} made before, {self.referred} referred to"
        for note, utts in sorted(self.notes.items()):
            text += f"\n{self.path}: {note}: {some(utts)}"
        if self.too_long:
            text += (
                f"\n{self.path}: WARNING: over {LONG:.0f} s, which decoding refuses (filter "
                f"drops them from training sets): {some(self.too_long)}"
            )
        return text


def formatted_set(dumpdir: str | Path, name: str) -> Path:
    """Return the directory of a finished set.

    Raises:
        FileNotFoundError: It does not exist or is not finished; names the nearest set.
    """
    path = Path(dumpdir) / name
    for table in ("utt2num_samples", "wav.scp"):  # wav.scp is written last
        if not (path / table).is_file():
            sets = [p.parent.name for p in Path(dumpdir).glob("*/wav.scp")]
            raise FileNotFoundError(
                f"{path}: not a formatted set, it has no {table}{nearest(name, sets)}; "
                "format (stage 3) makes it"
            )
    return path


def audio_name(utt: str) -> str:
    """Return the file of an utterance below ``data/``: 256 folders, so that millions are no burden.

    ``/`` and ``%`` in an id are percent-encoded.
    """
    folder = hashlib.sha256(utt.encode()).hexdigest()[:2]
    return f"{folder}/{utt.replace('%', '%25').replace('/', '%2F')}.flac"


def _jobs(data: DataDir, todo: Collection[str], output: Path, options: AudioOptions) -> list[Job]:
    """Group the utterances to make by recording, so that each is opened once."""
    cuts: dict[str, list[Cut]] = {}
    for utt in data.utterances:
        if utt in todo:
            target = output / "data" / audio_name(utt)
            recording, start, end = utt, 0.0, None
            if data.segments is not None:
                segment = data.segments[utt]
                recording, start = segment.recording, segment.start
                end = None if segment.end == -1 else segment.end
            cuts.setdefault(recording, []).append(Cut(utt, start, end, target))
    whole = data.segments is None
    return [(data.wav[recording], parts, whole, options) for recording, parts in cuts.items()]


def _make_batch(jobs: list[Job]) -> list[Made]:
    return [made for job in jobs for made in make_recording(*job)]


def _make(jobs: list[Job], nj: int) -> Iterator[list[Made]]:
    """Run the jobs, in `nj` processes where that pays; results come in the order of the jobs."""
    batches = [jobs[i : i + BATCH] for i in range(0, len(jobs), BATCH)]
    if nj <= 1 or len(batches) < 2:
        yield from map(_make_batch, batches)
        return
    context = multiprocessing.get_context("spawn")  # forking is unsafe beside other threads
    with ProcessPoolExecutor(min(nj, len(batches)), mp_context=context) as pool:
        yield from pool.map(_make_batch, batches)


def _raise_faults(output: Path, data: DataDir, faults: dict[str, str], n: int) -> None:
    def source(utt: str) -> str:
        return data.wav[utt if data.segments is None else data.segments[utt].recording]

    lines = [f"{utt} {source(utt)}: {faults[utt]}" for utt in sorted(faults)]
    with atomic_write(output / FAULTS, "w") as file:
        file.writelines(f"{line}\n" for line in lines)
    shown = "\n".join(f"  {line}" for line in lines[:5])
    raise ValueError(
        f"{data.path}: the audio of {len(faults)} of {n} utterances cannot be used; all are listed "
        f"in {output / FAULTS}; what was made is kept for the next run. The first:\n{shown}"
    )


def format_set(
    source: str | Path,
    output: str | Path,
    options: AudioOptions | None = None,
    *,
    nj: int | None = None,
    language: str | None = None,
    languages: Collection[str] | None = None,
) -> Formatted:
    """Make ``dump/raw/<set>`` out of ``data/<set>``.

    Args:
        source: A Kaldi data directory.
        output: The directory to make or bring up to date.
        options: How recordings become utterances.
        nj: Worker processes; None takes one per processor. The result does not depend on it.
        language: Language of all utterances, for a directory without ``utt2lang``.
        languages: Languages allowed; None allows all.

    Returns:
        What was done.

    Raises:
        FileNotFoundError: The source or one of its tables is missing.
        ValueError: Malformed tables, or unusable audio (all of it listed in ``audio_faults.txt``;
            the good utterances are kept, but the set has no ``wav.scp`` until all are good).
    """
    output, options = Path(output), options or AudioOptions()
    data = DataDir.load(source, language=language, languages=languages)
    if data.path.resolve() == output.resolve():
        raise ValueError(f"{output}: input and output are the same directory")
    signatures = signatures_of(data, options)
    stamp = stamp_of(data, signatures)
    journal = output / JOURNAL
    good = read_journal(journal, signatures)
    todo = set(signatures) - set(good)
    if not todo and (output / STAMP).is_file() and (output / "wav.scp").is_file():
        previous = read_json(output / STAMP)
        if previous["stamp"] == stamp:
            return Formatted(**previous["result"] | {"path": str(output), "done": True})
    # From here on the directory is in the making, and must not be taken for the finished set.
    output.mkdir(parents=True, exist_ok=True)
    stale = [p.name for p in output.iterdir() if MAPS.fullmatch(p.name)]
    for name in (STAMP, "wav.scp", FILTER_STAMP, FAULTS, *stale):
        (output / name).unlink(missing_ok=True)
    kept = len(good)
    with atomic_write(journal, "w") as file:
        file.writelines(entry_of(good[utt], signatures[utt]) for utt in sorted(good))
    faults: dict[str, str] = {}
    jobs = _jobs(data, todo, output, options)
    with (
        open(journal, "a", encoding="utf-8", newline="\n") as file,
        progress(len(todo), f"format {output.name}", "utt") as bar,
    ):
        for results in _make(jobs, os.cpu_count() or 1 if nj is None else nj):
            for made in results:
                if made.fault is None:
                    good[made.utt] = made
                    file.write(entry_of(made, signatures[made.utt]))
                else:
                    faults[made.utt] = made.fault
            file.flush()
            bar.update(len(results))
    if faults:
        _raise_faults(output, data, faults, len(signatures))
    samples = {utt: good[utt].samples for utt in data.utterances}
    wav = {utt: good[utt].path for utt in data.utterances}
    replace(data, wav=wav, segments=None, num_samples=samples).write(output)
    result = Formatted(str(output), len(samples), sum(samples.values()) / RATE)
    result.made, result.kept = len(todo), kept
    made_here = str(output / "data")
    result.referred = sum(not path.startswith(made_here) for path in wav.values())
    result.too_long = [utt for utt, n in samples.items() if n > LONG * RATE]
    for utt in data.utterances:
        for note in good[utt].notes:
            result.notes.setdefault(note, []).append(utt)
    write_json(output / STAMP, {"stamp": stamp, "result": asdict(result)})
    return result
