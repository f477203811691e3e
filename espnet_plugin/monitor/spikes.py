"""The running level of the loss, and what is far above it."""

import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence

LEAST = 20  # losses before anything is called a spike
FLOOR = 0.02  # of the median, that the deviation counts at least: losses of small data hardly vary


class Level:
    """Median and median absolute deviation (MAD) of the last losses.

    Both ignore what is far out, so that a spike does not raise the level that it is judged by.
    """

    def __init__(self, window: int, factor: float, losses: Iterable[float] = ()) -> None:
        """Begin.

        Args:
            window: How many losses are kept.
            factor: Deviations above the median at which a loss is a spike.
            losses: Those before, oldest first.
        """
        self.factor = factor
        self.losses: deque[float] = deque(losses, maxlen=window)

    def median(self) -> float:
        """Return the level; NaN at the start."""
        return statistics.median(self.losses) if self.losses else math.nan

    def limit(self) -> float:
        """Return the loss above which a batch is a spike; infinite until there are enough."""
        if len(self.losses) < LEAST:
            return math.inf
        middle = self.median()
        deviation = statistics.median(abs(loss - middle) for loss in self.losses)
        return middle + self.factor * max(deviation, FLOOR * abs(middle))

    def judge(self, losses: Sequence[float]) -> tuple[str | None, float]:
        """Judge the losses of one batch (one of each rank), then count them in.

        Returns:
            `nonfinite_loss`, `spike` or None; and the limit that they were judged by.
        """
        limit = self.limit()
        finite = [loss for loss in losses if math.isfinite(loss)]
        self.losses.extend(finite)
        if len(finite) < len(losses):
            return "nonfinite_loss", limit
        return ("spike" if max(losses) > limit else None), limit
