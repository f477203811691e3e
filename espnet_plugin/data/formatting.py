"""Recipe stage 3: ``data/<set>`` to ``dump/raw/<set>``, 16 kHz mono audio and sorted tables.

A recording that is 16 kHz mono 16 bit WAV or FLAC already is referred to by the path that stands in
``wav.scp`` (a relative one stays relative to the working directory, as in ESPnet's recipes); any
other becomes FLAC in ``dump/raw/<set>/data``. A journal holds what was made, so a killed run, or
one with faults, goes on where it was; a stamp over the inputs tells when there is nothing to do.

What is wrong with the audio stands in ``faults.tsv`` (see `faults`). Utterances that cannot be
used are left out of training and validation sets, up to a share; a test set is taken whole or not
at all.
"""

import hashlib
import multiprocessing
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write, read_json, write_json
from espnet_plugin.cli import nearest, progress
from espnet_plugin.data.audio import RATE, AudioOptions, Cut, Made, make_recording
from espnet_plugin.data.datadir import CHECKSUMS, MAPS, DataDir
from espnet_plugin.data.faults import (
    DROPPED,
    FAULTS,
    KEPT,
    LEFT_OUT,
    PUT_RIGHT,
    TEST_SET,
    Counts,
    Finding,
    count,
    read_findings,
    write_findings,
)
from espnet_plugin.data.journal import entry_of, lasts, read_journal, signatures_of, stamp_of

STAMP = "format.json"
JOURNAL = "format_journal.jsonl"
FILTER_STAMP = "filter.json"
LONG = 30.0  # seconds: Whisper's window
MAX_FAULTY = 0.01  # share of a set's utterances whose audio may be unusable
AS_IT_IS = ("silent", "short MP3", "no end mark")  # oddities about which nothing was done
BATCH = 16  # recordings that a worker takes at a time

