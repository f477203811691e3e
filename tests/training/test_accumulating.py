"""An update of several batches is that of one large batch."""

from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin.monitor.ranks import Ranks
from espnet_plugin.training.accumulating import TokenShares

TEXTS = ["saya nak pergi makan dengan kawan di office petang besok", "saya", "lunch", "a report"]


class TwoRanks(Ranks):
    """A second rank has as many tokens in the first batch, and none in the others."""

    def gather(self, values: Any) -> list[list[float]]:
        return [list(values), [values[0], *(0.0 for _ in values[1:])]]


def batches_of(texts: list[torch.Tensor], size: int) -> list[tuple[list[str], dict[str, Any]]]:
    found = []
    for low in range(0, len(texts), size):
        part = texts[low : low + size]
        text = torch.nn.utils.rnn.pad_sequence(part, batch_first=True, padding_value=-1)
        lengths = torch.tensor([len(one) for one in part])
        found.append(([f"utt{low}"], {"text": text, "text_lengths": lengths}))
    return found


def test_gradients_of_batches_add_up_to_those_of_all_in_one(tiny_whisper: Path) -> None:
    from espnet_plugin.model import AsyncSwitchModel

    model = AsyncSwitchModel(tiny_whisper, autocast="none").train()
    texts = [torch.from_numpy(model.prompt.encode(text, "cs")) for text in TEXTS]

    def gradients(size: int) -> tuple[torch.Tensor, list[float]]:
        model.zero_grad()
        each = len(texts) // size
        shares = TokenShares(model.scored, each, Ranks(False))
        reported = []
        for _, batch in shares.draw(batches_of(texts, size)):
            loss, stats, weight = shares.weigh(model, (), model(**batch))
            assert int(weight) == int(model.scored(batch["text"], batch["text_lengths"]).sum())
            (loss / each).backward()  # as ESPnet does
            reported.append(float(stats["loss"]))
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]), (
            reported
        )

    (one, (mean,)), (four, each) = gradients(4), gradients(1)
    assert (one - four).abs().max() < 1e-5 * one.abs().max()
    assert len(each) == 4 and abs(sum(each) / 4 - mean) > 1e-3, (
        "means of batches are something else"
    )


def factors(ranks: Ranks, tokens: list[int]) -> list[float]:
    """Draw batches of so many tokens, two an update."""

    def source() -> Any:
        for batch in batches_of([torch.ones(size) for size in tokens], 1):
            drawn.append(batch)
            yield batch

    drawn: list[Any] = []
    found = []
    shares = TokenShares(lambda text, _: text > 0, 2, ranks)
    for number, _ in enumerate(shares.draw(source())):
        found.append(shares.factor)
        assert len(drawn) <= 2 * (number // 2 + 1), "nothing is read ahead of its update"
    return found


def test_tokens_of_all_ranks_count_and_a_rest_is_an_update_of_its_own() -> None:
    assert factors(Ranks(False), [3, 1, 2]) == pytest.approx([1.5, 0.5, 1.0])
    assert factors(TwoRanks(False), [3, 1]) == pytest.approx([12 / 7, 2 / 7])


@pytest.mark.slow
def test_a_run_with_accumulation_ends_as_one_with_larger_batches(
    tiny_whisper: Path, tmp_path: Path
) -> None:
    from espnet_plugin.checkpoint import load_state
    from espnet_plugin.task import AsyncSwitchTask
    from tests.fixtures.pairs import write_pairs

    write_pairs(tmp_path / "train", 8)
    with open(tmp_path / "train/text") as file:
        lines = file.read().splitlines()
    lines[0] += " dengan kawan saya di office" * 12  # many tokens in one batch, few in the other
    (tmp_path / "train/text").write_text("\n".join(lines) + "\n")
    ends = []
    for accum in (1, 2, 4):
        config, output = tmp_path / f"{accum}.yaml", tmp_path / f"out{accum}"
        config.write_text(
            "optim: sgd\noptim_conf: {lr: 0.1}\nmax_epoch: 2\nbatch_type: unsorted\n"
            f"batch_size: {8 // accum}\naccum_grad: {accum}\nnum_iters_per_epoch: {accum}\n"
            "grad_clip: 1.0\nnum_workers: 0\nautocast: none\n"
        )
        command = ["--config", str(config), "--adaptation_stage", "adapt_full", "--keep", "last"]
        command += ["--init_dir", str(tiny_whisper), "--output_dir", str(output), "--ngpu", "0"]
        command += [
            "--train_data",
            str(tmp_path / "train"),
            "--valid_data",
            str(tmp_path / "train"),
        ]
        AsyncSwitchTask.main(cmd=command)
        ends.append(load_state(output))
    start = load_state(tiny_whisper)
    moved = max(float((ends[0][n] - start[n]).abs().max()) for n in start)
    for end in ends[1:]:
        assert max(float((end[n] - ends[0][n]).abs().max()) for n in end) < 1e-4 * moved
