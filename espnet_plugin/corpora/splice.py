"""Code-switched speech out of monolingual recordings, after the idea of arXiv 2506.14177.

    python -m espnet_plugin.bin.synth_data splice --input data/nsc_part1_train data/ms_train \
        --lines data/text/switched.jsonl --output data/spliced --exclude data/test_cs/text
    python -m espnet_plugin.bin.synth_data splice --input data/ms_train data/en_train \
        --lexicon ms-en.tsv --output data/spliced

The recordings need the times of their words (``utt2times``). What is said is either given as lines,
or made of the recordings' own sentences with a lexicon of which those phrases are used that are
recorded (`switch_text`): then the frame of each line is its sentence as it was spoken. Which
recordings say a line stands in `splice_plan`, how they are joined in `splice_audio`.

The output is a data directory (`synthesiser_set`): ``utt2lang`` ``cs``, a tag for each word, and
times again. Its speakers are ``splice_<speaker>``: the speaker of the line, who says most of it.
The same input and seed give the same files, whatever the number of processes.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import sha256_file
from espnet_plugin.cli import progress
from espnet_plugin.corpora.augment import RATE
from espnet_plugin.corpora.data_dir import write_wav
from espnet_plugin.corpora.splice_audio import join
from espnet_plugin.corpora.splice_bank import Bank, Source
from espnet_plugin.corpora.splice_plan import Job, NotRecordedError, Planner
from espnet_plugin.corpora.spool import safe_id
from espnet_plugin.corpora.switch_text_lexicon import Lexicon
from espnet_plugin.corpora.synthesiser_lines import SpokenLine, read_spoken_lines
from espnet_plugin.corpora.synthesiser_set import (
    EXCLUDED,
    LONGEST,
    Batch,
    Failed,
    SpeechSet,
    Spoken,
    wav_name,
)
from espnet_plugin.data.audio import Cut, read_cut
from espnet_plugin.data.source import AudioError, open_audio
from espnet_plugin.text.dedup import line_hashes
from espnet_plugin.text.executors import LocalExecutor

VERSION = 1
BATCH = 200  # lines


@dataclass(frozen=True)
class SpliceOptions:
    """How lines are spliced.

    Attributes:
        lines: Utterances to make at most; None for all.
        max_pieces: Recordings that a run of one language may be put together from.
        same_speaker: ``preferred`` or ``required``.
        max_failed: Largest share of lines that may fail. Lines whose phrases nobody says are the
            rule where the lines were not made for these recordings, so it is 1 by default.
        seed: Draws among equals.
        nj: Processes.
    """

    lines: int | None = None
    max_pieces: int = 1
    same_speaker: str = "preferred"
    max_failed: float = 1.0
    seed: int = 0
    nj: int = 1


def splice(
    inputs: Sequence[str | Path],
    lines: str | Path,
    output: str | Path,
    languages: Sequence[str],
    options: SpliceOptions,
    excluded: frozenset[int] = frozenset(),
    bank: Bank | None = None,
    key: str = "",
) -> dict[str, Any]:
    """Make a data directory of spliced utterances.

    Args:
        inputs: Data directories with ``utt2times``.
        lines: What is said, ``.jsonl``.
        output: The directory to make.
        languages: The pair: outside and inside of the lines' brackets.
        options: How.
        excluded: Hashes (``text.dedup``) of validation and test sentences, which are not spoken.
        bank: The recordings, where they are loaded already.
        key: Of what else decides the outcome.

    Returns:
        The report.

    Raises:
        FileNotFoundError: A missing directory, table or file.
        ValueError: Unusable tables or lines, or too many lines that nobody says.
    """
    key = _key(inputs, lines, languages, options, excluded, key)
    speech = SpeechSet(output, key, options.max_failed)
    if (report := speech.finished()) is not None:
        return report | {"unchanged": True}
    bank = load_bank(inputs, languages) if bank is None else bank
    done = speech.begin()
    planner = Planner(bank, options.max_pieces, options.same_speaker, options.seed)
    jobs = _jobs(read_spoken_lines(lines, languages), planner, options.lines, excluded)
    with LocalExecutor(options.nj) as executor, progress(None, "splice", "lines") as bar:
        # finished batches are planned again, which is quick: what follows depends on them
        todo = (batch for number, batch in enumerate(batched(jobs, BATCH)) if number >= done)
        made = executor.ordered_map(partial(_render, str(speech.path)), todo)
        for number, batch in enumerate(made, done):
            speech.add(number, batch)
            bar.update(len(batch.spoken) + len(batch.failed))
    return speech.finish(
        {
            "method": "splice",
            "input": [str(path) for path in inputs],
            "recordings": len(bank.sources),
            "recordings_skipped": dict(bank.skipped),
            "settings": {k: v for k, v in asdict(options).items() if k != "nj"},
        }
    )


def load_bank(inputs: Sequence[str | Path], languages: Sequence[str]) -> Bank:
    """Load data directories into a bank."""
    bank = Bank(languages)
    with progress(len(inputs), "recordings", "sets") as bar:
        for path in inputs:
            bank.load(path)
            bar.update()
    bank.close()
    return bank


def recorded(lexicon: Lexicon, bank: Bank, languages: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of phrases of a lexicon of which both are recorded.

    Raises:
        ValueError: There is none.
    """
    pairs = [
        pair
        for pair in lexicon.pairs
        if all(bank.has(language, side) for language, side in zip(languages, pair, strict=True))
    ]
    if not pairs:
        raise ValueError(
            f"none of the {len(lexicon.pairs)} pairs of phrases in the lexicon is recorded in both "
            "languages"
        )
    return pairs


