"""Several processes on the CPU (gloo) train as one would with the same batches."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from espnet_plugin import whisper as passes
from espnet_plugin.checkpoint import load_state
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.optim import build_optimizer
from espnet_plugin.sharding import ShardedOptimizer, consolidate
from espnet_plugin.stages import STAGES
from espnet_plugin.training.curve import read_curve
from tests.fixtures.pairs import write_pairs, write_text_store

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")

JOINS = [
    {"at": 0, "unit": "epoch", "groups": ["cross_attn"]},
    {"at": 1, "unit": "epoch", "groups": ["self_attn.1", "ffn"]},
    {"at": 2, "unit": "epoch", "groups": ["encoder", "output", "position", "self_attn.0"]},
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _rank(rank: int, port: int, world: int, body: Callable[..., None], args: Any) -> None:
    torch.set_num_threads(1)  # a fork must not use the parent's pool of threads
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    body(rank, world, *args)


def run_ranks(world: int, body: Callable[..., None], *args: Any, seconds: float = 120) -> None:
    """Fork `world` processes that run `body(rank, world, *args)`; fails if they hang."""
    arguments = (free_port(), world, body, args)
    started = mp.start_processes(_rank, arguments, world, join=False, start_method="fork")
    end = time.monotonic() + seconds
    while not started.join(timeout=max(0.1, end - time.monotonic())):
        if time.monotonic() > end:
            for process in started.processes:
                process.kill()
            pytest.fail(f"{world} processes did not end within {seconds} s")


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


def grow(rank: int, world: int, directory: str, output: str) -> None:
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


def test_ranks_agree_and_equal_one_process(tiny_whisper: Path, tmp_path: Path) -> None:
    run_ranks(2, grow, str(tiny_whisper), str(tmp_path))
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


def shard(rank: int, world: int, directory: str, output: str) -> None:
    """Two steps, a checkpoint, two steps of what it makes; sharded or not, before and after."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    found = {}
    for name, sharded in {"whole": (0, 0), "sharded": (1, 1), "on": (0, 1), "off": (1, 0)}.items():
        model = Wrapped(directory)
        wrapped: Any = None
        state: list[Any] = [None, None]
        for part in (0, 1):
            moving = ("cross_attn", "self_attn") if sharded[part] else None
            conf = {"lr": 1e-3, "weight_decay": 0.1}
            optimizer = build_optimizer(
                model, torch.optim.AdamW, conf, {"cross_attn": 3e-3}, {"self_attn": 0.0}, moving
            )
            assert isinstance(optimizer, ShardedOptimizer) == bool(sharded[part])
            schedule = FreezeSchedule(
                optimizer,
                trainable=["cross_attn", "self_attn"],
                inner="warmuplinear",
                inner_conf={"warmup_steps": 2, "total_steps": 8},
            )
            if wrapped is None:
                wrapped = DistributedDataParallel(model)
            else:
                optimizer.load_state_dict(state[0])
                schedule.load_state_dict(state[1])
            for step in range(2 * part, 2 * part + 2):
                wrapped(*example(step, rank)).backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            consolidate([optimizer])
            state = [optimizer.state_dict() if rank == 0 else None, schedule.state_dict()]
            dist.broadcast_object_list(state, 0)
        inner = optimizer.optim if isinstance(optimizer, ShardedOptimizer) else optimizer
        held = sum(v.numel() for s in inner.state.values() for v in s.values())
        groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        weights = {n: p.detach().clone() for n, p in model.named_parameters()}
        found[name] = {"weights": weights, "state": state[0]["state"], "held": held}
        found[name]["groups"] = [dict(sorted(group.items())) for group in groups]
    torch.save(found, f"{output}/rank{rank}.pt")
    dist.destroy_process_group()


def test_a_sharded_optimiser_equals_the_whole_one(tiny_whisper: Path, tmp_path: Path) -> None:
    run_ranks(2, shard, str(tiny_whisper), str(tmp_path))
    ranks = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    whole = ranks[0]["whole"]
    for found in ranks:
        for run in found.values():
            for name, weight in run["weights"].items():
                assert torch.equal(weight, whole["weights"][name]), name
            assert run["groups"] == whole["groups"], "names, rates, decays"
            assert run["state"].keys() == whole["state"].keys(), "a checkpoint fits either"
            for number, values in run["state"].items():
                for key, value in values.items():
                    assert torch.equal(value, whole["state"][number][key])
        assert 0.45 < found["sharded"]["held"] / whole["held"] < 0.55
        assert found["on"]["held"] == found["sharded"]["held"] < whole["held"]


