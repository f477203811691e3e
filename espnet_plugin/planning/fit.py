"""The largest batch that fits, and the options that ask for it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from espnet_plugin.planning.activations import Batch
from espnet_plugin.planning.budget import Budget, Setup, budget
from espnet_plugin.planning.machine import Machine
from espnet_plugin.planning.shapes import Shape
from espnet_plugin.prompt import MAX_TOKENS

RATE = 16_000  # samples a second
POSITION = 320  # samples of an encoder position
LONGEST = 30  # seconds of Whisper's input
# Batches hold utterances of like lengths. Short ones have more tokens for their audio (prompt and
# end), long ones more audio for their tokens; a plan holds for all of these.
SECONDS = (1, 3, 10, 30)
USUAL = 10  # seconds of an utterance, where batches hold one
PROMPT = 5  # start, language, task, no-timestamps; end
# Above what fast Malay or English takes: 3.5 words a second, two tokens and more a word.
TOKENS_PER_SECOND = 8.0

# Text, without a corpus: nothing but a CPU's bfloat16 attention depends on the lines' length.
TEXT_UNIT = 500  # positions
MOST_TEXT = 4_000_000  # positions
MOST_PAIRED = 4 * 3600  # seconds

# What an update sees on all devices together, where nothing is asked for: conf/train_*.yaml.
TARGETS = {"text": 16_000, "paired": 480 * RATE}


@dataclass(frozen=True)
class Fit:
    """The largest batch of one device.

    Attributes:
        unit: `positions` (text), `samples` (`pad: batch`) or `utterances` (`pad: 30s`).
        bins: How many; 0 where not even the least batch fits.
        budget: What it takes, or the least batch where that does not fit.
    """

    unit: str
    bins: int
    budget: Budget

    @property
    def seconds(self) -> float:
        """Audio of the batch; 0 for text."""
        return {"samples": self.bins / RATE, "utterances": self.bins * LONGEST}.get(self.unit, 0.0)


def batches(
    shape: Shape, unit: str, bins: int, tokens_per_second: float = TOKENS_PER_SECOND
) -> list[Batch]:
    """Return the batches that so many bins can be: the plan is for the worst of them.

    Args:
        shape: Of the model.
        unit: As in `Fit`.
        bins: Decoder positions, samples or utterances, padding included.
        tokens_per_second: Text tokens for a second of speech.
    """
    if unit == "positions":
        longest = min(shape.tokens, bins)
        return [Batch(max(1, bins // longest), longest, 0)]

    def tokens(seconds: float) -> int:
        return min(shape.tokens, math.ceil(tokens_per_second * seconds) + PROMPT)

    if unit == "utterances":
        return [Batch(bins, tokens(LONGEST), shape.positions, padded=False)]
    found = []
    for seconds in SECONDS:
        size = max(1, bins // (seconds * RATE))
        found.append(Batch(size, tokens(seconds), seconds * RATE // POSITION))
    return found


def worst(
    shape: Shape,
    moving: frozenset[str],
    machine: Machine,
    setup: Setup,
    unit: str,
    bins: int,
    tokens_per_second: float = TOKENS_PER_SECOND,
) -> Budget:
    """Return the budget of the largest of the batches that so many bins can be."""
    each = batches(shape, unit, bins, tokens_per_second)
    budgets = [budget(shape, moving, batch, machine, setup) for batch in each]
    return max(budgets, key=lambda one: one.peak)


def largest_batch(
    shape: Shape,
    moving: frozenset[str],
    machine: Machine,
    setup: Setup,
    unit: str,
    tokens_per_second: float = TOKENS_PER_SECOND,
) -> Fit:
    """Find the largest batch that fits one device.

    Args:
        shape: Of the model.
        moving: Names of the parameters that are trained.
        machine: The devices.
        setup: How the stage is run.
        unit: As in `Fit`.
        tokens_per_second: Text tokens for a second of speech.

    Returns:
        The batch, in steps of 500 positions, a second of audio or an utterance. The least is one
        line or one utterance of full length.
    """
    step, least, most = {
        "positions": (TEXT_UNIT, TEXT_UNIT, MOST_TEXT),
        "samples": (RATE, LONGEST * RATE, MOST_PAIRED * RATE),
        "utterances": (1, 1, MOST_PAIRED // LONGEST),
    }[unit]

    def at(bins: int) -> Budget:
        return worst(shape, moving, machine, setup, unit, bins, tokens_per_second)

    return _search(at, machine.usable, unit, step, least, most)


def _search(
    at: Callable[[int], Budget], usable: float, unit: str, step: int, least: int, most: int
) -> Fit:
    first = at(least)
    if first.peak > usable:
        return Fit(unit, 0, first)
    low, high, found = least // step, most // step, first
    while low < high:
        middle = (low + high + 1) // 2
        tried = at(middle * step)
        if tried.peak <= usable:
            low, found = middle, tried
        else:
            high = middle - 1
    return Fit(unit, low * step, found)


@dataclass(frozen=True)
class Options:
    """ESPnet's options for a batch that fits.

    Attributes:
        lines: `batch_bins: 16000` and so on, by option.
        update: Bins of an update on all devices.
    """

    lines: dict[str, int | str]
    update: int


def options(fit: Fit, world: int, target: int | None = None) -> Options | None:
    """Choose batch and accumulation so that an update sees about `target` on all devices.

    A batch is dealt out to the devices. ESPnet's `numel` batches are closed after the utterance
    that exceeds `batch_bins`: each device gets up to one utterance more than its part, and 30 s
    are taken off here. So it is with a batch of text and several devices: one line more.
    With `pad: 30s` an utterance counts as 30 s however short it is, and no batch exceeds its bins.

    Args:
        fit: The largest batch.
        world: Number of devices.
        target: Positions (text) or samples of an update; default: that of conf/train_*.yaml.

    Returns:
        None where nothing fits.
    """
    if not fit.bins:
        return None
    wanted = target or TARGETS["text" if fit.unit == "positions" else "paired"]
    if fit.unit == "utterances":
        wanted = max(1, wanted // (LONGEST * RATE))
    room, usual = fit.bins, fit.bins
    if fit.unit == "samples":
        room = max(1, fit.bins - LONGEST * RATE)  # 1: each utterance is a batch of its own
        usual = max(room, USUAL * RATE)
    elif fit.unit == "positions" and world > 1:
        # Each device needs a line at least, and none is longer than this.
        room = usual = max(fit.bins - MAX_TOKENS, min(fit.bins, MAX_TOKENS))
    accumulate = math.ceil(wanted / (world * usual))
    bins = min(room, math.ceil(wanted / (world * accumulate)))
    lines: dict[str, int | str] = {}
    if fit.unit != "positions":
        lines["batch_type"] = "numel"
    lines["batch_bins"] = bins * world * (LONGEST * RATE if fit.unit == "utterances" else 1)
    lines["accum_grad"] = accumulate
    return Options(lines, (usual if room == 1 else bins) * accumulate * world)
