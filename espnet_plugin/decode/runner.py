"""Recipe stage 12: all systems on all sets in one process.

Features are computed once for all systems, and the encoder's output once for all systems whose
encoders are bit-identical (text-only training and alignment leave it alone). Results do not depend
on batches, so an interrupted run goes on where it was.
"""

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from espnet_plugin.cli import nearest, progress
from espnet_plugin.decode.audio import Utterance, batches, load_set, padded_seconds
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.plan import Job, System, jobs_of
from espnet_plugin.decode.recognizer import Recognizer
from espnet_plugin.prompt import parse_lang_tokens

CHUNK_SECONDS = 3600.0  # padded audio whose features and encoder outputs are held: 0.5 GB for base


@dataclass
class Batch:
    """Utterances decoded together, and what is known of them so far.

    Attributes:
        utterances: Of one set.
        features: Log-mel features and frames.
        encoded: The encoder's output and lengths, for the current encoder.
        feature_seconds: What the features took.
        encoder_seconds: What the encoder took.
    """

    utterances: list[Utterance]
    features: tuple[torch.Tensor, torch.Tensor] | None = None
    encoded: tuple[torch.Tensor, torch.Tensor] | None = None
    feature_seconds: float = 0.0
    encoder_seconds: float = 0.0


def decode_sets(
    expdir: str | Path,
    systems: Sequence[str],
    sets: Sequence[str],
    dumpdir: str | Path,
    options: Options,
    *,
    tag: str = "greedy",
    batch_size: int = 32,
    batch_seconds: float = 480.0,
    device: str = "cpu",
    force: bool = False,
) -> list[Job]:
    """Decode every system on every set.

    Writes `expdir/<system>/decode_<tag>/<set>/text` and `decode.json` beside it. `seconds` there
    (and so `rtfx`) is the time of features, encoder and search; where an encoder's output served
    several systems, each is charged its full time.

    Args:
        expdir: Where the systems are.
        systems: Names of model directories there.
        sets: Names of sets in `dumpdir`.
        dumpdir: Formatted sets (recipe stage 3).
        options: How to decode.
        tag: Names the results.
        batch_size: At most so many utterances in a batch (in beam search: hypotheses).
        batch_seconds: At most so much audio with its padding.
        device: `cpu`, `cuda`, ...
        force: Decode what is decoded already.

    Returns:
        The jobs that were run, complete.

    Raises:
        FileNotFoundError: If a system or a set is missing; says which recipe stage makes it.
        ValueError: If a set or model is malformed, an utterance too long or a language unknown.
    """
    data = {name: load_set(dumpdir, name) for name in dict.fromkeys(sets)}
    check_languages(data, options)
    found = [System.of(expdir, name) for name in dict.fromkeys(systems)]
    jobs = jobs_of(found, data, tag, options)
    states = {id(job): job.state() for job in jobs}
    for job in jobs:
        if states[id(job)] == "done" and not force:
            print(f"{job.output}: already decoded", flush=True)
    pending = [job for job in jobs if force or states[id(job)] != "done"]
    for job in pending:
        if states[id(job)] == "stale":
            print(f"{job.output}: model, data or options have changed: decoding again", flush=True)
        job.resume()
    if not pending:
        return []
    size = max(1, batch_size // options.beam_size)
    needed = dict.fromkeys(job.set_name for job in pending)
    cut = [
        b
        for name in needed
        for b in batches(data[name], size, batch_seconds, options.pad, options.tail)
    ]
    total = sum(len(job.utterances) for job in pending)
    done = sum(len(job.texts) for job in pending)
    with progress(total, "decoding", "utt", initial=done) as bar:
        runner = _Runner(options, device, batch_size, tag, bar)
        for job in pending:
            if job.complete:  # killed between the last batch and the final files
                runner.finish(job)
        for chunk in chunks([Batch(b) for b in cut], options):
            runner.run(chunk, pending)
    return pending


def check_languages(sets: dict[str, list[Utterance]], options: Options) -> None:
    """Check that every language has a token.

    Raises:
        ValueError: Naming the first utterance whose language is not in `lang_tokens`.
    """
    table = parse_lang_tokens(options.lang_tokens)
    for name, utterances in sets.items():
        for u in utterances:
            if u.lang not in table:
                raise ValueError(
                    f"{name}: utterance {u.utt} has the language '{u.lang}', which is not in "
                    f"lang_tokens{nearest(u.lang, table)}: {options.lang_tokens}"
                )


def chunks(found: Iterable[Batch], options: Options) -> list[list[Batch]]:
    """Group batches so that what is held of a group in memory stays bounded."""
    groups: list[list[Batch]] = []
    held = 0.0
    for batch in found:
        seconds = padded_seconds(batch.utterances[-1], options.pad, options.tail) * len(
            batch.utterances
        )
        if not groups or held + seconds > CHUNK_SECONDS:
            groups.append([])
            held = 0.0
        groups[-1].append(batch)
        held += seconds
    return groups


class _Runner:
    """Holds one model in memory and brings each system's weights into it."""

    def __init__(self, options: Options, device: str, batch_size: int, tag: str, bar: Any) -> None:
        self.options, self.device, self.tag = options, torch.device(device), tag
        self.batch_size, self.bar = batch_size, bar
        self.recognizer: Recognizer | None = None
        self.kind = ""

    def run(self, chunk: list[Batch], jobs: list[Job]) -> None:
        """Decode a chunk with every system."""
        todo = [job for job in jobs if not job.complete]
        first_seen = {job.system.encoder: i for i, job in reversed(list(enumerate(todo)))}
        todo.sort(key=lambda job: first_seen[job.system.encoder])
        for _, group in groupby(todo, key=lambda job: job.system.encoder):
            by_system = [list(g) for _, g in groupby(group, key=lambda job: job.system.name)]
            for number, of_system in enumerate(by_system):
                last = number == len(by_system) - 1
                for batch in chunk:
                    for job in of_system:
                        if job.set_name == batch.utterances[0].set_name:
                            self._decode(job, batch, keep=not last)
            for batch in chunk:
                batch.encoded = None
        for batch in chunk:
            batch.features = None  # the list of batches lives as long as the run

    def _decode(self, job: Job, batch: Batch, keep: bool) -> None:
        if all(u.utt in job.texts for u in batch.utterances):
            return
        recognizer = self._load(job.system)
        n_mels = recognizer.whisper.config.num_mel_bins
        if batch.features is None or batch.features[0].shape[1] != n_mels:
            waves = [u.read() for u in batch.utterances]
            start = self._clock()
            batch.features = recognizer.features(waves)
            batch.feature_seconds = self._clock() - start
        if batch.encoded is None:
            start = self._clock()
            batch.encoded = recognizer.encode(*batch.features)
            batch.encoder_seconds = self._clock() - start
        start = self._clock()
        seconds = [u.seconds for u in batch.utterances]
        hyps = recognizer.search(*batch.encoded, seconds, [u.lang for u in batch.utterances])
        spent = self._clock() - start + batch.feature_seconds + batch.encoder_seconds
        if not keep:
            batch.encoded = None
        new = [(u.utt, h) for u, h in zip(batch.utterances, hyps, strict=True)]
        new = [(utt, h) for utt, h in new if utt not in job.texts]
        texts = {utt: recognizer.text(h) for utt, h in new}
        job.add(texts, [utt for utt, h in new if h.limited], spent * len(new) / len(hyps))
        self.bar.set_postfix_str(f"{job.system.name} {job.set_name}", refresh=False)
        self.bar.update(len(new))
        if job.complete:
            self.finish(job)

    def _load(self, system: System) -> Recognizer:
        if self.recognizer is None or self.kind != system.kind:
            self.recognizer = None  # frees the old one first
            self.recognizer = Recognizer(system.path, self.options, self.device)
            self.kind = system.kind
        elif self.recognizer.model_dir != system.path:
            self.recognizer.load(system.path)
        return self.recognizer

    def _clock(self) -> float:
        """Return seconds, when the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return perf_counter()

    def finish(self, job: Job) -> None:
        """Write a job's files and report it."""
        cuda = self.device.type == "cuda"
        about = {
            "tag": self.tag,
            "batch_size": self.batch_size,
            "device": torch.cuda.get_device_name(self.device) if cuda else platform.machine(),
            "threads": torch.get_num_threads(),
            "processors": os.cpu_count(),
            "torch": torch.__version__,
        }
        info = job.finish(about)
        limited = info["n_length_limited"]
        warning = f", {limited} ended by the length limit" if limited else ""
        self.bar.write(
            f"{job.output}: {info['n_utt']} utterances, {info['rtfx']:.1f} times real time{warning}"
        )
