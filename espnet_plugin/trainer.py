"""ESPnet's trainer, with the freeze schedule, atomic checkpoints, a curve and progress added."""

import argparse
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from espnet2.train.reporter import Reporter, SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass

from espnet_plugin.cli import progress
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.sharding import consolidate
from espnet_plugin.training.curve import CURVE, read_curve
from espnet_plugin.training.progress import Batches, Run, mean
from espnet_plugin.training.saving import CHECKPOINT, atomic_torch_save

__all__ = ["CURVE", "AsyncSwitchTrainer", "Options", "atomic_torch_save", "read_curve"]


@dataclass
class Options(TrainerOptions):
    """ESPnet's options and ours.

    Attributes:
        checkpoint_seconds: As in `atomic_torch_save`.
    """

    checkpoint_seconds: float


class AsyncSwitchTrainer(Trainer):
    """Trainer of `AsyncSwitchTask`."""

    _run: Run

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
        run = cls._run = Run(output_dir, main, schedules, output_dir.name)
        resumed = options.resume and (output_dir / CHECKPOINT).exists()
        if resumed:
            run.resume_curve()
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
        run.begin_epoch(reporter.get_epoch())
        # What watches batches goes between `iterator` and `Batches`: the latter counts what the
        # trainer gets, and a resumed run draws as many again.
        batches = Batches(iterator, run, reporter)
        invalid = super().train_one_epoch(
            model,
            batches,
            optimizers,
            schedulers,
            scaler,
            reporter,
            summary_writer,
            options,
            distributed_option,
        )
        run.train_loss = mean(reporter, "loss")
        run.updates += batches.done // options.accum_grad
        consolidate(optimizers)  # ESPnet's checkpoint at the end of the epoch is rank 0's alone
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
