"""Two processes on the CPU (gloo): their gradients agree while groups join one by one."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from espnet_plugin import whisper as passes
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.optim import build_optimizer

JOINS = [
    {"at": 0, "unit": "epoch", "groups": ["cross_attn"]},
    {"at": 1, "unit": "epoch", "groups": ["self_attn.1", "ffn"]},
    {"at": 2, "unit": "epoch", "groups": ["encoder", "output", "position", "self_attn.0"]},
]


class Wrapped(torch.nn.Module):
    def __init__(self, directory: str) -> None:
        super().__init__()
        self.whisper: Any = passes.load_whisper(directory)

    def forward(self, features: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        frames = torch.full((len(features),), features.shape[-1])
        memory, lengths = passes.encode(self.whisper, features, frames)
        hidden = passes.decode(self.whisper, tokens[:, :-1], memory, lengths)
        scores = passes.logits(self.whisper, hidden)
        return F.cross_entropy(scores.flatten(0, 1), tokens[:, 1:].flatten())


def example(epoch: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(10 * epoch + rank)
    features = torch.randn(2, 80, 30, generator=generator)
    return features, torch.randint(0, 50_000, (2, 5), generator=generator)


def run(rank: int, world: int, port: int, directory: str, output: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    model = Wrapped(directory)
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-3})
    schedule = FreezeSchedule(optimizer, kind="gradual", joins=JOINS)
    wrapped = DistributedDataParallel(model, find_unused_parameters=True)
    record: list[dict[str, torch.Tensor]] = []
    for epoch in (1, 2, 3):
        schedule.begin_epoch(epoch)  # after DDP wrapped, as the trainer does
        wrapped(*example(epoch, rank)).backward()
        record.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    record.append({n: p.detach().clone() for n, p in model.named_parameters()})
    torch.save(record, f"{output}/rank{rank}.pt")
    dist.destroy_process_group()


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_ranks_agree_and_equal_one_process(tiny_whisper: Path, tmp_path: Path) -> None:
    mp.spawn(run, args=(2, free_port(), str(tiny_whisper), str(tmp_path)), nprocs=2)
    ranks = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    for number, (first, second) in enumerate(zip(*ranks, strict=True)):
        assert set(first) == set(second)
        for name in first:
            assert torch.equal(first[name], second[name]), f"{name} differs in record {number}"
    grown = [len(record) for record in ranks[0][:3]]
    assert grown == sorted(set(grown)), f"groups did not join: {grown}"

    # One process with both halves of each batch takes the same steps.
    model = Wrapped(str(tiny_whisper))
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-3})
    schedule = FreezeSchedule(optimizer, kind="gradual", joins=JOINS)
    for epoch in (1, 2, 3):
        schedule.begin_epoch(epoch)
        halves = [example(epoch, rank) for rank in (0, 1)]
        loss = model(*(torch.cat(parts) for parts in zip(*halves, strict=True)))
        loss.backward()
        for name, gradient in ranks[0][epoch - 1].items():
            if (mine := dict(model.named_parameters())[name].grad) is not None:
                assert (mine - gradient).abs().max() < 1e-5, name
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
