"""ESPnet's trainer, with the freeze schedule, checkpoints that survive, a curve and progress."""

import argparse
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.utils.serialization.config  # not loaded by torch itself
from espnet2.train.reporter import Reporter, SubReporter
from espnet2.train.trainer import Trainer, TrainerOptions
from espnet2.utils.build_dataclass import build_dataclass
from torch.nn.parallel import DistributedDataParallel

from espnet_plugin.cli import progress
from espnet_plugin.distributed import check_even, from_first, gather
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.monitor import start as monitor
from espnet_plugin.monitor.console import SHOWN, drop_shown
from espnet_plugin.monitor.options import TrainingError
from espnet_plugin.sharding import consolidate
from espnet_plugin.training import criteria, identity, midway, resuming
from espnet_plugin.training.accumulating import TokenShares
from espnet_plugin.training.curve import CURVE, read_curve
from espnet_plugin.training.disk import check_checkpoints, tensor_bytes
from espnet_plugin.training.progress import Batches, Run, mean
from espnet_plugin.training.saving import CHECKPOINT, EXTRA, Checkpoints
from espnet_plugin.training.valid_wer import ValidWer

__all__ = ["CURVE", "AsyncSwitchTrainer", "Options", "read_curve"]


@dataclass
class Options(TrainerOptions, monitor.RunOptions, identity.Options):
    """ESPnet's options and ours.

    Attributes:
        checkpoint_seconds: Least time between two checkpoints at ends of epochs.
        valid_wer_utts: Utterances to decode after each epoch.
    """

    checkpoint_seconds: float
    valid_wer_utts: int


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

        Raises:
            ValueError: If no checkpoint that is there can be read or seen by all ranks, or the disk
                is too small.
            Stopped: After a signal, once the checkpoint is written.
        """
        options, distributed = kwargs["trainer_options"], kwargs["distributed_option"]
        output_dir = Path(options.output_dir)
        schedules = [s for s in kwargs["schedulers"] if isinstance(s, FreezeSchedule)]
        rank = distributed.dist_rank if distributed.distributed else 0
        checkpoints = Checkpoints(output_dir, options.checkpoint_seconds)
        run = cls._run = Run(output_dir, not rank, schedules, output_dir.name, checkpoints)
        run.options, run.rank = options, rank
        run.world = distributed.dist_world_size if distributed.distributed else 1
        checkpoints.say = partial(run.say, level=logging.WARNING)
        passes = getattr(kwargs["train_iter_factory"], "passes", None)
        checkpoints.about = {"processes": run.world, "passes": passes}
        checkpoints.about |= identity.describe(options, kwargs["model"])
        if run.main:
            drop_shown()
            if options.resume:
                checkpoints.entries = resuming.find_checkpoint(output_dir, checkpoints.say) or []
                identity.check(checkpoints.noted, checkpoints.about, output_dir / CHECKPOINT)
            cls._check_room(kwargs["model"], options)
            model = kwargs["model"]
            run.say(f"products in {model.precision(next(model.parameters()).device)}")
            for schedule in schedules:
                audit = schedule.audit()
                logging.info("what moves at the start:\n%s", audit, extra=SHOWN)
                print(f"{run.label}: what moves at the start\n{audit}", flush=True)
        # ESPnet asks this option and the disk, on each rank.
        resumed = options.resume = resuming.agreed(output_dir, options.resume)
        watch = run.watch = monitor.start(
            output_dir, run.label, options, kwargs["model"], run.world, resumed
        )
        watch.events.say = run.show
        if options.accum_grad > 1:
            watch.shares = TokenShares(kwargs["model"].scored, options.accum_grad, watch.ranks)
        run.wer = ValidWer(kwargs["model"], options.valid_wer_utts, watch.ranks)
        if resumed:
            run.resume_curve()
        else:
            with Reporter().observe("valid", epoch=1) as reporter:
                batches = kwargs["valid_iter_factory"].build_iter(1)
                check_even(batches, "validation")
                readable = watch.validating(batches, 0, reporter)
                iterator = cls._until_stopped(readable, len(batches))
                super().validate_one_epoch(
                    kwargs["model"], iterator, reporter, options, distributed
                )
                watch.after_validation()
                run.write(0, reporter)
            wanted = [options.early_stopping_criterion, *options.best_model_criterion]
            criteria.check_measured(wanted, run.rows[0])
        iterations = getattr(kwargs["train_iter_factory"], "num_iters_per_epoch", None)
        total = options.max_epoch * iterations if iterations else None
        shown = progress(total, run.label, "batch", disable=not run.main)
        with shown as run.bar, checkpoints.replace_torch_save():
            if not run.main:
                run.bar = None
            elif run.updates and run.bar is not None:
                run.bar.update(run.updates * options.accum_grad)
            super().run(**kwargs)
        del cls._run  # it holds model and optimiser: in this process another run may follow

    @classmethod
    def _check_room(cls, model: torch.nn.Module, options: Options) -> None:
        moving = sum(tensor_bytes(p) for p in model.parameters() if p.requires_grad)
        best = options.keep_nbest_models
        files = 3 + (best if isinstance(best, int) else max(best, default=1))
        sizes = tensor_bytes(model.state_dict()), moving, files
        if warning := check_checkpoints(Path(options.output_dir), *sizes):
            cls._run.checkpoints.say(warning)

    @classmethod
    def resume(cls, checkpoint: Any, model: Any, reporter: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Load a checkpoint as ESPnet does, and bring the files of epochs to its moment."""
        # ESPnet would read it onto each GPU, the optimiser's state of all processes included. Here
        # the file is mapped, and each process copies what it needs.
        mapped = kwargs.pop("ngpu", 0) > 0
        asked = identity.Asked(kwargs["optimizers"], kwargs["schedulers"])
        with torch.utils.serialization.config.patch("load.mmap", mapped):  # type: ignore[attr-defined]
            super().resume(checkpoint=checkpoint, model=model, reporter=reporter, **kwargs)
        run, options = cls._run, cls._run.options
        checkpoints, wanted = run.checkpoints, options.best_model_criterion
        stopping = [options.early_stopping_criterion] if options.patience is not None else []
        criteria.check_resumed([*stopping, *wanted], reporter.stats)
        for change in asked.apply():
            checkpoints.say(change)
        checkpoints.reporter = reporter.state_dict()
        at = run.midway = midway.Midway.read(Path(checkpoint))
        done = (at.epoch, at.batches) if at else (reporter.get_epoch() + 1, 0)
        if len(set(places := gather(done))) > 1:
            raise ValueError(f"{checkpoint}: the processes read other files, of {places}")
        checkpoints.saved = done
        if run.main:
            resuming.restore_weights(checkpoints, reporter, model)
            best = options.keep_nbest_models
            best = best if isinstance(best, int) else max(best, default=1)
            say = checkpoints.say
            resuming.forget_missing(run.output_dir, reporter, wanted, best, say)
            resuming.link_best(run.output_dir, reporter, wanted)
            for change in resuming.changes(checkpoints.noted, checkpoints.about):
                say(change)
        known = from_first(sorted(reporter.stats))
        reporter.stats = {epoch: reporter.stats[epoch] for epoch in known}
        run.say(
            f"going on in epoch {done[0]} after {done[1]} batches"
            if done[1]
            else f"going on after epoch {done[0] - 1}"
        )

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
        """Apply the freeze schedule (after DDP wrapped the model), then train an epoch.

        An epoch that a signal interrupted goes on where it was: with the batches that are left,
        and with the random state and the reports of that moment.
        """
        run, epoch, done = cls._run, reporter.get_epoch(), 0
        check_even(iterator, f"epoch {epoch}")  # type: ignore[arg-type]
        if (length := len(iterator)) < options.accum_grad:  # type: ignore[arg-type]
            raise ValueError(
                f"an epoch has {length} batches, fewer than an update (--accum_grad "
                f"{options.accum_grad}): nothing would be trained"
            )
        run.begin_epoch(epoch)
        # ESPnet lets the gradients of batches short of `accum_grad` wait for the next epoch, where
        # a run resumed from a checkpoint, which has none, would differ.
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        if (at := run.midway) is not None:
            iterator, done = midway.remaining(iterator, at.batches), at.batches
            midway.unpack_report(at.report, reporter)
            midway.set_random_state(at.random_of(run.rank))
            run.midway = None
            if run.bar is not None:
                run.bar.update(done)

        watch = run.watch
        assert watch is not None

        def stop(batches: int) -> None:
            consolidate(optimizers)
            states = {
                "model": getattr(model, "module", model).state_dict(),
                "reporter": run.checkpoints.reporter,
                "optimizers": [o.state_dict() for o in optimizers] if run.main else [],
                "schedulers": [None if s is None else s.state_dict() for s in schedulers],
                "scaler": None if scaler is None else scaler.state_dict(),
                EXTRA: {
                    "epoch": epoch,
                    "batches": batches,
                    "report": midway.pack_report(reporter),
                    "random": gather(midway.random_state()),
                },
            }
            watch.save()
            if run.main:
                run.checkpoints.write(states, (epoch, batches))

        run.write_midway = stop
        # What watches batches goes between `iterator` and `Batches`. It gives one for each that it
        # takes: a resumed run skips as many as `Batches` counted.
        with watch.training(model, iterator, reporter, options, run.updates, done) as watched:
            batches = Batches(watched, run, reporter, partial(cls._between, model), done)
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
        consolidate(optimizers)
        run.train_loss = mean(reporter, "loss")
        run.updates += batches.done // options.accum_grad
        run.done = batches.done
        # Where the last batches were done before a signal, there was no step now: not a failure.
        if invalid and not reporter.stats.get("grad_norm"):
            raise TrainingError(  # ESPnet would end the run as if it were finished
                f"epoch {epoch}: none of its updates was made, every loss or gradient was NaN or "
                f"infinite: look at {watch.events.path}, the weights of --init_dir and the rates"
            )
        return False

    @classmethod
    def _between(cls, model: torch.nn.Module, done: int) -> None:
        """Stop between two updates of an epoch, if a signal asked for it."""
        run = cls._run
        run.done = done
        if done % run.options.accum_grad == 0:
            run.stop_if_asked()
        if isinstance(model, DistributedDataParallel):
            # As DDP's `no_sync`: gradients are exchanged once an update, not once a batch.
            model.require_backward_grad_sync = (done + 1) % run.options.accum_grad == 0

    @classmethod
    def _until_stopped(cls, batches: Iterable[Any], count: int) -> Iterator[Any]:
        """Yield batches of validation until a signal asks to stop; some utterances are decoded."""
        for batch in cls._run.wer.watch(batches, count):
            yield batch
            cls._run.stop_if_asked()

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
        watch = cls._run.watch
        assert watch is not None
        readable = watch.validating(iterator, reporter.get_epoch(), reporter)
        batches = cls._until_stopped(readable, len(iterator))  # type: ignore[arg-type]
        super().validate_one_epoch(model, batches, reporter, options, distributed_option)
        watch.after_validation()
        if not reporter.stats.get("loss"):
            raise ValueError(f"{cls._run.label}: the validation set gives no batch")
        cls._run.write(reporter.get_epoch(), reporter)
