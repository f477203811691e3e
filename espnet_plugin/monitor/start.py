"""Begins the watch over a run of `AsyncSwitchTrainer`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.monitor.events import FILE as EVENTS
from espnet_plugin.monitor.faults import FILE as BAD
from espnet_plugin.monitor.kept import STATE
from espnet_plugin.monitor.options import WatchOptions
from espnet_plugin.monitor.ranks import Ranks
from espnet_plugin.monitor.signatures import in_text, text_stage_converged
from espnet_plugin.monitor.watch import Watch
from espnet_plugin.monitor.work import Estimate, model_shape, moving_names


@dataclass
class RunOptions(WatchOptions):
    """What the watch must know of a run besides.

    Attributes:
        adaptation_stage: Which it is.
        init_dir: Where it starts.
        train_text: Token store, or None.
        train_data: Data directory, or None.
    """

    adaptation_stage: str
    init_dir: str
    train_text: str | None
    train_data: str | None


def start(
    output_dir: Path, label: str, options: Any, model: Any, world: int, resumed: bool
) -> Watch:
    """Begin.

    Args:
        output_dir: Of the run.
        label: Its name.
        options: The trainer's, with those of `RunOptions`.
        model: An `AsyncSwitchModel`.
        world: Number of processes.
        resumed: Whether the run goes on; else files of a run before are removed.
    """
    ranks = Ranks(world > 1, "cuda" if options.ngpu else "cpu")
    if not resumed and ranks.rank == 0:
        for name in (EVENTS, STATE, BAD):
            (output_dir / name).unlink(missing_ok=True)
    shape = model_shape(model.whisper.config)
    estimate = Estimate(shape, lambda: moving_names(model), model.pad)
    source = options.train_text or options.train_data or ""
    watch = Watch(output_dir, label, options, ranks, source, estimate)
    watch.stage = options.adaptation_stage
    watch.after_text = text_stage_converged(options.init_dir)
    if options.train_text:
        watch.say(in_text(options.train_text))
    return watch
