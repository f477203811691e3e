"""Losses of validation that are not finite. ESPnet's mean leaves them out without a word."""

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from espnet2.train.reporter import SubReporter, aggregate

from espnet_plugin.monitor.batches import Batch, facts, name, together
from espnet_plugin.monitor.options import TrainingError

if TYPE_CHECKING:
    from espnet_plugin.monitor.watch import Watch


def judged(watch: "Watch", batches: Iterable[Batch], reporter: SubReporter) -> Iterator[Batch]:
    """Yield batches of validation, and name those whose loss is not finite.

    All ranks see the mean of their losses, so that all decide alike.

    Args:
        watch: Says it.
        batches: Of this rank.
        reporter: ESPnet's, of this validation.

    Raises:
        TrainingError: With `--on_nonfinite stop`.
    """
    for ids, batch in batches:
        yield ids, batch
        losses = reporter.stats.get("loss")
        if not losses or math.isfinite(value := float(losses[-1].value)):
            continue
        held = together(watch.ranks.gather_objects(facts(ids)))
        stop = watch.options.on_nonfinite == "stop"
        does = "the run stops" if stop else "it is left out of the mean"
        text = (
            f"epoch {watch.events.epoch}: the validation loss of a batch is {value}; "
            f"{name(held, '')}; {does} (--on_nonfinite {watch.options.on_nonfinite})"
        )
        watch.events.record("nonfinite_validation", text, stop, loss=str(value), **held)
        if stop:
            raise TrainingError(text)


def check_mean(watch: "Watch", reporter: SubReporter) -> None:
    """Check that a validation has a loss to choose and to stop by.

    Raises:
        TrainingError: If its mean is not finite; what was trained before is whole.
    """
    if not (losses := reporter.stats.get("loss")) or math.isfinite(mean := aggregate(losses)):
        return
    where = "before training" if watch.events.epoch == 0 else f"of epoch {watch.events.epoch}"
    raise TrainingError(
        f"the validation loss {where} is {mean}: no epoch can be chosen by it. The batches are "
        f"named in {watch.events.path}. Where that is all of them, the weights are at fault: "
        "check --init_dir, or lower the learning rate and go on from the last checkpoint"
    )
