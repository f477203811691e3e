"""Lines to speech by a synthesiser: voices balanced, levels varied, everything accounted for.

    python -m espnet_plugin.bin.synth_data speak --lines data/text/switched.jsonl \
        --output data/spoken --synthesiser espeak --exclude data/test_cs/text
    python -m espnet_plugin.bin.synth_data speak --lines data/text/switched.jsonl \
        --output data/spoken --synthesiser conf/my_tts.yaml

`synthesiser_config` says what the YAML file holds. Each voice speaks about equally often, of those
that can speak the line; who says what, and at which level, depends on line, seed and configuration
alone. The output is a data directory (`synthesiser_set`) with speakers ``synth_<voice>``.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import sha256_file
from espnet_plugin.cli import progress
from espnet_plugin.corpora import augment
from espnet_plugin.corpora.data_dir import write_wav
from espnet_plugin.corpora.keyed import keyed_random
from espnet_plugin.corpora.splice_audio import crossfade
from espnet_plugin.corpora.synthesiser import Synthesiser, SynthesisError, make_synthesiser
from espnet_plugin.corpora.synthesiser_config import SynthesiserConfig, Voice
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
from espnet_plugin.text.dedup import line_hashes

VERSION = 1
BATCH = 100  # lines
LEVELS = (-27.0, -19.0)  # dB below full scale, of the sounding frames
FASTEST = 0.06  # seconds a word: less was cut off, or is another text
EDGE = 0.1  # seconds of silence at both ends
JOINT = 0.05  # seconds of silence kept at each side of a joint of stretches
FADE = augment.RATE // 100  # samples by which stretches overlap


@dataclass(frozen=True)
class SpeakOptions:
    """How lines are spoken.

    Attributes:
        lines: Utterances to make at most; None for all.
        max_failed: Largest share of lines that may fail.
        seed: Draws voices and levels.
        nj: Lines spoken at a time.
    """

    lines: int | None = None
    max_failed: float = 0.05
    seed: int = 0
    nj: int = 1

    def __post_init__(self) -> None:
        if self.nj < 1 or (self.lines is not None and self.lines < 1):
            raise ValueError(f"lines and nj are at least 1, got {self.lines} and {self.nj}")


@dataclass(frozen=True, slots=True)
class _Job:
    line: SpokenLine
    voice: Voice
    tags: str


def speak(
    lines: str | Path,
    output: str | Path,
    languages: Sequence[str],
    config: SynthesiserConfig,
    options: SpeakOptions,
    excluded: frozenset[int] = frozenset(),
) -> dict[str, Any]:
    """Make a data directory of spoken lines.

    Args:
        lines: What is said, ``.jsonl``.
        output: The directory to make.
        languages: The pair: outside and inside of the lines' brackets.
        config: Who speaks.
        options: How.
        excluded: Hashes (``text.dedup``) of validation and test sentences, which are not spoken.

    Returns:
        The report.

    Raises:
        FileNotFoundError: A missing file or program.
        ValueError: Unusable lines, a synthesiser that does not work, too many failures.
    """
    speech = SpeechSet(
        output, _key(lines, languages, config, options, excluded), options.max_failed
    )
    if (report := speech.finished()) is not None:
        return report | {"unchanged": True}
    synthesiser = make_synthesiser(config)
    done = speech.begin()
    jobs = _jobs(read_spoken_lines(lines, languages), synthesiser, options, excluded)
    with ThreadPoolExecutor(options.nj) as pool, progress(options.lines, "speech", "lines") as bar:

        def say(job: _Job | Failed) -> Spoken | Failed:
            return job if isinstance(job, Failed) else _say(speech.path, job, synthesiser, options)

        for number, group in enumerate(batched(jobs, BATCH)):
            if number >= done:
                batch = Batch()
                try:
                    for made in pool.map(say, group):
                        (batch.spoken if isinstance(made, Spoken) else batch.failed).append(made)  # type: ignore[arg-type]
                except BaseException:
                    pool.shutdown(wait=True, cancel_futures=True)
                    raise
                speech.add(number, batch)
            bar.update(len(group))
    return speech.finish(
        {
            "method": config.kind,
            "voices": len(synthesiser.voices),
            "settings": {k: v for k, v in asdict(options).items() if k != "nj"},
        }
    )


def _key(
    lines: str | Path,
    languages: Sequence[str],
    config: SynthesiserConfig,
    options: SpeakOptions,
    excluded: frozenset[int],
) -> str:
    if not Path(lines).is_file():
        raise FileNotFoundError(f"{lines}: no such file")
    settings = asdict(options)
    del settings["nj"], settings["max_failed"]
    spoken = asdict(config)
    for name in ("timeout", "retries", "headers"):  # change nothing, and headers may hold secrets
        del spoken[name]
    what = [VERSION, settings, list(languages), sorted(excluded), spoken, sha256_file(lines)]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _jobs(
    lines: Iterator[SpokenLine],
    synthesiser: Synthesiser,
    options: SpeakOptions,
    excluded: frozenset[int],
) -> Iterator[_Job | Failed]:
    """Give each line a voice: of those that can speak it, the one that has spoken least."""
    spoken: Counter[str] = Counter()
    count = 0
    able: dict[tuple[str, ...], list[Voice]] = {}
    for line in lines:
        if options.lines is not None and count == options.lines:
            return
        if excluded and line_hashes([line.text]).tolist()[0] in excluded:
            yield Failed(_where(line), EXCLUDED, line.text)
            continue
        try:
            needed = (line.lang, *sorted({language for language, _ in line.runs}))
            tags = " ".join(line.tags())
        except ValueError as error:
            yield Failed(_where(line), "unusable line", str(error))
            continue
        if needed not in able:
            able[needed] = _able(synthesiser.voices, needed)
            if not able[needed]:
                there = "; ".join(f"{v.name}: {' '.join(v.speaks)}" for v in synthesiser.voices)
                raise ValueError(
                    f"{_where(line)} is in '{line.lang}' ({' '.join(needed[1:])}); no voice speaks "
                    f"that: {there}"
                )
        draw = keyed_random(options.seed, "voice", line.number, line.text).random
        voice = min(able[needed], key=lambda v: (spoken[v.name], draw()))
        spoken[voice.name] += 1
        count += 1
        yield _Job(line, voice, tags)


def _able(voices: Sequence[Voice], needed: Sequence[str]) -> list[Voice]:
    lang, *stretches = needed
    return [v for v in voices if lang in v.speaks or all(part in v.speaks for part in stretches)]


def _where(line: SpokenLine) -> str:
    return f"line {line.number + 1}"


def _say(
    output: Path, job: _Job, synthesiser: Synthesiser, options: SpeakOptions
) -> Spoken | Failed:
    """Speak a line into its file."""
    line, voice = job.line, job.voice
    try:
        wave, times = _waveform(line, voice, synthesiser)
        seconds = len(wave) / augment.RATE
        words = len(line.text.split())
        if seconds > LONGEST:
            raise SynthesisError("too long", f"{seconds:.1f} s, at most {LONGEST:.0f} s")
        if seconds - 2 * EDGE < FASTEST * words:
            raise SynthesisError("too short for its text", f"{seconds:.2f} s for {words} words")
        level = keyed_random(options.seed, "level", line.number, line.text).uniform(*LEVELS)
        wave = augment.set_level(wave, level)
    except SynthesisError as error:
        return Failed(_where(line), error.reason, f"{error} ({voice.name})")
    speaker = f"synth_{voice.name}"
    utt = f"{speaker}-{line.number:08d}"
    name = wav_name(utt)
    write_wav(output / name, wave)
    how = {
        "method": "synthesis",
        "line": line.number + 1,
        "from": line.origin,
        "voice": voice.name,
        "apart": times is not None,
        "level_db": round(level, 1),
    }
    return Spoken(utt, speaker, line.text, line.lang, job.tags, times, name, seconds, how)


def _waveform(
    line: SpokenLine, voice: Voice, synthesiser: Synthesiser
) -> tuple[np.ndarray, str | None]:
    """Speak a line, or its stretches one by one.

    Returns:
        float32 ``(samples,)`` at 16 kHz with 0.1 s of silence at both ends; times of the stretches,
        None where it was spoken as a whole.
    """
    if line.lang in voice.speaks:
        return _tight(synthesiser.speak(line.stretches, line.lang, voice), EDGE, synthesiser), None
    whole = np.zeros(0, np.float32)
    level: float | None = None
    times = []
    for language, tokens in line.runs:
        text = " ".join(tokens)
        wave = _tight(synthesiser.speak([(text, language)], language, voice), JOINT, synthesiser)
        # voices of two languages differ in level; the line has that of its first stretch
        level = augment.rms(wave) if level is None else level
        wave = wave * np.float32(level / augment.rms(wave))
        overlap = min(FADE, len(whole), len(wave))
        start = len(whole) - overlap
        whole = crossfade(whole, wave, overlap).astype(np.float32)
        edges = [start + JOINT * augment.RATE, len(whole) - JOINT * augment.RATE]
        first, last = (EDGE - JOINT + place / augment.RATE for place in edges)
        times.append(f"{first:.2f}:{last:.2f}:{len(tokens)}")
    silence = round((EDGE - JOINT) * augment.RATE)
    return np.pad(whole, silence), " ".join(times)


def _tight(spoken: tuple[np.ndarray, int], edge: float, synthesiser: Synthesiser) -> np.ndarray:
    try:
        return augment.tighten(augment.resample(*spoken), edge, synthesiser.pause)
    except ValueError as error:
        raise SynthesisError("silence", str(error)) from None
