"""What all ranks of a distributed run must know together, so that they decide alike."""

from collections.abc import Sequence
from typing import Any

import torch

from espnet_plugin.distributed import gather


class Ranks:
    """The processes of a run.

    Attributes:
        size: How many there are.
        rank: Which one this is.
    """

    def __init__(self, distributed: bool, device: str = "cpu") -> None:
        """Prepare.

        Args:
            distributed: Whether torch.distributed is in use.
            device: Of the tensors that are exchanged.
        """
        self.size = torch.distributed.get_world_size() if distributed else 1
        self.rank = torch.distributed.get_rank() if distributed else 0
        self.device = device

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return every rank's values, by rank. All ranks must call it with as many values."""
        if self.size == 1:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        every = [torch.empty_like(mine) for _ in range(self.size)]
        torch.distributed.all_gather(every, mine)
        found: list[list[float]] = torch.stack(every).tolist()
        return found

    def gather_objects(self, value: Any) -> list[Any]:
        """Return every rank's object, by rank; slow, for rare events. All ranks must call it."""
        return gather(value)
