"""ESPnet's trainer, with the freeze schedule, atomic checkpoints, a curve and progress added."""

import argparse
import csv
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from espnet2.train.reporter import Reporter, SubReporter, aggregate
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass

from espnet_plugin.by_language import describe, summarise
from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.cli import progress
from espnet_plugin.freeze import FreezeSchedule

CURVE = "curve.csv"
COLUMNS = ("epoch", "updates", "train_loss", "valid_loss", "valid_acc", "seconds")
CHECKPOINT = "checkpoint.pth"


@contextmanager
def atomic_torch_save(seconds: float = 0.0) -> Iterator[None]:
    """Let `torch.save` to a path write a temporary file first, then rename it.

    ESPnet writes onto the live checkpoint: a kill during the write leaves a truncated file, and
    the next resume fails.

    Args:
        seconds: Least time between two checkpoints for resuming (with the optimiser's state they
            are four times the model); earlier ones are not written. 0 writes each.
    """
    plain, last = torch.save, time.monotonic()

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal last
        if isinstance(f, str | Path):
            if Path(f).name == CHECKPOINT:
                if time.monotonic() - last < seconds:
                    return
                last = time.monotonic()
            with atomic_write(f) as file:
                plain(obj, file, *args, **kwargs)
        else:
            plain(obj, f, *args, **kwargs)

    torch.save = save  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.save = plain  # type: ignore[assignment]


def read_curve(path: Path) -> list[dict[str, float]]:
    """Read a `curve.csv`; an empty field is NaN."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]


@dataclass
class _Run:
    """What one training run keeps between ESPnet's class methods."""

    output_dir: Path
    main: bool  # rank 0 writes
    schedules: list[FreezeSchedule]
    label: str
    started: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0
    rows: list[dict[str, float]] = field(default_factory=list)
    updates: int = 0
    train_loss: float = math.nan
    bar: Any = None

    def write(self, epoch: int, valid: SubReporter) -> None:
        """Add the row of an epoch to the curve, and say how each language does."""
        measured = summarise(valid)
        seconds = self.seconds_before + time.monotonic() - self.started
        # A run that was killed after its curve and before its checkpoint does an epoch again.
        self.rows = [old for old in self.rows if old["epoch"] < epoch]
        row = {"epoch": epoch, "updates": self.updates, "train_loss": self.train_loss}
        row |= {"valid_loss": _mean(valid, "loss"), "valid_acc": _mean(valid, "acc")}
        row |= {f"valid_{name}": value for name, value in measured.items()}
        row["seconds"] = round(seconds, 1)
        self.rows.append(row)
        if self.main:
            with atomic_write(self.output_dir / CURVE, "w") as file:
                columns = [*COLUMNS, *dict.fromkeys(k for r in self.rows for k in r)]
                writer = csv.DictWriter(file, list(dict.fromkeys(columns)), lineterminator="\n")
                writer.writeheader()
                for one in self.rows:
                    writer.writerow({k: "" if math.isnan(v) else v for k, v in one.items()})
            start = self.rows[0] if self.rows[0]["epoch"] == 0 and epoch else {}
            if said := describe(measured, {k.removeprefix("valid_"): v for k, v in start.items()}):
                said = f"{self.label}, epoch {epoch}: {said}"
                logging.info(said)
                if self.bar is not None:
                    self.bar.write(said, file=sys.stdout)


def _mean(reporter: SubReporter, key: str) -> float:
    return float(aggregate(reporter.stats[key])) if reporter.stats.get(key) else math.nan


@dataclass
class Options(TrainerOptions):
    """ESPnet's options and ours.

    Attributes:
        checkpoint_seconds: As in `atomic_torch_save`.
    """

    checkpoint_seconds: float


