"""Two processes decide alike, and the first one says what the other found."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from espnet_plugin.monitor.events import read_events
from espnet_plugin.monitor.options import TrainingError
from tests.monitor.runs import Run, batch, faulty, of_validation
from tests.test_distributed import free_port, run_ranks


def train(rank: int, port: int, directory: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    shared = [batch(n) for n in range(24)]
    own = {
        0: [batch(50), batch(51), batch(52), batch(53), batch(54)],
        1: [batch(60, y=float("nan")), batch(61, y=500.0), faulty(62, 3, 1), batch(63), batch(64)],
    }
    run = Run(Path(directory), several=True, on_spike="skip", max_bad_share=0.05)
    before = run.train(shared, epoch=1)
    run.train(own[rank][:2], epoch=2)
    torch.save([before, run.state()], f"{directory}/skipped{rank}.pt")
    run.train([own[rank][2], faulty(70, 0, 4) if rank else batch(55), *own[rank][3:]], epoch=3)
    torch.save(run.state(), f"{directory}/end{rank}.pt")
    dist.destroy_process_group()


def validate(rank: int, world: int, directory: str) -> None:
    """Validate as ESPnet does: one collective a batch, one for stopping between two."""
    dist.init_process_group("gloo", rank=rank, world_size=world)
    run = Run(Path(directory), several=True, max_bad_share=0.02)
    readable, none = batch(rank), [faulty(10 * rank + n, 0, 1) for n in range(3)]
    for part in (
        [readable, *none[:2]] if rank else [batch(9), batch(8), batch(7)],
        none if rank else [batch(9), batch(8), batch(7)],  # nothing at all on this rank
        none,
    ):
        sizes = []
        for ids, data in run.watch.validating(part, 1, of_validation()):
            assert run.watch.ranks.gather([1.0]) == [[1.0]] * world, "in step"
            sizes.append(len(ids))
            assert len(data["text"]) == len(ids)
        if part is none and sizes:
            assert sizes == [1] * 3 and ids == ["utt9-0"], "another rank's"
        assert run.watch.ranks.gather([len(sizes)]) == [[len(sizes)]] * world
        with pytest.raises(TrainingError) if not sizes else nullcontext():
            run.watch.after_validation()
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_ranks_validate_equally_many_batches_whatever_cannot_be_read(tmp_path: Path) -> None:
    run_ranks(2, validate, str(tmp_path), seconds=60)


@pytest.mark.slow
@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_ranks_skip_together_and_name_what_any_of_them_found(tmp_path: Path) -> None:
    mp.spawn(train, args=(free_port(), str(tmp_path)), nprocs=2)
    for rank in (0, 1):
        before, after = torch.load(tmp_path / f"skipped{rank}.pt", weights_only=True)
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    ends = [torch.load(tmp_path / f"end{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))
    assert int(ends[0][-1]) - int(before[-1]) == 4, "no rank lost a batch"
    events = read_events(tmp_path / "events.jsonl")
    kinds = [event["event"] for event in events]
    assert kinds == ["nonfinite_loss", "spike", "summary", *["bad_utterance"] * 5, "summary"]
    assert events[0]["utterances"] == [f"utt60-{n}" for n in range(4)]
    assert events[1]["utterances"] == [f"utt61-{n}" for n in range(4)]
    assert "5 of 32 utterances (15.62 %)" in events[-1]["text"]


def test_a_computer_that_reads_nothing_more_gives_up(tmp_path: Path) -> None:
    run = Run(tmp_path)
    unread = [faulty(n, 0, 50) for n in range(9)]
    with pytest.raises(TrainingError, match=r"200 utterances in a row .* bad0-0 \(truncated"):
        run.train([batch(0), *unread])
    run = Run(tmp_path)
    with pytest.raises(TrainingError, match="200 utterances in a row"):
        list(run.watch.validating(unread, 1, of_validation()))