LONG_FAULT = f"over {LONG:.0f} s"

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
        left_out: Utterances whose audio cannot be used.
        done: The stamp matched: nothing was touched.
        found: What was found by fault: what was done, how many, the first utterances.
    """

    path: str
    utterances: int = 0
    seconds: float = 0.0
    made: int = 0
    kept: int = 0
    referred: int = 0
    left_out: int = 0
    done: bool = False
    found: Counts = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{self.path}: {self.utterances} utterances, {self.seconds / 3600:.2f} h"
        if self.done:
            text += "; done already"
        else:
            text += f"; {self.made} made, {self.kept} made before, {self.referred} referred to"
        for fault, (done, _, first) in self.found.items():
            warning = "" if done == PUT_RIGHT else "WARNING: "
            note = " (decoding refuses it, stage 4 drops it)" if fault == LONG_FAULT else ""
            text += f"\n{self.path}: {warning}{fault}, {done}{note}: {first}"
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


def _findings(data: DataDir, known: Mapping[str, Made]) -> list[Finding]:
    """Return what is odd or wrong about the audio, for the report."""

    def source(utt: str) -> str:
        return data.wav[utt if data.segments is None else data.segments[utt].recording]

    found = []
    for utt, made in known.items():
        if made.fault is not None:
            found.append(Finding(utt, made.kind, LEFT_OUT, source(utt), made.fault))
            continue
        for note, detail in made.notes.items():
            done = KEPT if note in AS_IT_IS else PUT_RIGHT
            found.append(Finding(utt, note, done, source(utt), detail))
        if made.samples > LONG * RATE:
            length = f"{made.samples / RATE:.2f} s"
            found.append(Finding(utt, LONG_FAULT, KEPT, source(utt), length))
    return sorted(found, key=lambda finding: finding.utterance)


def _check_share(
    data: DataDir, output: Path, left_out: int, total: int, most: float, test: bool
) -> None:
    """Refuse a set of which too much cannot be used; of a test set nothing may be left out.

    Raises:
        ValueError: Names the report and the first utterances.
    """
    if not left_out or (not test and left_out < total and left_out <= most * total):
        return
    findings = (f for f in read_findings(output / FAULTS) if f.done == LEFT_OUT)
    shown = "\n".join(f"  {f.utterance} {f.file}: {f.found}" for f in islice(findings, 5))
    allowed = f"allowed is a share of {most:g} (--max_faulty)"
    if test:
        allowed = "a test set is taken whole: the score would be of another set"
    raise ValueError(
        f"{data.path}: the audio of {left_out} of {total} utterances cannot be used; {allowed}. "
        f"All are listed in {output / FAULTS}; what was made is kept for the next run. The first:\n"
        f"{shown}"
    )


def format_set(
    source: str | Path,
    output: str | Path,
    options: AudioOptions | None = None,
    *,
    nj: int | None = None,
    language: str | None = None,
    languages: Collection[str] | None = None,
    max_faulty: float = MAX_FAULTY,
    test: bool = False,
) -> Formatted:
    """Make ``dump/raw/<set>`` out of ``data/<set>``.

    Args:
        source: A Kaldi data directory.
        output: The directory to make or bring up to date.
        options: How recordings become utterances.
        nj: Worker processes; None takes one per processor. The result does not depend on it.
        language: Language of all utterances, for a directory without ``utt2lang``.
        languages: Languages allowed; None allows all.
        max_faulty: Share of the utterances whose audio may be unusable: they are left out. Nothing
            is left out of a test set.
        test: It is a test set; one that is called so is one in any case.

    Returns:
        What was done.

    Raises:
        FileNotFoundError: The source or one of its tables is missing.
        ValueError: Malformed tables, or more unusable audio than allowed (all of it listed in
            ``faults.tsv``; what was made is kept, but the set has no ``wav.scp``).
    """
    output, options = Path(output), options or AudioOptions()
    if not 0 <= max_faulty <= 1:
        raise ValueError(f"max_faulty is a share within 0 and 1, got {max_faulty}")
    test = test or TEST_SET.search(output.name) is not None
    data = DataDir.load(source, language=language, languages=languages)
    if data.path.resolve() == output.resolve():
        raise ValueError(f"{output}: input and output are the same directory")
    signatures = signatures_of(data, options)
    stamp = stamp_of(data, signatures)
    journal = output / JOURNAL
    known = read_journal(journal, signatures)
    todo = set(signatures) - set(known)
    total = len(signatures)
    if not todo and (output / STAMP).is_file() and (output / "wav.scp").is_file():
        previous = read_json(output / STAMP)
        if previous["stamp"] == stamp:
            _check_share(data, output, previous["result"]["left_out"], total, max_faulty, test)
            return Formatted(**previous["result"] | {"path": str(output), "done": True})
    # From here on the directory is in the making, and must not be taken for the finished set.
    output.mkdir(parents=True, exist_ok=True)
    stale = [p.name for p in output.iterdir() if MAPS.fullmatch(p.name)]
    for name in (STAMP, "wav.scp", FILTER_STAMP, FAULTS, DROPPED, *stale):
        (output / name).unlink(missing_ok=True)
    kept = sum(made.fault is None for made in known.values())
    with atomic_write(journal, "w") as file:
        file.writelines(entry_of(known[utt], signatures[utt]) for utt in sorted(known))
    jobs = _jobs(data, todo, output, options)
    with (
        open(journal, "a", encoding="utf-8", newline="\n") as file,
        progress(len(todo), f"format {output.name}", "utt") as bar,
    ):
        for results in _make(jobs, os.cpu_count() or 1 if nj is None else nj):
            for made in results:
                known[made.utt] = made
                if lasts(made):
                    file.write(entry_of(made, signatures[made.utt]))
            file.flush()
            bar.update(len(results))
    findings = _findings(data, known)
    write_findings(output / FAULTS, findings)
    good = {utt: made for utt, made in sorted(known.items()) if made.fault is None}
    _check_share(data, output, total - len(good), total, max_faulty, test)
    samples = {utt: made.samples for utt, made in good.items()}
    wav = {utt: made.path for utt, made in good.items()}
    whole = data if len(good) == total else data.subset(good)
    extra = whole.extra | {CHECKSUMS: {utt: made.crc32 for utt, made in good.items()}}
    replace(whole, wav=wav, segments=None, num_samples=samples, extra=extra).write(output)
    result = Formatted(str(output), len(samples), sum(samples.values()) / RATE)
    result.made, result.kept, result.left_out = len(todo), kept, total - len(good)
    made_here = str(output / "data")
    result.referred = sum(not path.startswith(made_here) for path in wav.values())
    result.found = count(findings)
    write_json(output / STAMP, {"stamp": stamp, "result": asdict(result)})
    return result
