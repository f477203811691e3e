"""Two processes (gloo) with what small GPUs need: as one process without it."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from espnet_plugin.groups import GROUPS
from espnet_plugin.optim import build_optimizer
from espnet_plugin.optim8bit import adamw8bit
from tests.test_checkpointing import batch, build
from tests.test_distributed import free_port
from tests.test_optim import tiny

ADAPTERS = "encoder=2 cross_attn=2"
WAYS: dict[str, dict[str, Any]] = {"full": {}, "lora": {"lora": ADAPTERS}}


def worker(rank: int, port: int, task: Callable[..., Any], output: str, *args: Any) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(task(rank, *args), f"{output}/{rank}.pt")
    dist.destroy_process_group()


def together(task: Callable[..., Any], output: Path, *args: Any) -> list[Any]:
    mp.spawn(worker, args=(free_port(), task, str(output), *args), nprocs=2)
    return [torch.load(output / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def model_of(directory: str, way: str, checkpointing: str) -> Any:
    torch.manual_seed(0)
    groups = ("encoder", "cross_attn") if way == "lora" else GROUPS
    options = WAYS[way] | {"checkpointing": checkpointing, "autocast": "none"}
    return build(Path(directory), groups, **options)


def part(rank: int) -> dict[str, torch.Tensor]:
    return {name: tensor[rank : rank + 1] for name, tensor in batch(True).items()}


def gradients(rank: int, directory: str) -> dict[str, dict[str, torch.Tensor]]:
    found = {}
    for way in WAYS:
        model = model_of(directory, way, "all")
        wrapped = DistributedDataParallel(model)  # it must live until the backward pass is done
        wrapped(**part(rank))[0].backward()
        found[way] = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return found


@pytest.mark.slow
def test_checkpointed_gradients_are_those_of_one_process(
    tiny_whisper: Path, tmp_path: Path
) -> None:
    ranks = together(gradients, tmp_path, str(tiny_whisper))
    for way in WAYS:
        model = model_of(str(tiny_whisper), way, "none")
        for rank in (0, 1):
            (model(**part(rank))[0] / 2).backward()
        names = {n for n, p in model.named_parameters() if p.grad is not None}
        assert names == set(ranks[0][way])
        for name, parameter in model.named_parameters():
            if name in names:
                assert torch.equal(ranks[0][way][name], ranks[1][way][name]), name
                assert (ranks[0][way][name] - parameter.grad).abs().max() < 1e-6, name


def eight_bits(rank: int, sharded: bool) -> list[torch.Tensor]:
    """Four updates, gathered and restored after two where the state is sharded."""
    model = tiny()

    def make() -> Any:
        conf = {"lr": 1e-2, "min_8bit_size": 64}
        return build_optimizer(model, adamw8bit, conf, {}, {}, GROUPS if sharded else None)

    optimizer = make()
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        if sharded and step == 2:
            optimizer.consolidate_state_dict(0)
            state = [optimizer.state_dict() if rank == 0 else None]
            dist.broadcast_object_list(state, 0)
            optimizer = make()
            optimizer.load_state_dict(state[0])
        for parameter in model.parameters():
            gradient = torch.randn(parameter.shape, generator=generator)
            parameter.grad = gradient if parameter.requires_grad else None
        optimizer.step()
    return [p.detach() for p in model.parameters()]


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)
def test_eight_bits_are_sharded_and_gathered(tmp_path: Path) -> None:
    ranks, whole = together(eight_bits, tmp_path, True), eight_bits(0, False)
    for one, first, second in zip(whole, *ranks, strict=True):
        assert torch.equal(one, first) and torch.equal(one, second)