class AsyncSwitchTrainer(Trainer):
    """Trainer of `AsyncSwitchTask`."""

    _run: _Run

    @classmethod
    def build_options(cls, args: argparse.Namespace) -> Options:
        """Read the trainer's options from the parsed ones."""
        return build_dataclass(Options, args)

    @classmethod
    def run(cls, **kwargs: Any) -> None:  # type: ignore[override]
        """Train as ESPnet does; see `Trainer.run` for the arguments.

        Before the first epoch the validation loss of the start is measured (epoch 0 of
        `curve.csv`), so that one can see whether training helped at all.
        """
        options, distributed = kwargs["trainer_options"], kwargs["distributed_option"]
        output_dir = Path(options.output_dir)
        schedules = [s for s in kwargs["schedulers"] if isinstance(s, FreezeSchedule)]
        main = not distributed.distributed or distributed.dist_rank == 0
        run = cls._run = _Run(output_dir, main, schedules, output_dir.name)
        resumed = options.resume and (output_dir / CHECKPOINT).exists()
        if resumed and (output_dir / CURVE).is_file():
            run.rows = read_curve(output_dir / CURVE)
            run.seconds_before = run.rows[-1]["seconds"] if run.rows else 0.0
            run.updates = int(run.rows[-1]["updates"]) if run.rows else 0
        if main:
            for schedule in schedules:
                audit = schedule.audit()
                logging.info("what moves at the start:\n%s", audit)
                print(f"{run.label}: what moves at the start\n{audit}", flush=True)
        if not resumed:
            with Reporter().observe("valid", epoch=1) as reporter:
                iterator = kwargs["valid_iter_factory"].build_iter(1)
                super().validate_one_epoch(
                    kwargs["model"], iterator, reporter, options, distributed
                )
                run.write(0, reporter)
        iterations = getattr(kwargs["train_iter_factory"], "num_iters_per_epoch", None)
        total = options.max_epoch * iterations if iterations else None
        with (
            progress(total, run.label, "update") as run.bar,
            atomic_torch_save(options.checkpoint_seconds),
        ):
            if not main:
                run.bar = None
            elif run.updates and run.bar is not None:
                run.bar.update(run.updates)
            super().run(**kwargs)

    @classmethod
    def train_one_epoch(  # type: ignore[override]
        cls,
        model: torch.nn.Module,
        iterator: Iterable[tuple[list[str], dict[str, torch.Tensor]]],
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[Any],
        scaler: Any,
        reporter: SubReporter,
        summary_writer: Any,
        options: Any,
        distributed_option: Any,
    ) -> bool:
        """Apply the freeze schedule (after DDP wrapped the model), then train an epoch."""
        run = cls._run
        run.rows = [row for row in run.rows if row["epoch"] < reporter.get_epoch()]
        run.updates = int(run.rows[-1]["updates"]) if run.rows else 0
        for schedule in run.schedules:
            schedule.begin_epoch(reporter.get_epoch())
        counted = _Counted(iterator, run, reporter)
        invalid = super().train_one_epoch(
            model,
            counted,
            optimizers,
            schedulers,
            scaler,
            reporter,
            summary_writer,
            options,
            distributed_option,
        )
        run.train_loss = _mean(reporter, "loss")
        run.updates += counted.batches // options.accum_grad
        return invalid

    @classmethod
    def validate_one_epoch(  # type: ignore[override]
        cls,
        model: torch.nn.Module,
        iterator: Iterable[Any],
        reporter: SubReporter,
        options: Any,
        distributed_option: Any,
    ) -> None:
        """Validate, and add a row to the curve.

        Raises:
            ValueError: If no batch was validated: the curve and the best epoch would be undefined.
        """
        super().validate_one_epoch(model, iterator, reporter, options, distributed_option)
        if not reporter.stats.get("loss"):
            raise ValueError(f"{cls._run.label}: the validation set gives no batch")
        cls._run.write(reporter.get_epoch(), reporter)


class _Counted:
    """An epoch's batches, counted, with progress."""

    def __init__(self, batches: Any, run: _Run, reporter: SubReporter) -> None:
        self.source, self.run, self.reporter = batches, run, reporter
        self.batches = 0

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.source:
            yield batch
            self.batches += 1
            if self.run.bar is not None:
                losses = self.reporter.stats.get("loss")
                if losses:
                    loss = f"{float(losses[-1].value):.3f}"
                    self.run.bar.set_postfix(loss=loss, refresh=False)
                self.run.bar.update(1)
