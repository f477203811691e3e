"""Recipe stage 12: all systems on all sets, in one process or several.

Features are computed once for all systems, and the encoder's output once for all systems whose
encoders are bit-identical (text-only training and alignment leave it alone). Results do not depend
on batches, so an interrupted run goes on where it was.
"""

import os
import platform
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from time import perf_counter

import torch

from espnet_plugin.cli import nearest, progress
from espnet_plugin.decode.audio import Utterance, batches, load_set, padded_seconds
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.plan import RECORD, Job, System, jobs_of
from espnet_plugin.decode.recognizer import Recognizer
from espnet_plugin.decode.search import Hypothesis
from espnet_plugin.decode.workers import Bar, Worker, devices_of, spread
from espnet_plugin.merge import Sweep
from espnet_plugin.prompt import parse_lang_tokens

CHUNK_SECONDS = 3600.0  # padded audio whose features and encoder outputs are held: 0.5 GB for base


@dataclass
class Batch:
    """Utterances decoded together, and what is known of them so far.

    Attributes:
        utterances: Of similar length, from any set.
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
    options: Options | Mapping[str, Options],
    *,
    tag: str = "greedy",
    batch_size: int = 32,
    batch_seconds: float = 480.0,
    device: str = "cpu",
    workers: int = 1,
    force: bool = False,
    merges: Mapping[str, tuple[str, str]] | None = None,
    only: Mapping[str, Collection[str]] | None = None,
) -> list[Job]:
    """Decode every system on every set.

    Writes `expdir/<system>/decode_<tag>/<set>/text` and `decode.json` beside it. `seconds` there
    (and so `rtfx`) is the time of features, encoder and search, shared by the utterances of a batch
    by their length; where an encoder's output served several systems, each is charged its full
    time, and processes share the time that passes.

    Args:
        expdir: Where the systems are.
        systems: Names of model directories there.
        sets: Names of sets in `dumpdir`.
        dumpdir: Formatted sets (recipe stage 3).
        options: How to decode: all systems, or each by its name.
        tag: Names the results.
        batch_size: At most so many utterances in a batch (in beam search: hypotheses).
        batch_seconds: At most so much audio with its padding.
        device: `cpu`, `cuda`, ...
        workers: Processes: each takes a GPU, or its share of the processors.
        force: Decode what is decoded already.
        merges: Systems that are merged in memory where they have no directory: `{"merge_":
            ("init", "adapt_full")}` for `merge_0.4` and any other ratio.
        only: The systems that a set is decoded with; all, where it names none.

    Returns:
        The jobs that were run, complete.

    Raises:
        FileNotFoundError: If a system or a set is missing; says which recipe stage makes it.
        ValueError: If a set or model is malformed, an utterance too long or a language unknown;
            if a number, the device, or the lists of systems or sets cannot be.
    """
    names = list(dict.fromkeys(systems))
    for what, given in (("system", names), ("set", sets)):
        if not given:
            raise ValueError(f"no {what} is named: nothing to decode")
    if batch_size < 1 or batch_seconds <= 0:
        raise ValueError(
            f"a batch has at least 1 utterance and some audio, got batch_size {batch_size}, "
            f"batch_seconds {batch_seconds}"
        )
    if isinstance(options, Options):
        options = dict.fromkeys(names, options)
    data = {name: load_set(dumpdir, name) for name in dict.fromkeys(sets)}
    devices = devices_of(device, workers)
    for its in set(options.values()):
        check_languages(data, its)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing is most of it
        found = list(pool.map(lambda name: System.of(expdir, name, merges), names))
    chosen = {
        name: {s: u for s, u in data.items() if name in (only or {}).get(s, names)}
        for name in names
    }
    jobs = [
        job
        for system in found
        for job in jobs_of([system], chosen[system.name], tag, options[system.name])
    ]
    states = {id(job): job.state() for job in jobs}
    for job in jobs:
        if states[id(job)] == "done" and not force:
            print(f"{job.output}: already decoded", flush=True)
            os.utime(job.output / RECORD)  # stage 13 refuses what is older than model or data
    pending = [job for job in jobs if force or states[id(job)] != "done"]
    for job in pending:
        if states[id(job)] == "stale":
            print(f"{job.output}: model, data or options have changed: decoding again", flush=True)
        job.resume()
    if not pending:
        return []
    run = _Decoder(data, tag, batch_size, batch_seconds, workers)
    total = sum(len(job.utterances) for job in pending)
    with progress(total, "decoding", "utt", initial=sum(len(j.texts) for j in pending)) as bar:
        if workers == 1:
            run(pending, device, bar)
            return pending
        threads = max(1, torch.get_num_threads() // workers)
        return spread(pending, Worker(run, devices, threads), bar)


@dataclass
class _Decoder:
    """Completes jobs in one process, as often as it is called; keeps what the next call can use.

    Attributes:
        data: Utterances of each set.
        tag: Names the results.
        batch_size: At most so many hypotheses in a batch.
        batch_seconds: At most so much audio in a batch, with its padding.
        workers: Processes that run side by side.
    """

    data: dict[str, list[Utterance]]
    tag: str
    batch_size: int
    batch_seconds: float
    workers: int
    _runner: "_Runner | None" = None
    _chunks: dict[tuple[str, ...], list[list[Batch]]] = field(default_factory=dict)

    def __call__(self, jobs: list[Job], device: str, bar: Bar) -> None:
        for options in dict.fromkeys(job.options for job in jobs):
            mine = [job for job in jobs if job.options == options]
            runner = self._of(options, device, bar)
            for job in mine:
                if job.complete:  # killed between the last batch and the final files
                    runner.finish(job)
            sets_of: dict[str, dict[str, None]] = {}
            for job in mine:
                sets_of.setdefault(job.system.encoder, {})[job.set_name] = None
            for names in dict.fromkeys(map(tuple, sets_of.values())):
                same = [job for job in mine if tuple(sets_of[job.system.encoder]) == names]
                found = self._batches(names, options)
                for chunk in found:
                    runner.run(chunk, same, keep=len(found) == 1)

    def _of(self, options: Options, device: str, bar: Bar) -> "_Runner":
        if self._runner is None or self._runner.options != options:
            self._runner = None  # frees its model first
            self._chunks.clear()
            self._runner = _Runner(options, device, self.batch_size, self.tag, self.workers, bar)
        return self._runner

    def _batches(self, names: tuple[str, ...], options: Options) -> list[list[Batch]]:
        """Cut sets into batches; utterances of all sets together, for less is padding then."""
        if names not in self._chunks:
            together = [u for name in names for u in self.data[name]]
            size = max(1, self.batch_size // options.beam_size)
            cut = batches(together, size, self.batch_seconds, options.pad, options.tail)
            self._chunks[names] = chunks([Batch(b) for b in cut], options)
        return self._chunks[names]


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

    def __init__(
        self, options: Options, device: str, batch_size: int, tag: str, workers: int, bar: Bar
    ) -> None:
        self.options, self.device, self.tag = options, torch.device(device), tag
        self.batch_size, self.workers, self.bar = batch_size, workers, bar
        self.recognizer: Recognizer | None = None
        self.kind, self.loaded = "", Path()

    def run(self, chunk: list[Batch], jobs: list[Job], keep: bool) -> None:
        """Decode a chunk with every system; `keep` its features for the next call."""
        todo = [job for job in jobs if not job.complete]
        first_seen = {job.system.encoder: i for i, job in reversed(list(enumerate(todo)))}
        todo.sort(key=lambda job: first_seen[job.system.encoder])
        for _, group in groupby(todo, key=lambda job: job.system.encoder):
            by_system = [list(g) for _, g in groupby(group, key=lambda job: job.system.name)]
            for number, of_system in enumerate(by_system):
                last = number == len(by_system) - 1
                for batch in chunk:
                    self._decode({job.set_name: job for job in of_system}, batch, keep=not last)
            for batch in chunk:
                batch.encoded = None
        if not keep:
            for batch in chunk:
                batch.features = None  # the list of batches lives as long as the run

    def _decode(self, jobs: dict[str, Job], batch: Batch, keep: bool) -> None:
        rows = [
            row
            for row, u in enumerate(batch.utterances)
            if u.set_name in jobs and u.utt not in jobs[u.set_name].texts
        ]
        if not rows:
            return
        recognizer = self._load(next(iter(jobs.values())).system)
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
        memory, lengths = batch.encoded
        if not keep:
            batch.encoded = None
        if len(rows) < len(batch.utterances):  # an interrupted run has the others
            memory, lengths = memory[rows], lengths[rows]
        heard = [batch.utterances[row] for row in rows]
        hyps = recognizer.search(
            memory, lengths, [u.seconds for u in heard], [u.lang for u in heard]
        )
        spent = self._clock() - start + batch.feature_seconds + batch.encoder_seconds
        # processes that run side by side share the time that passes
        rate = spent / self.workers / sum(u.seconds for u in heard)
        for name, job in jobs.items():
            new = [(u, hyp) for u, hyp in zip(heard, hyps, strict=True) if u.set_name == name]
            if new:
                self._note(job, new, rate * sum(u.seconds for u, _ in new))

    def _note(self, job: Job, new: list[tuple[Utterance, Hypothesis]], seconds: float) -> None:
        assert self.recognizer is not None
        texts = {u.utt: self.recognizer.text(hyp) for u, hyp in new}
        loops = {u.utt: hyp.loop for u, hyp in new if hyp.loop}
        job.add(texts, [u.utt for u, hyp in new if hyp.limited], loops, seconds)
        self.bar.set_postfix_str(f"{job.system.name} {job.set_name}", refresh=False)
        self.bar.update(len(new))
        if job.complete:
            self.finish(job)

    def _load(self, system: System) -> Recognizer:
        if self.recognizer is None or self.kind != system.kind:
            self.recognizer = None  # frees the old one first
            self.recognizer = Recognizer(system.source, self.options, self.device)
            self.kind, self.loaded = system.kind, system.source
        if system.merge:
            if self.loaded != system.path:
                base, tuned, ratio = system.merge
                Sweep(base, tuned).load_into(self.recognizer.whisper, ratio)
        elif self.loaded != system.path:
            self.recognizer.load(system.path)
        self.loaded = system.path
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
            "workers": self.workers,
            "device": torch.cuda.get_device_name(self.device) if cuda else platform.machine(),
            "threads": torch.get_num_threads(),
            "processors": os.cpu_count(),
            "torch": torch.__version__,
        }
        info = job.finish(about)
        limited = info["n_length_limited"]
        warning = f", {limited} ended by the length limit" if limited else ""
        if loops := info["n_loops"]:
            retried = list(info["loops"].values()).count("retried")
            warning += f", {loops} repeated themselves ({retried} retried with success)"
        self.bar.write(
            f"{job.output}: {info['n_utt']} utterances, {info['rtfx']:.1f} times real time{warning}"
        )