def _key(
    inputs: Sequence[str | Path],
    lines: str | Path,
    languages: Sequence[str],
    options: SpliceOptions,
    excluded: frozenset[int],
    key: str,
) -> str:
    settings = asdict(options)
    del settings["nj"], settings["max_failed"]
    what: list[Any] = [VERSION, settings, list(languages), sorted(excluded), key]
    if not Path(lines).is_file():
        raise FileNotFoundError(f"{lines}: no such file")
    what.append(sha256_file(lines))
    for path in map(Path, inputs):
        for name in ("text", "utt2times", "utt2spk", "wav.scp", "segments"):
            if (path / name).is_file():
                what.append([name, sha256_file(path / name)])
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _jobs(
    lines: Iterator[SpokenLine], planner: Planner, most: int | None, excluded: frozenset[int]
) -> Iterator[Job | Failed]:
    """Plan lines, in order."""
    count = 0
    for line in lines:
        if most is not None and count == most:
            return
        where = f"line {line.number + 1}"
        if excluded and line_hashes([line.text]).tolist()[0] in excluded:
            yield Failed(where, EXCLUDED, line.text)
            continue
        try:
            job = planner.plan(line)
        except NotRecordedError as error:
            yield Failed(where, error.reason, str(error))
        except ValueError as error:
            yield Failed(where, "unusable line", str(error))
        else:
            count += 1
            yield job


def _render(output: str, jobs: Sequence[Job | Failed]) -> Batch:
    """Make the recordings of some lines; in any process."""
    batch = Batch()
    for job in jobs:
        if isinstance(job, Failed):
            batch.failed.append(job)
            continue
        where = f"line {job.line.number + 1}"
        try:
            batch.spoken.append(_speak(Path(output), job))
        except AudioError as error:
            batch.failed.append(Failed(where, "unusable recording", str(error)))
        except ValueError as error:
            batch.failed.append(Failed(where, "cannot be joined", str(error)))
    return batch


def _speak(output: Path, job: Job) -> Spoken:
    tags = job.line.tags()
    read: dict[Source, np.ndarray] = {}
    for piece in job.pieces:
        if piece.source not in read:
            read[piece.source] = read_source(piece.source)
    joined = join([read[piece.source] for piece in job.pieces], job.pieces)
    seconds = len(joined.wave) / RATE
    if seconds > LONGEST:
        raise ValueError(f"lasts {seconds:.1f} s, at most {LONGEST:.0f} s are allowed")
    speaker = f"splice_{safe_id(job.speaker, True)}"
    utt = f"{speaker}-{job.line.number:08d}"
    name = wav_name(utt)
    write_wav(output / name, joined.wave)
    times, how = [], []
    for piece, start, cut, gain in zip(
        job.pieces, joined.starts, joined.cuts, joined.gains, strict=True
    ):
        shift = start / RATE - cut[0]
        for first, last, words in piece.times:
            ends = (min(max(0.0, t + shift), seconds) for t in (first, last))
            times.append(":".join(f"{t:.2f}" for t in ends) + f":{words}")
        how.append(
            {
                "utt": piece.source.utt,
                "speaker": piece.source.speaker,
                "language": piece.language,
                "start": round(cut[0], 3),
                "end": round(cut[1], 3),
                "gain_db": round(gain, 1),
                "at": round(start / RATE, 3),
            }
        )
    facts = {
        "method": "splice",
        "line": job.line.number + 1,
        "from": job.line.origin,
        "pieces": how,
    }
    tagged = " ".join(tags)
    return Spoken(
        utt, speaker, job.line.text, job.line.lang, tagged, " ".join(times), name, seconds, facts
    )


def read_source(source: Source) -> np.ndarray:
    """Read an utterance.

    Returns:
        float32 ``(samples,)`` at 16 kHz.

    Raises:
        AudioError: It cannot be used; names it.
    """
    try:
        with open_audio(source.wav) as audio:
            samples, _ = read_cut(audio, Cut(source.utt, source.start, source.end, Path()), "mean")
    except AudioError as error:
        raise AudioError(f"{source.utt}, {source.wav}: {error}") from None
    return samples.astype(np.float32) / 32768
