"""Batches of paired speech: ESPnet's samplers make them, their order is found by arithmetic."""

import argparse
import re
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import worker_init_fn
from espnet2.samplers.build_batch_sampler import build_batch_sampler

from espnet_plugin.features import N_SAMPLES
from espnet_plugin.pads import PadMixture
from espnet_plugin.preprocess import PairPreprocessor
from espnet_plugin.training.stopping import begin_worker

Batch = tuple[str, ...]
LENGTH = re.compile(r"\S+\s+\d+(,\d+)*\s*")  # a line of `utt2num_samples`
BY_BINS = ("numel", "length")  # batch types that ESPnet bounds by `batch_bins`


@dataclass
class Plan:
    """The batches of one padding.

    Attributes:
        batches: Utterance ids; in training, of all ranks together.
        largest: Index of the batch that takes the most memory.
    """

    batches: list[Batch]
    largest: int

    def order(self, seed: int, turn: int, pad: str) -> np.ndarray:
        """Return the order of the batches in a pass (from 0): ESPnet's, but the largest first.

        Only the first pass begins with it: if memory does not suffice, that shows at once.
        """
        key = [seed + turn, 1] if pad == "30s" else seed + turn
        order = np.random.RandomState(key).permutation(len(self.batches))
        if not turn:
            place = int(np.flatnonzero(order == self.largest)[0])
            order[[0, place]] = order[[place, 0]]
        return order


def make_plan(
    shape_file: str | Path,
    pad: str,
    batch_type: str,
    batch_bins: int,
    options: dict[str, Any],
    train: bool = True,
) -> Plan:
    """Let ESPnet's sampler make batches of similar length.

    Args:
        shape_file: Samples of each utterance (`utt2num_samples`).
        pad: With `30s` each utterance counts as 30 s of `batch_bins`, since it takes as much.
        batch_type: ESPnet's.
        batch_bins: Samples of a batch, padding included.
        options: Further options of ESPnet's `build_batch_sampler`.
        train: Whether the batches are trained on; else each utterance occurs once.

    Raises:
        ValueError: If `batch_bins` does not hold an utterance padded to 30 s for each process.
    """
    if pad == "30s" and batch_type in BY_BINS:
        return _plan_30s(shape_file, batch_bins, options.get("min_batch_size", 1), train)
    with named_tables(shape_file):
        sampler = build_batch_sampler(
            type=batch_type, batch_bins=batch_bins, shape_files=[str(shape_file)], **options
        )
    batches = [tuple(batch) for batch in sampler]
    # Where a batch is sorted, its longest utterance is at one of its ends.
    ends = chain.from_iterable(
        batches if batch_type == "unsorted" else ((b[0], b[-1]) for b in batches)
    )
    samples = _read_samples(shape_file, set(ends))
    longest = [max(samples[u] for u in batch if u in samples) for batch in batches]
    widths = [N_SAMPLES if pad == "30s" else samples for samples in longest]
    bins = [len(batch) * width for batch, width in zip(batches, widths, strict=True)]
    return Plan(batches, max(range(len(batches)), key=lambda i: (bins[i], longest[i])))


