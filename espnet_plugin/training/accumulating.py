"""An update of several batches (`--accum_grad`) is that of one large batch: a mean over tokens.

ESPnet adds up the batches' own means, each divided by their number, so that a token would count
more in a batch that has few of them. Here the batches of an update are drawn together, and each
one's loss is multiplied by its tokens over the mean of theirs, counted on all ranks.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import batched
from typing import Any

import torch

from espnet_plugin.monitor.ranks import Ranks

Batch = tuple[Any, dict[str, Any]]


class TokenShares:
    """Weights the losses of an update's batches.

    Attributes:
        factor: Of the loss of the batch that was drawn last.
    """

    def __init__(
        self, scored: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], each: int, ranks: Ranks
    ) -> None:
        """Prepare.

        Args:
            scored: `AsyncSwitchModel.scored`: which tokens of a batch count in its loss.
            each: Batches of an update.
            ranks: The processes of the run.
        """
        self.scored, self.each, self.ranks, self.factor = scored, each, ranks, 1.0

    def draw(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches; all that are one update's are read before the first of them."""
        for update in batched(batches, self.each):
            mine = [float(self.scored(b["text"], b["text_lengths"]).sum()) for _, b in update]
            tokens = [sum(column) for column in zip(*self.ranks.gather(mine), strict=True)]
            mean = sum(tokens) / len(tokens)
            for batch, count in zip(update, tokens, strict=True):
                self.factor = count / mean if mean else 1.0
                yield batch

    def weigh(self, model: Any, args: Any, output: Any) -> Any:
        """Weight a batch's loss, as a forward hook; what is reported of it stays."""
        loss, stats, weight = output
        return loss * self.factor, stats, weight
