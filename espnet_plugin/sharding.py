"""A sharded optimiser (ZeRO stage 1): each process keeps the state of its part of the parameters.

With Adam the state is twice the size of what moves, in float32, on every GPU. torch's
`ZeroRedundancyOptimizer` deals the parameters out: each process updates its own and sends them to
the others. `ShardedOptimizer` is that class with what ESPnet's trainer and our groups need:
parameter groups by name, an even share of what moves (not of what is frozen), only moving weights
on the network, and a checkpoint that is gathered tensor by tensor and that is the same with and
without sharding.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.optim import ZeroRedundancyOptimizer

from espnet_plugin.distributed import gather

_Zero: Any = ZeroRedundancyOptimizer  # torch's stub leaves out what is extended here


class ShardedOptimizer(_Zero):  # type: ignore[misc]
    """An optimiser whose state is spread over the processes; parameters stay whole on each."""

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        optim_class: Callable[..., torch.optim.Optimizer],
        moving: Iterable[str],
        **conf: Any,
    ) -> None:
        """Deal out the parameters; every process calls it with the same arguments.

        Args:
            groups: As of a torch optimiser with named parameters: `name`, `params` as pairs
                (name, parameter), options.
            optim_class: The optimiser of a part.
            moving: Names of the groups that ever train: they are spread evenly.
            conf: Options of `optim_class`.
        """
        self._moving = set(moving)
        plain = []
        for group in groups:
            names, params = zip(*group["params"], strict=True)
            plain.append(group | {"params": list(params), "param_names": list(names)})
        super().__init__(plain, optimizer_class=optim_class, **conf)
        self._gathered: dict[str, Any] | None = None

    def _partition_parameters(
        self, params_per_rank: list[list[torch.Tensor]] | None = None
    ) -> list[list[dict[str, Any]]]:
        """Give each parameter, the largest first, to the process that has least.

        What is frozen weighs nothing. Group by group, the token embedding would come late, and be
        one process's burden above its share.
        """
        cache = self._partition_parameters_cache
        if not cache:
            cache.extend([] for _ in range(self.world_size))
            sizes = [0] * self.world_size
            parts = [[list[torch.Tensor]() for _ in sizes] for _ in self.param_groups]
            every = [
                (param.numel() if group["name"] in self._moving else 0, number, param)
                for number, group in enumerate(self.param_groups)
                for param in group["params"]
            ]
            for weight, number, param in sorted(every, key=lambda one: -one[0]):
                owner = sizes.index(min(sizes))
                parts[number][owner].append(param)
                sizes[owner] += weight
            for group, each in zip(self.param_groups, parts, strict=True):
                self._partition_param_group(group, each)
        return cache

    def step(self, closure: Any = None, **options: Any) -> Any:
        """Update this process's parameters, then exchange what moves."""
        self._is_trainable_mask = self._get_is_trainable_mask()  # a freeze schedule changes it
        return super().step(closure, **options)

    def _sync_params(self) -> None:
        handles = [
            dist.broadcast(param.data, src=owner, group=self.process_group, async_op=True)
            for owner, groups in enumerate(self._partition_parameters())
            for param in chain.from_iterable(group["params"] for group in groups)
            if param.requires_grad
        ]
        for handle in filter(None, handles):
            handle.wait()

    def consolidate_state_dict(self, to: int = 0) -> None:
        """Gather the state on one process, on the CPU, tensor by tensor; every process calls it.

        torch's own sends a whole part at once, through the memory of every GPU.

        Args:
            to: Rank of the process whose `state_dict` is then complete.
        """
        mine = self.optim.state
        index = {p: i for i, p in enumerate(self._index_to_param) if p in mine}
        facts = {i: {k: _fact(v) for k, v in mine[p].items()} for p, i in index.items()}
        everyone = gather(facts, self.process_group)
        state: dict[int, dict[str, Any]] = {}
        for owner, known in enumerate(everyone):
            for number, values in known.items():
                held = mine.get(self._index_to_param[number], {})
                for key, fact in values.items():
                    value = self._fetch(held.get(key), fact, owner, to)
                    if self.rank == to:
                        state.setdefault(number, {})[key] = value
        if self.rank == to:
            groups = torch.optim.Optimizer.state_dict(self)["param_groups"]
            self._gathered = {"state": dict(sorted(state.items())), "param_groups": groups}

    def _fetch(self, value: Any, fact: Any, owner: int, to: int) -> Any:
        """Return one entry of the state on rank `to`, on the CPU; other ranks get None."""
        if not isinstance(fact, _Tensor):
            return fact
        if owner == to:
            return value.to("cpu", copy=True) if self.rank == to else None
        if self.rank == owner:
            dist.send(value.to(self._default_device).contiguous(), to, group=self.process_group)
        elif self.rank == to:
            room = torch.empty(fact.shape, dtype=fact.dtype, device=self._default_device)
            dist.recv(room, owner, group=self.process_group)
            return room.cpu()
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return what `consolidate_state_dict` gathered, in the form of the unsharded optimiser.

        The memory is given back: each checkpoint gathers anew.

        Raises:
            RuntimeError: If the state has not been gathered on this process since the last call.
        """
        if self._gathered is None:
            raise RuntimeError("the sharded optimiser's state was not gathered: see `consolidate`")
        gathered, self._gathered = self._gathered, None
        return gathered

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take this process's part of a state, of a sharded run or another.

        Raises:
            ValueError: If the state is of other parameter groups.
        """
        saved = state_dict["param_groups"]
        if [len(g["params"]) for g in saved] != [len(g["params"]) for g in self.param_groups]:
            raise ValueError(
                "the checkpoint's optimiser has other parameter groups than this run's"
            )
        self._sync_param_groups(saved, self.param_groups)
        self._sync_param_groups(self.param_groups, self.optim.param_groups)
        local = self.optim.state_dict()["param_groups"]
        owned = chain.from_iterable(group["params"] for group in self.optim.param_groups)
        numbers = {p: i for i, p in enumerate(self._index_to_param)}
        state = {
            place: state_dict["state"][numbers[param]]
            for place, param in enumerate(owned)
            if numbers[param] in state_dict["state"]
        }
        self.optim.load_state_dict({"state": state, "param_groups": local})


class _Tensor:
    """Shape and type of a tensor of another process's state."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.shape, self.dtype = tuple(tensor.shape), tensor.dtype


def _fact(value: Any) -> Any:
    """Describe a tensor; numbers, and tensors of one, go along as they are."""
    if isinstance(value, torch.Tensor):
        return value.cpu() if value.dim() == 0 else _Tensor(value)
    return value


def consolidate(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Make `state_dict` of sharded optimisers complete on rank 0, before a checkpoint is written.

    Every process calls it, at the same step. Other optimisers need nothing.
    """
    for optimizer in optimizers:
        if isinstance(optimizer, ShardedOptimizer):
            optimizer.consolidate_state_dict(to=0)
