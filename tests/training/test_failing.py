"""A process that fails ends the others in bounded time, with its reason."""

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.multiprocessing.spawn import ProcessExitedException

from espnet_plugin.training import failing
from tests.test_distributed import command, data, free_port, run_ranks, train

pytestmark = pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
__all__ = ["command", "data"]  # fixtures


def work(rank: int, port: int, case: str, output: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    failing.EVERY = failing.GRACE = 0.3
    end = "went on"
    try:
        with failing.end_together():
            dist.init_process_group("gloo", rank=rank, world_size=2)
            dist.barrier()
            if case == "alike":
                raise ValueError("what both of them find")
            if str(rank) == case[-1]:
                if case.startswith("killed"):
                    os._exit(9)
                raise ValueError(f"the disk of process {rank} is full")
            if case.startswith("asleep"):
                time.sleep(60)  # as in an exchange that does not notice
            elif case.startswith(("exchange", "killed")):
                dist.all_reduce(torch.ones(1))
            time.sleep(rank)  # where all is well, rank 0 and its store are to wait
    except (ValueError, SystemExit) as error:
        end = f"{type(error).__name__} {error}"
    Path(output, f"rank{rank}").write_text(end)


@pytest.mark.parametrize("case", ["asleep0", "asleep1", "exchange0", "exchange1", "alike", "well"])
def test_a_process_that_fails_ends_the_other(
    tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]
) -> None:
    begun = time.monotonic()
    arguments = (free_port(), case, str(tmp_path))
    started = mp.start_processes(work, arguments, 2, join=False, start_method="fork")
    code = 0
    try:
        while not started.join(timeout=40):
            assert time.monotonic() - begun < 40, "it hangs"
    except ProcessExitedException as error:
        code = error.exit_code
    finally:
        for process in started.processes:
            process.kill()
    assert time.monotonic() - begun < 20
    ends = {path.name: path.read_text() for path in tmp_path.iterdir()}
    said = capfd.readouterr().err
    if case == "well":
        assert ends == {"rank0": "went on", "rank1": "went on"} and "ends:" not in said
        return
    if case == "alike":
        same = "ValueError what both of them find"
        assert ends == {"rank0": same, "rank1": same} and "ends:" not in said
        return
    bad = int(case[-1])
    reason = f"ValueError: the disk of process {bad} is full"
    assert ends.pop(f"rank{bad}") == reason.replace(":", "", 1)
    assert f"process {1 - bad} ends: process {bad} on " in said and f"failed: {reason}" in said
    if case.startswith("asleep"):
        assert code == 1 and not ends, "its main thread waited"
    else:
        assert ends == {f"rank{1 - bad}": "SystemExit 1"}


@pytest.mark.parametrize("killed", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_what_became_of_a_killed_process_is_guessed(tmp_path: Path, killed: int) -> None:
    port, made = free_port(), mp.get_context("fork")
    arguments = [(rank, port, f"killed{killed}", str(tmp_path)) for rank in range(2)]
    both = [made.Process(target=work, args=given) for given in arguments]
    for process in both:
        process.start()
    for process in both:
        process.join(40)
        process.kill()
    (left,) = tmp_path.iterdir()
    assert left.name == f"rank{1 - killed}"
    assert left.read_text().startswith("TrainingError another process of this run is gone")


def test_processes_wait_longer_than_nccl_does_by_itself(tmp_path: Path) -> None:
    """Rank 0 may need longer than ten minutes for a checkpoint on a slow disk."""
    meeting = {"init_method": f"file://{tmp_path}/meet", "rank": 0, "world_size": 1}
    with failing.end_together():
        dist.init_process_group("gloo", timeout=timedelta(minutes=10), **meeting)
        try:
            end = time.monotonic() + 10
            store = dist.distributed_c10d._get_default_store()
            backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
            known = timedelta()
            while known != failing.PATIENCE and time.monotonic() < end:
                time.sleep(0.05)
                known = min(backend.options._timeout, store.timeout)
        finally:
            dist.destroy_process_group()
    assert known == failing.PATIENCE > timedelta(minutes=10)


def full_disk(rank: int, world: int, made: list[str]) -> None:
    from espnet_plugin.room import DiskError
    from espnet_plugin.training.saving import Checkpoints

    def write(self: Checkpoints, *_: object) -> None:
        raise DiskError("no room for checkpoint.pth")

    Checkpoints.write = write  # type: ignore[method-assign, assignment]
    with pytest.raises(DiskError if rank == 0 else SystemExit):
        train(rank, world, [made])


@pytest.mark.slow
def test_a_full_disk_of_the_first_process_ends_a_training(
    command: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    run_ranks(2, full_disk, command("adapt_align", "out"), seconds=90)
    said = capfd.readouterr().err
    assert "process 1 ends: process 0 on" in said
    assert "failed: DiskError: no room for checkpoint.pth" in said