@contextmanager
def named_tables(shape_file: str | Path) -> Iterator[None]:
    """Name the table, and the line, that ESPnet could not make data of.

    Args:
        shape_file: Samples of each utterance.

    Raises:
        ValueError: In place of ESPnet's errors.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        with open(shape_file, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not LENGTH.fullmatch(line):
                    raise ValueError(
                        f"{shape_file}:{number}: '{line.strip()}' is no utterance with a number of "
                        "samples; stage 3 makes this table"
                    ) from error
        if isinstance(error, ValueError):
            raise
        raise ValueError(f"{shape_file} and the tables beside it give no data: {error}") from error


def _plan_30s(shape_file: str | Path, batch_bins: int, least: int, train: bool) -> Plan:
    """Make batches of as many utterances as fit when each takes 30 s, of similar length.

    No batch exceeds its bins. Where these hold one utterance for each process and no more, what is
    short of that (the corpus is no multiple) repeats utterances of the batch beside it; in
    validation, which takes less memory and counts each once, some batches get one more instead.
    """
    if batch_bins < least * N_SAMPLES:
        needed = f"{N_SAMPLES}" if least == 1 else f"{N_SAMPLES} for each of {least} processes"
        raise ValueError(
            f"batch_bins is {batch_bins} samples: with --pad 30s an utterance takes {needed}. Give "
            f"--batch_bins {least * N_SAMPLES} or more; conf/tuning and bin.plan have "
            "what fits several GPUs"
        )
    samples = _read_samples(shape_file)
    utts = sorted(samples, key=lambda utt: samples[utt], reverse=True)
    count = -(-len(utts) // (batch_bins // N_SAMPLES))
    if not train:
        count = max(1, min(count, len(utts) // least))
    edges = [len(utts) * part // count for part in range(count + 1)]
    starts = [max(0, min(low, high - least)) for low, high in pairwise(edges)]
    ends = [max(high, start + least) for start, high in zip(starts, edges[1:], strict=True)]
    batches = [tuple(utts[low:high]) for low, high in zip(starts, ends, strict=True)]
    return Plan(batches, max(range(count), key=lambda i: len(batches[i])))


def _read_samples(shape_file: str | Path, wanted: Container[str] | None = None) -> dict[str, int]:
    with open(shape_file, encoding="utf-8") as file:
        rows = (line.split(None, 1) for line in file)
        return {
            utt: int(shape.split(",")[0]) for utt, shape in rows if wanted is None or utt in wanted
        }


def deal(batches: Sequence[Batch], rank: int, world: int) -> list[Batch]:
    """Return one rank's part of each batch.

    Raises:
        ValueError: If a batch has fewer utterances than there are ranks.
    """
    if few := [batch for batch in batches if len(batch) < world]:
        raise ValueError(
            f"a batch of {len(few[0])} utterance(s), with {few[0][0]}, for {world} processes: use "
            "fewer processes, or larger batches"
        )
    return [batch[rank::world] for batch in batches]


class PairIterFactory(AbsIterFactory):
    """Builds each epoch's batches of paired speech.

    As with text, passes over the corpus lie end to end and an epoch is a number of steps, so what
    a step holds is a function of (seed, step): a run resumed at an epoch sees what the
    uninterrupted run saw. With a mixture of paddings each has batches and passes of its own.
    """

    def __init__(
        self,
        dataset: Any,
        preprocess: PairPreprocessor,
        plans: dict[str, Plan],
        mixture: PadMixture,
        collate_fn: Callable[..., Any],
        seed: int = 0,
        num_iters_per_epoch: int | None = None,
        train: bool = True,
        num_workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            dataset: ESPnet's.
            preprocess: What the data set applies to each utterance.
            plans: This rank's batches by padding.
            mixture: Which padding each step uses.
            collate_fn: Makes a batch of examples.
            seed: Of the order.
            num_iters_per_epoch: Steps of an epoch; None makes it one pass (with a mixture: as many
                steps as see each utterance about once).
            train: False is for validation: the same batches in the same order in each epoch.
            num_workers: Processes that read.
            pin_memory: As in torch.
        """
        self.dataset, self.preprocess = dataset, preprocess
        self.plans, self.mixture = plans, mixture
        self.collate_fn, self.seed, self.train = collate_fn, seed, train
        self.num_workers, self.pin_memory = num_workers, pin_memory
        passes = sum(s / len(plans[pad].batches) for pad, s in mixture.shares.items() if s)
        self.num_iters_per_epoch = num_iters_per_epoch
        self.per_epoch = num_iters_per_epoch or -(-1 // passes)

    @property
    def passes(self) -> dict[str, int]:
        """Batches of a pass over the corpus, by padding."""
        return {pad: len(plan.batches) for pad, plan in self.plans.items()}

    def steps(self, epoch: int) -> range:
        """Return the numbers of an epoch's steps (epochs from 1)."""
        return range((epoch - 1) * self.per_epoch, epoch * self.per_epoch)

    def batches_of_epoch(self, epoch: int) -> Iterator[tuple[str, int, Batch]]:
        """Yield padding, pass and utterances of each step of an epoch (from 1)."""
        if not self.train:
            (pad,) = self.mixture.pads
            yield from ((pad, 0, batch) for batch in self.plans[pad].batches)
            return
        orders: dict[tuple[str, int], np.ndarray] = {}
        for step in self.steps(epoch):
            pad, number = self.mixture.locate(step)
            plan = self.plans[pad]
            turn, place = divmod(number, len(plan.batches))
            if (pad, turn) not in orders:
                orders[pad, turn] = plan.order(self.seed, turn, pad)
            yield pad, turn, plan.batches[orders[pad, turn][place]]

    def build_iter(  # type: ignore[override]
        self, epoch: int, shuffle: bool | None = None
    ) -> "_Epoch":
        """Return the batches of an epoch (from 1), as ESPnet's trainer wants them."""
        return _Epoch(self, epoch)


class _Turns(torch.utils.data.Dataset):
    """ESPnet's data set, whose utterances are asked for with the number of the pass."""

    def __init__(self, dataset: Any, preprocess: PairPreprocessor) -> None:
        self.dataset, self.preprocess = dataset, preprocess

    def __getitem__(self, item: tuple[str, int]) -> Any:
        utt, self.preprocess.turn = item  # what is random follows from both
        return self.dataset[utt]


class _Epoch:
    """One epoch's batches; in training each says its padding (`pad`)."""

    def __init__(self, factory: PairIterFactory, epoch: int) -> None:
        self.factory, self.epoch = factory, epoch
        self.batches = list(factory.batches_of_epoch(epoch))

    def after(self, done: int) -> "_Epoch":
        """Return those that are left when some are done, for a run that is resumed."""
        rest = _Epoch(self.factory, self.epoch)
        rest.batches = rest.batches[done:]
        return rest

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[list[str], dict[str, Any]]]:
        factory = self.factory
        begin = partial(worker_init_fn, base_seed=self.epoch + factory.seed)
        loader = torch.utils.data.DataLoader(
            _Turns(factory.dataset, factory.preprocess),
            batch_sampler=[[(utt, turn) for utt in utts] for _, turn, utts in self.batches],
            num_workers=factory.num_workers,
            collate_fn=factory.collate_fn,
            pin_memory=factory.pin_memory,
            worker_init_fn=partial(begin_worker, begin),
            # Of its own: loading leaves the model's random numbers as they are.
            generator=torch.Generator().manual_seed(self.epoch + factory.seed),
        )
        for (pad, _, _), (ids, batch) in zip(self.batches, loader, strict=True):
            yield ids, batch | {"pad": pad} if factory.train else batch