CONF = """
optim: adamw
optim_conf: {lr: 1.0e-3, weight_decay: 0.1, eps: 1.0e-4}
scheduler: freeze
scheduler_conf: {inner: warmuplinear, inner_conf: {warmup_steps: 2, total_steps: 20}}
max_epoch: 2
num_iters_per_epoch: 4
batch_type: numel
batch_bins: BINS
accum_grad: 2
autocast: none
num_workers: 0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_whisper: Path) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_pairs(root / "train", 23)  # an odd number: the last batches are uneven
    write_pairs(root / "valid", 5, seed=1)
    write_text_store(root / "text_train", tiny_whisper, 61)
    write_text_store(root / "text_valid", tiny_whisper, 7, seed=1)
    return root


@pytest.fixture
def command(data: Path, tiny_whisper: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(stage: str, name: str, **options: Any) -> list[str]:
        text = STAGES[stage].data == "text"
        config = tmp_path / f"{stage}.yaml"
        config.write_text(CONF.replace("BINS", "150" if text else "60000"))
        made = ["--config", str(config), "--adaptation_stage", stage, "--ngpu", "0"]
        made += ["--init_dir", str(tiny_whisper), "--output_dir", str(tmp_path / name)]
        for part in ("train", "valid"):
            where = f"text_{part}" if text else part
            made += [f"--{part}_{'text' if text else 'data'}", str(data / where)]
        return made + [word for k, v in options.items() for word in (f"--{k}", str(v))]

    return make


def train(rank: int, world: int, commands: Sequence[Sequence[str]]) -> None:
    from espnet_plugin.bin.asr_train import main

    for number, command in enumerate(commands):
        port = str(int(os.environ["MASTER_PORT"]) + number)
        several = ["--dist_world_size", str(world), "--dist_rank", str(rank)]
        main([*command, *several, "--dist_master_addr", "127.0.0.1", "--dist_master_port", port])


def compare(one: Path, other: Path, weights: float = 1e-5, curve: float = 1e-5) -> None:
    """Check that two runs had the same losses and end with the same weights."""
    for first, second in zip(*(read_curve(d / "curve.csv") for d in (one, other)), strict=True):
        for column in first:
            timed = not column.startswith(("epoch", "updates", "train_loss", "valid_"))
            if not timed and (first["epoch"] or column != "train_loss"):
                assert first[column] == pytest.approx(second[column], rel=curve), column
    a, b = load_state(one), load_state(other)
    worst = max(float((a[name] - b[name]).abs().max()) for name in a)
    assert worst <= weights


@pytest.mark.parametrize(
    "stage",
    [
        "adapt_text",
        *(pytest.param(s, marks=pytest.mark.slow) for s in ("adapt_align", "adapt_full")),
    ],
)
def test_two_processes_train_as_one_does(
    command: Callable[..., list[str]], tmp_path: Path, stage: str
) -> None:
    from espnet_plugin.bin.asr_train import main

    main(command(stage, "one"))
    commands = [command(stage, "two")]
    if stage != "adapt_text":
        commands.append(command(stage, "sharded", shard_optimizer="true"))
    run_ranks(2, train, commands)
    assert "dist_world_size: 2" in (tmp_path / "two/config.yaml").read_text()
    compare(tmp_path / "one", tmp_path / "two")
    if stage != "adapt_text":
        compare(tmp_path / "two", tmp_path / "sharded", 1e-6, 1e-6)


def test_gradients_are_exchanged_once_an_update() -> None:
    run_ranks(1, exchange)


def exchange(rank: int, world: int) -> None:
    from espnet_plugin.trainer import AsyncSwitchTrainer

    dist.init_process_group("gloo", rank=rank, world_size=world)
    model, exchanged = DistributedDataParallel(torch.nn.Linear(2, 1)), []

    def hook(_: None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
        exchanged.append(done)
        found: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        found.set_result(bucket.buffer())
        return found

    model.register_comm_hook(None, hook)
    run: Any = SimpleNamespace(options=SimpleNamespace(accum_grad=3), stop_if_asked=lambda: None)
    AsyncSwitchTrainer._run = run
    for done in range(7):
        AsyncSwitchTrainer._between(model, done)
        model(torch.ones(1, 2)).sum().backward()
    assert exchanged == [2, 5]
    dist.destroy_process_group()


def uneven(rank: int, world: int, output: str) -> None:
    from espnet_plugin.distributed import check_even, parting

    dist.init_process_group("gloo", rank=rank, world_size=world)
    check_even([0] * 3, "epoch 1")
    with pytest.raises(ValueError, match=r"epoch 2: .* unequal numbers of batches, \[3, 4\]"):
        check_even([0] * (3 + rank), "epoch 2")
    try:
        with parting():
            if rank == 0:
                raise KeyError("what goes wrong while the others wait")
    except KeyError:
        assert rank == 0
    assert not dist.is_initialized()
    Path(output, f"rank{rank}").touch()


def test_unequal_numbers_of_batches_are_an_error_and_nobody_hangs(tmp_path: Path) -> None:
    run_ranks(2, uneven, str(tmp_path), seconds=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rank0", "rank1"]


@pytest.mark.slow
def test_more_processes_than_utterances(
    command: Callable[..., list[str]], data: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few"
    write_pairs(few, 2)
    made = command("adapt_align", "out")
    made[made.index("--valid_data") + 1] = str(few)
    run_ranks(3, refused, made, "a batch of 2 utterance.s., .* for 3 processes", seconds=60)


def refused(rank: int, world: int, made: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(rank, world, [made])
