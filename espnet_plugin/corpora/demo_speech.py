"""Who says which demo sentence in which room, and the saying of it.

Threads suffice: most of the time goes to espeak-ng, which is a process of its own each time.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_plugin.cli import progress
from espnet_plugin.corpora import an4, augment, espeak
from espnet_plugin.corpora.data_dir import write_wav
from espnet_plugin.corpora.keyed import keyed_order, keyed_random
from espnet_plugin.corpora.markup import Sentence
from espnet_plugin.corpora.speakers import Speaker, speakers

SNR_RANGE = (10.0, 25.0)  # dB
LEVEL_RANGE = (-27.0, -19.0)  # dB below full scale, of the sounding frames
LONGEST = 30.0  # seconds, Whisper's window


@dataclass(frozen=True)
class Job:
    """One utterance to be spoken: ``condition`` is ``clean``, ``noise`` or ``reverb``."""

    name: str
    code: str
    sentence: Sentence
    speaker: Speaker
    condition: str
    held_out: bool
    wav: Path


def plan(
    sentences: Sequence[Sentence], wavs: Path, split: str, code: str, spoiled: float, seed: int
) -> list[Job]:
    """Give each sentence a speaker and a condition.

    Args:
        sentences: The set; a sentence that stands there twice is spoken twice.
        wavs: Where the recordings go.
        split: ``train``, ``valid`` or ``test``: whose voices.
        code: The set's two letters in utterance ids.
        spoiled: Share of utterances with noise or a room, half each.
        seed: The experiment's seed.

    Returns:
        One job a sentence. All speakers of the split speak about equally often, and no sentence is
        spoken twice by one speaker.
    """
    cast = speakers(split)
    keys = [f"{code}{index:04d}" for index in range(len(sentences))]
    order = {key: place for place, key in enumerate(keyed_order(seed, keys, "speaker"))}
    spoken: set[tuple[str, str]] = set()
    chosen: dict[str, Speaker] = {}
    for key, sentence in zip(keys, sentences, strict=True):
        place = order[key]
        while (sentence.text, cast[place % len(cast)].name) in spoken:
            place += 1
        chosen[key] = cast[place % len(cast)]
        spoken.add((sentence.text, chosen[key].name))
    shaken = keyed_order(seed, keys, "condition")
    count = round(len(keys) * spoiled)
    condition = {key: ("noise", "reverb")[i % 2] for i, key in enumerate(shaken[:count])}
    return [
        Job(
            name := f"{chosen[key].name}-{key}",
            code,
            sentence,
            chosen[key],
            condition.get(key, "clean"),
            split == "test",
            wavs / f"{name}.wav",
        )
        for key, sentence in zip(keys, sentences, strict=True)
    ]


class Studio:
    """Speaks jobs; holds the noises and rooms of training and of the tests."""

    def __init__(self, members: dict[str, bytes], seed: int) -> None:
        self._sounds = {held: an4.noises_and_rooms(members, held) for held in (False, True)}
        self._seed = seed

    def waveform(self, job: Job) -> np.ndarray:
        """Synthesise a job: float32 ``(samples,)`` at 16 kHz.

        Raises:
            ValueError: The synthesis failed or lasts over 30 s.
        """
        rng = keyed_random(self._seed, "sound", job.name)
        wave = augment.tighten(
            augment.resample(*espeak.speak(job.sentence.segments, job.sentence.lang, job.speaker))
        )
        noises, rooms = self._sounds[job.held_out]
        if job.condition == "noise":
            wave = augment.add_noise(wave, rng.choice(noises), rng.uniform(*SNR_RANGE), rng)
        elif job.condition == "reverb":
            wave = augment.add_reverb(wave, rng.choice(rooms))
        if len(wave) > LONGEST * augment.RATE:
            raise ValueError(
                f"lasts {len(wave) / augment.RATE:.1f} s, at most {LONGEST:.0f} s allowed"
            )
        return augment.set_level(wave, rng.uniform(*LEVEL_RANGE))

    def record(self, job: Job) -> float:
        """Speak a job into its file; returns its duration in seconds.

        Raises:
            ValueError: As ``waveform``, with the utterance named.
        """
        try:
            wave = self.waveform(job)
        except ValueError as error:
            raise ValueError(f"utterance {job.name} ({job.sentence.where}): {error}") from error
        write_wav(job.wav, wave)
        return len(wave) / augment.RATE


def synthesize_all(
    jobs: Sequence[Job], members: dict[str, bytes], seed: int, nj: int
) -> dict[str, float]:
    """Speak all jobs into their files.

    Args:
        jobs: What is said.
        members: ESPnet's archive, for noises and rooms.
        seed: The experiment's seed; the files depend on it and not on ``nj``.
        nj: How many are spoken at a time.

    Returns:
        The duration of each utterance in seconds.

    Raises:
        ValueError: ``nj`` below 1, or a failed utterance, named.
    """
    if nj < 1:
        raise ValueError(f"nj is {nj}, allowed is 1 or more")
    studio = Studio(members, seed)
    durations: dict[str, float] = {}
    with ThreadPoolExecutor(nj) as pool, progress(len(jobs), "speech", "utt") as bar:
        try:
            for job, seconds in zip(jobs, pool.map(studio.record, jobs), strict=True):
                durations[job.name] = seconds
                bar.update()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return durations
