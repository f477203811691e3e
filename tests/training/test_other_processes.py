"""A run goes on with another number of processes, and as rank 0 sees its files."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from espnet_plugin.training import resuming
from tests.test_distributed import command, compare, data, run_ranks, train

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
__all__ = ["command", "data"]  # fixtures


def stopped(rank: int, world: int, made: list[str], at: tuple[int, int]) -> None:
    """Train until a signal comes to the last rank in an epoch, after some batches."""
    from espnet_plugin.trainer import AsyncSwitchTrainer

    plain = AsyncSwitchTrainer._between.__func__  # type: ignore[attr-defined]

    def between(cls: Any, model: Any, done: int) -> None:
        if (cls._run.epoch, done) == at and rank == world - 1:
            os.kill(os.getpid(), signal.SIGUSR1)
        plain(cls, model, done)

    AsyncSwitchTrainer._between = classmethod(between)  # type: ignore[method-assign, assignment]
    with pytest.raises(SystemExit) as error:
        train(rank, world, [made])
    assert error.value.code == 75
    if dist.is_initialized():
        dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["adapt_text", "adapt_full"])
@pytest.mark.parametrize("at", [(2, 2), (2, 0)])
def test_a_run_goes_on_with_another_number_of_processes(
    command: Callable[..., list[str]],
    tmp_path: Path,
    stage: str,
    at: tuple[int, int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    from espnet_plugin.bin.asr_train import main

    main(command(stage, "one"))
    run_ranks(2, stopped, command(stage, "fewer"), at)
    capfd.readouterr()
    run_ranks(1, train, [command(stage, "fewer")])
    assert "1 process(es) now, 2 before: a batch is that of all together" in capfd.readouterr().out
    compare(tmp_path / "one", tmp_path / "fewer")

    run_ranks(1, stopped, command(stage, "more"), at)
    run_ranks(2, train, [command(stage, "more", shard_optimizer="true")])
    assert "2 process(es) now, 1 before" in capfd.readouterr().out
    compare(tmp_path / "one", tmp_path / "more")


def sees(rank: int, world: int, directory: str) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=world)
    path = Path(directory)
    assert resuming.agreed(path, resume=True)
    assert not resuming.agreed(path, resume=False)
    plain, asked = resuming._bytes, []

    def late(at: Path) -> int | None:
        asked.append(at)
        return plain(at) if len(asked) > 2 or rank == 0 else None

    resuming._bytes = late
    assert resuming.agreed(path, resume=True)
    assert len(asked) == (2 if rank == 0 else 3)

    resuming._bytes = lambda at: 7 if rank == 0 else (3 if rank == 1 else None)
    with pytest.raises(
        ValueError, match=r"of 7 bytes, .* process 1 one of 3 bytes, process 2 none"
    ):
        resuming.agreed(path, resume=True, wait=0.1)
    resuming._bytes = lambda at: None if rank == 0 else 7
    assert not resuming.agreed(path, resume=True), "as rank 0 says"
    dist.destroy_process_group()


def test_ranks_follow_the_first_in_whether_a_checkpoint_is_there(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pth").write_bytes(b"12345")
    run_ranks(3, sees, str(tmp_path), seconds=60)


def test_other_batches_are_said() -> None:
    now = {"processes": 2, "passes": {"batch": 9}}
    assert not list(resuming.changes({}, now)) and not list(resuming.changes(now, now))
    (said,) = resuming.changes({"processes": 2, "passes": {"batch": 8}}, now)
    assert "{'batch': 9}, were {'batch': 8}" in said