def build(
    args: argparse.Namespace,
    options: Any,
    mixture: PadMixture,
    build_dataset: Callable[..., Any],
) -> PairIterFactory:
    """Build the batches that ESPnet's options ask for.

    Args:
        args: The parsed options.
        options: ESPnet's `IteratorOptions` of this data set.
        mixture: Which padding its batches get.
        build_dataset: The task's; called with args, options and the utterances of this rank.

    Raises:
        ValueError: If a batch cannot be shared by the ranks, or `shuffle_within_batch` is on.
    """
    if args.shuffle_within_batch:
        raise ValueError("shuffle_within_batch would mix utterances of all lengths: leave it off")
    rank, world = 0, 1
    if options.distributed:
        rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    sampling = {
        "batch_size": options.batch_size,
        "fold_lengths": args.fold_length,
        "sort_in_batch": args.sort_in_batch,
        "sort_batch": args.sort_batch,
        "drop_last": args.drop_last_iter,
        "min_batch_size": world if options.distributed else args.min_batch_size,
    }
    plans = {}
    for pad in mixture.pads:
        plan = make_plan(
            options.shape_files[0],
            pad,
            options.batch_type,
            options.batch_bins,
            sampling,
            options.train,
        )
        if options.num_batches is not None:
            plan = Plan(plan.batches[: options.num_batches], 0)
        plans[pad] = Plan(deal(plan.batches, rank, world), plan.largest)
    utts = set(chain.from_iterable(chain.from_iterable(p.batches for p in plans.values())))
    with named_tables(options.shape_files[0]):
        dataset = build_dataset(args, options, utts)
    return PairIterFactory(
        dataset,
        options.preprocess_fn,
        plans,
        mixture,
        options.collate_fn,
        seed=args.seed,
        num_iters_per_epoch=options.num_iters_per_epoch,
        train=options.train,
        num_workers=args.num_workers,
        pin_memory=args.ngpu > 0,
    )
