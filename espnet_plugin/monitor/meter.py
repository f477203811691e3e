"""Speed of training: utterances, tokens and audio a second, memory, MFU, time left."""

import math
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import torch

from espnet_plugin.monitor.peaks import peak_flops


@dataclass
class Work:
    """What batches held, over all ranks.

    Attributes:
        utterances: Utterances or lines of text.
        tokens: Tokens that count in the loss.
        audio: Seconds of audio.
        flops: Operations, by `flops.py`.
        seconds: What it took.
    """

    utterances: float = 0.0
    tokens: float = 0.0
    audio: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0

    def __iadd__(self, other: "Work") -> "Work":
        """Add."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)
        return self


def peak_memory(device: str) -> float:
    """Return the most memory that this process held, in 10^9 bytes: tensors on a GPU, else all."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def find_peak(device: str, tflops: float | None) -> float | None:
    """Return the peak of one device in operations a second; None where it is not known."""
    if tflops is not None:
        return tflops * 1e12
    return peak_flops(torch.cuda.get_device_name()) if device == "cuda" else None


def span(seconds: float) -> str:
    """Write a time for people: `45 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24} h"


class Meter:
    """Adds up work and time.

    A step runs from the moment a batch is asked for to the moment the next one is. ESPnet reads
    the loss and the gradient's norm in each step, so a GPU has done its work by then.
    """

    def __init__(self, device: str, world: int, tflops: float | None = None) -> None:
        """Prepare.

        Args:
            device: `cuda` or `cpu`.
            world: Number of devices.
            tflops: Peak of one; default: by its name.
        """
        self.device = device
        peak = find_peak(device, tflops)
        self.peak = peak * world if peak else None
        self.epoch, self.since = Work(), Work()
        self.last: Work | None = None
        self.asked = self.ended = time.perf_counter()
        self.steps, self.stepping = 0, 0.0  # steps so far, their seconds
        self.gaps, self.between = 0, 0.0  # validations and checkpoints so far, their seconds

    def begin_epoch(self) -> None:
        """Count an epoch's work anew."""
        self.epoch, self.since, self.last = Work(), Work(), None
        self.gaps, self.between = self.gaps + 1, self.between + time.perf_counter() - self.ended

    def ask(self) -> None:
        """Note that a batch is asked for."""
        self.asked = time.perf_counter()

    def done(self, work: Work) -> None:
        """Note that a step is over; `work.seconds` is filled in."""
        work.seconds = time.perf_counter() - self.asked
        self.ended = self.asked + work.seconds
        self.steps, self.stepping = self.steps + 1, self.stepping + work.seconds
        self.last = work
        self.epoch += work
        self.since += work

    def rates(self, work: Work) -> dict[str, float]:
        """Return `utt_per_s`, `tokens_per_s`, `audio_s_per_s`, `peak_gb` and `mfu` (percent)."""
        seconds = work.seconds or math.nan
        found = {"utt_per_s": work.utterances / seconds, "tokens_per_s": work.tokens / seconds}
        if work.audio:
            found["audio_s_per_s"] = work.audio / seconds
        found["peak_gb"] = peak_memory(self.device)
        if self.peak:
            found["mfu"] = 100 * work.flops / seconds / self.peak
        return found

    def register(self, reporter: Any) -> None:
        """Put the step before into ESPnet's statistics, and so into its log, TensorBoard, W&B.

        Each step weighs as much as it took: the mean over an interval is its work by its time.
        """
        if self.last is not None:
            rates = self.rates(self.last)
            reporter.register(rates, self.last.seconds)
            self.last = None

    def left(self, steps: int, epochs: int) -> float:
        """Return the seconds that so many steps, and so many ends of epochs, will take."""
        return steps * self.stepping / max(self.steps, 1) + epochs * self.between / max(
            self.gaps, 1
        )

    def line(self, left: tuple[int, int] | None) -> str:
        """Say how the steps since the last call went.

        Args:
            left: Steps and ends of epochs that are to come, for the time left.
        """
        rates, self.since = self.rates(self.since), Work()
        parts = [f"{rates['utt_per_s']:.3g} utterances/s", f"{rates['tokens_per_s']:.4g} tokens/s"]
        if "audio_s_per_s" in rates:
            parts.append(f"{rates['audio_s_per_s']:.4g} h of audio an hour")
        parts.append(f"peak memory {rates['peak_gb']:.2f} GB")
        if "mfu" in rates:
            parts.append(f"MFU {rates['mfu']:.1f} %")
        if left is not None:
            parts.append(f"{span(self.left(*left))} left")
        return ", ".join(parts)
