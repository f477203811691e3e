"""What one training run keeps between ESPnet's class methods, and an epoch's batches, counted."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from espnet2.train.reporter import SubReporter, aggregate

from espnet_plugin.by_language import describe, summarise
from espnet_plugin.distributed import from_first
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.monitor.console import SHOWN
from espnet_plugin.monitor.watch import Watch
from espnet_plugin.training import stopping
from espnet_plugin.training.curve import CURVE, Row, read_curve, write_curve
from espnet_plugin.training.midway import Midway
from espnet_plugin.training.saving import Checkpoints


@dataclass
class Run:
    """The state of a run.

    Attributes:
        output_dir: ESPnet's output directory.
        main: True on the rank that writes.
        schedules: The freeze schedules.
        label: Name of the run in messages.
        rows: The curve so far.
        updates: Optimiser's updates of all finished epochs.
        train_loss: Mean of the last epoch.
        bar: Progress, or None.
        options: The trainer's.
        rank: Of this process.
        world: Number of processes.
        epoch: The epoch that is trained, from 1.
        done: Batches of it that are done.
        watch: Watches for faults, and measures speed.
        midway: Where to go on in an epoch, until that is begun.
        wer: Decodes a part of the validation set, see `valid_wer.ValidWer`.
        write_midway: Writes a checkpoint in the middle of an epoch, given the batches done; every
            rank calls it.
    """

    output_dir: Path
    main: bool
    schedules: list[FreezeSchedule]
    label: str
    checkpoints: Checkpoints
    options: Any = None
    rank: int = 0
    world: int = 1
    epoch: int = 0
    done: int = 0
    watch: Watch | None = None
    midway: Midway | None = None
    wer: Any = None
    write_midway: Callable[[int], None] | None = None
    started: float = field(default_factory=time.monotonic)
    seconds_before: float = 0.0
    rows: list[Row] = field(default_factory=list)
    updates: int = 0
    train_loss: float = math.nan
    bar: Any = None

    def resume_curve(self) -> None:
        """Go on with the curve of an interrupted run, as rank 0 reads it."""
        path = self.output_dir / CURVE
        self.rows = from_first(read_curve(path) if self.main and path.is_file() else [])
        if not self.rows:
            self.say(
                f"{CURVE} is missing: it begins anew, without the epochs before", logging.WARNING
            )
        self.seconds_before = self.rows[-1]["seconds"] if self.rows else 0.0
        self.updates = int(self.rows[-1]["updates"]) if self.rows else 0

    def begin_epoch(self, epoch: int) -> None:
        """Start an epoch (from 1): the freeze schedules apply.

        A run that was killed after its curve and before its checkpoint does an epoch again.
        """
        self.epoch, self.done = epoch, 0
        self.rows = [row for row in self.rows if row["epoch"] < epoch]
        self.updates = int(self.rows[-1]["updates"]) if self.rows else self._steps()
        for schedule in self.schedules:
            schedule.begin_epoch(epoch)

    def _steps(self) -> int:
        """Return the schedule's updates of all epochs before, where the curve does not tell."""
        midway = self.midway.batches // self.options.accum_grad if self.midway else 0
        return max(0, self.schedules[0].steps - midway) if self.schedules else 0

    def write(self, epoch: int, valid: SubReporter) -> None:
        """Add the row of an epoch to the curve, and say how each language does."""
        measured = summarise(valid)
        rates = {} if self.wer is None else self.wer.finish(valid)
        seconds = self.seconds_before + time.monotonic() - self.started
        self.rows = [old for old in self.rows if old["epoch"] < epoch]
        row = {"epoch": epoch, "updates": self.updates, "train_loss": self.train_loss}
        row |= {"valid_loss": mean(valid, "loss"), "valid_acc": mean(valid, "acc")}
        row |= {f"valid_{name}": value for name, value in (measured | rates).items()}
        row["seconds"] = round(seconds, 1)
        if epoch and self.watch is not None:
            row |= self.watch.columns
        self.rows.append(row)
        if self.main:
            write_curve(self.output_dir / CURVE, self.rows)
            start = self.rows[0] if self.rows[0]["epoch"] == 0 and epoch else {}
            if said := describe(measured, {k.removeprefix("valid_"): v for k, v in start.items()}):
                self.say(f"epoch {epoch}: {said}")
            if rates:
                self.say(f"epoch {epoch}: {self.wer.describe(rates)}")
        if self.watch is not None:
            self.watch.judge(self.rows)

    def wait(self) -> None:
        """Wait for the other ranks."""
        if self.world > 1:
            torch.distributed.barrier()

    def stop_if_asked(self) -> None:
        """End the run with a checkpoint if a signal asked any rank to; every rank has to call it.

        Raises:
            Stopped: Once the checkpoint is written.
        """
        if not stopping.agreed(self.world > 1, "cuda" if self.options.ngpu else "cpu"):
            return
        name = stopping.requested() or "a signal"
        where = f"epoch {self.epoch} after {self.done} batches"
        if self.write_midway is None:
            where = "the start: nothing was trained yet"
        elif from_first(self.checkpoints.saved) != (self.epoch, self.done):
            self.write_midway(self.done)
        self.wait()  # a rank that ended early would let the launcher end the one that writes
        self.say(
            f"{name}: stopped with exit code {stopping.EXIT_AGAIN}. Run the same command again to "
            f"go on from {where}"
        )
        raise stopping.Stopped

    def advance(self, reporter: SubReporter) -> None:
        """Move the progress bar by a batch."""
        if self.bar is not None:
            if losses := reporter.stats.get("loss"):
                self.bar.set_postfix(loss=f"{float(losses[-1].value):.3f}", refresh=False)
            self.bar.update(1)

    def say(self, message: str, level: int = logging.INFO) -> None:
        """Put a message of the run in the log and on stdout, beside the progress bar."""
        logging.log(level, "%s, %s", self.label, message, extra=SHOWN if self.main else None)
        self.show(f"{self.label}, {message}")

    def show(self, message: str) -> None:
        """Put a message on stdout, beside the progress bar."""
        if self.bar is not None:
            self.bar.write(message, file=sys.stdout)
        elif self.main:
            print(message, flush=True)


def mean(reporter: SubReporter, key: str) -> float:
    """Return an epoch's weighted mean of what was reported as `key`; NaN where nothing was."""
    return float(aggregate(reporter.stats[key])) if reporter.stats.get(key) else math.nan


class Batches:
    """An epoch's batches as ESPnet's trainer gets them: counted, with progress, up to a signal.

    Attributes:
        done: How many batches of the epoch the trainer has finished.
    """

    def __init__(
        self,
        batches: Any,
        run: Run,
        reporter: SubReporter,
        between: Callable[[int], None],
        done: int = 0,
    ) -> None:
        """Prepare.

        Args:
            batches: Those that are left.
            run: Has the progress bar.
            reporter: Of this epoch.
            between: Called with `done` before the first batch and after each; may raise.
            done: Batches that were done before a run was resumed.
        """
        self.source: Iterable[Any] = batches
        self.run, self.reporter, self.between = run, reporter, between
        self.done = self.before = done

    def __len__(self) -> int:
        return self.before + len(self.source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        self.between(self.done)
        for batch in self.source:
            yield batch
            self.done += 1
            self.run.advance(self.reporter)
            self.between(self.done)
