"""The options of watching, and a check before training of what they need installed."""

import argparse
import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ON_NONFINITE = ("skip", "stop")
ON_SPIKE = ("warn", "skip", "stop")

# option, module that it needs, extra that brings the module
NEEDS = (
    ("use_tensorboard", "tensorboard", "train"),
    ("use_matplotlib", "matplotlib", "train"),
    ("use_wandb", "wandb", "wandb"),
)


class TrainingError(ValueError):
    """A training that should not go on as it is; the message says what was found."""


@dataclass
class WatchOptions:
    """What to do about what is found during training.

    Attributes:
        on_nonfinite: `skip` leaves an update out whose loss or gradient is NaN or infinite; `stop`
            ends the run.
        on_spike: Likewise for a loss far above its running level, or `warn` (train on it).
        spike_factor: A loss is a spike above median + factor x MAD of the last losses (MAD: median
            absolute deviation, counted as at least 2 % of the median).
        spike_window: How many updates' losses the level is made from.
        max_skipped: More skipped updates in a row end the run.
        max_bad_share: A larger share of utterances that cannot be used ends the run, 0..1.
        peak_tflops: Dense peak of one device, for MFU; None looks it up by name (`peaks.py`).
    """

    on_nonfinite: str
    on_spike: str
    spike_factor: float
    spike_window: int
    max_skipped: int
    max_bad_share: float
    peak_tflops: float | None


def add_options(add: Callable[..., Any]) -> None:
    """Declare the options.

    Args:
        add: `add_argument` of a parser or a group.
    """
    add("--on_nonfinite", default="skip", choices=ON_NONFINITE, help="NaN or Inf: leave out or end")
    add("--on_spike", default="warn", choices=ON_SPIKE, help="A loss far above its running level")
    add("--spike_factor", type=float, default=10.0, help="... above median + this x MAD")
    add("--spike_window", type=int, default=200, help="... of this many updates")
    add("--max_skipped", type=int, default=10, help="Skipped updates in a row that are too many")
    add("--max_bad_share", type=float, default=0.01, help="Unusable utterances: more end the run")
    add("--peak_tflops", type=float, help="Of one device, dense, for MFU; default: by name")


def check(args: argparse.Namespace) -> None:
    """Refuse values out of range, and loggers that are not installed, before training.

    ESPnet imports TensorBoard and matplotlib after the first epoch, before its checkpoint.

    Raises:
        ValueError: Names the option, and what is allowed or to be installed.
    """
    ranges = {
        "spike_factor": (args.spike_factor > 0, "a number above 0"),
        "spike_window": (args.spike_window >= 10, "at least 10 updates"),
        "max_skipped": (args.max_skipped >= 0, "0 or more"),
        "max_bad_share": (0 <= args.max_bad_share <= 1, "a share, 0..1"),
        "peak_tflops": (args.peak_tflops is None or args.peak_tflops > 0, "a number above 0"),
    }
    for name, (fine, allowed) in ranges.items():
        if not fine:
            raise ValueError(f"--{name} is {allowed}, got {getattr(args, name)}")
    for option, module, extra in NEEDS:
        if getattr(args, option) and importlib.util.find_spec(module) is None:
            raise ValueError(
                f"--{option} needs {module}, which is not installed: "
                f'pip install "espnet-asyncswitch[{extra}]", or --{option} false'
            )
    if args.use_wandb and os.environ.get("WANDB_MODE") not in ("offline", "disabled"):
        import wandb

        if not wandb.api.api_key:  # ESPnet would go on without it, and say so in the log only
            raise ValueError(
                "--use_wandb: this machine is not logged in to W&B: run `wandb login`, or set "
                "WANDB_MODE=offline to keep the run's files here (`wandb sync` sends them later)"
            )
