"""Validation by language: exact averages over tokens, whatever the batches and ranks."""

import math
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from espnet2.train.distributed_utils import DistributedOption
from espnet2.train.reporter import Reporter
from espnet2.train.trainer import Trainer

from espnet_plugin.by_language import batch_sums, describe, summarise
from espnet_plugin.iterators import BatchLines
from espnet_plugin.model import AsyncSwitchModel

LANGUAGES = ("cs", "ms", "en")
TEXTS = [
    ("saya nak pergi meeting", "cs"),
    ("besok petang", "ms"),
    ("lunch with my friends", "en"),
    ("report", "cs"),
    ("dia sudah makan", "ms"),
]


def direct(nll: np.ndarray, codes: np.ndarray, hits: np.ndarray) -> dict[str, float]:
    expected = {"ppl": math.exp(nll.mean())}
    for code, language in enumerate(LANGUAGES):
        if (mine := codes == code).any():
            loss = float(nll[mine].mean())
            expected[f"loss_{language}"] = loss
            expected[f"ppl_{language}"] = math.exp(loss)
            expected[f"acc_{language}"] = float(hits[mine].mean())
    return expected


@pytest.mark.parametrize("of_batches", ["mixed", "one language each", "one is missing"])
def test_epoch_averages_are_those_of_all_tokens(of_batches: str) -> None:
    rng = np.random.default_rng(0)
    parts = []
    reporter = Reporter()
    with reporter.observe("valid", epoch=1) as sub:
        for number, size in enumerate((5, 1, 40, 17, 3)):
            codes = rng.integers(-1, 3, size)
            if of_batches == "one language each":
                codes[:] = number % 3
            elif of_batches == "one is missing":
                codes[codes == 2] = 0
            part = (rng.gamma(2, 2, size), codes, rng.random(size) < 0.4)
            parts.append(part)
            nll, langs, hits = (torch.from_numpy(p) for p in part)
            stats = {"loss": nll.mean(), "ppl": nll.mean().exp()}
            sub.register(stats | batch_sums(nll, hits, langs, LANGUAGES), torch.tensor(size))
            sub.next()
        found = summarise(sub)
    nll, codes, hits = (np.concatenate(p) for p in zip(*parts, strict=True))
    expected = direct(nll, codes, hits)
    assert found == pytest.approx(expected, rel=1e-5)
    kept = reporter.stats[1]["valid"]
    assert {k: kept[k] for k in expected} == pytest.approx(expected, rel=1e-5)
    assert kept["loss"] == pytest.approx(nll.mean(), rel=1e-5)
    assert not [key for key in kept if ":" in key]
    assert f"ppl_cs={expected['ppl_cs']:.3f}" in reporter.log_message()
    assert ("ppl_en" in kept) == (of_batches != "one is missing")


def test_a_language_that_is_not_finite_in_a_batch_is_left_out_there() -> None:
    with Reporter().observe("valid", epoch=1) as sub:
        for nll in (torch.tensor([1.0, 3.0]), torch.tensor([math.inf, 1.0])):
            sums = batch_sums(nll, nll > 0, torch.tensor([0, 1]), LANGUAGES)
            sub.register({"loss": nll.mean()} | sums, 2)
            sub.next()
        found = summarise(sub)
    assert (found["loss_cs"], found["loss_ms"]) == (1.0, 2.0), "the rest of its batch counts"


def test_the_line_for_people() -> None:
    now = {"ppl": 9.0, "ppl_cs": 10.0, "loss_cs": 2.3, "ppl_en": 22.0}
    assert describe(now, {}) == "perplexity by language: cs 10, en 22"
    start = {"ppl": 9.5, "ppl_cs": 40.0, "ppl_en": 20.0}
    expected = "perplexity by language, against the start: cs 10 (-75 %), en 22 (+10 %)"
    assert describe(now, start) == expected
    assert describe(now, start | {"ppl_en": math.nan}).endswith("en 22")
    assert describe({"ppl": 1.0}, {}) == ""


def entries(model: AsyncSwitchModel, which: list[int]) -> dict[str, Any]:
    rows = [torch.from_numpy(model.prompt.encode(*TEXTS[i])) for i in which]
    return {
        "text": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1),
        "text_lengths": torch.tensor([len(r) for r in rows]),
        "lang": torch.tensor([[LANGUAGES.index(TEXTS[i][1])] for i in which]),
    }


def token_by_token(model: AsyncSwitchModel) -> dict[str, float]:
    """The figures of all texts, by transformers' own forward pass, line by line."""
    from transformers import WhisperForConditionalGeneration

    theirs = WhisperForConditionalGeneration.from_pretrained(model.prompt.model_dir).eval()
    nll, codes, hits = [], [], []
    memory = torch.zeros(1, 1, theirs.config.d_model)
    for text, lang in TEXTS:
        ids = torch.from_numpy(model.prompt.encode(text, lang))[None]
        with torch.no_grad():
            scores = theirs(encoder_outputs=(memory,), decoder_input_ids=ids[:, :-1]).logits[0, 3:]
        goals = ids[0, 4:]
        nll += torch.nn.functional.cross_entropy(scores, goals, reduction="none").tolist()
        hits += (scores.argmax(-1) == goals).tolist()
        codes += [LANGUAGES.index(lang)] * len(goals)
    return direct(np.array(nll), np.array(codes), np.array(hits))


def validate(
    model: Any, batches: list[tuple[Any, dict[str, Any]]], distributed: bool
) -> dict[str, float]:
    reporter = Reporter()
    options = Mock(ngpu=0, no_forward_run=False, use_amp=False)
    how = DistributedOption(distributed=distributed)
    with reporter.observe("valid", epoch=1) as sub:
        Trainer.validate_one_epoch(model, batches, sub, options, how)
        return summarise(sub)


@pytest.fixture(scope="module")
def model(tiny_whisper: Path) -> AsyncSwitchModel:
    return AsyncSwitchModel(tiny_whisper, autocast="none")


def test_mixed_batches_of_the_model(model: AsyncSwitchModel) -> None:
    batches = [(["a"] * len(which), entries(model, which)) for which in ([0, 1, 2], [3, 4])]
    assert validate(model, batches, False) == pytest.approx(token_by_token(model), rel=1e-4)


def test_batches_of_text_name_their_language(model: AsyncSwitchModel) -> None:
    batches = []
    for which in ([0, 3], [1, 4], [2]):
        entry = entries(model, which)
        del entry["lang"]
        batches.append((BatchLines(np.asarray(which), TEXTS[which[0]][1]), entry))
    assert validate(model, batches, False) == pytest.approx(token_by_token(model), rel=1e-4)


def test_training_reports_no_languages(model: AsyncSwitchModel) -> None:
    _, stats, _ = model.train()(**entries(model, [0, 1]))
    assert set(stats) == {"loss", "acc", "ppl"}


def rank(number: int, model: AsyncSwitchModel, store: str, output: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    own = ([0, 1], [2]) if number == 0 else ([3], [4])
    batches = [(["a"] * len(which), entries(model, which)) for which in own]
    torch.save(validate(model, batches, True), f"{output}/rank{number}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_ranks_report_the_figures_of_one(model: AsyncSwitchModel, tmp_path: Path) -> None:
    """Languages that one rank does not see in a step do not disturb the average."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork does not survive other threads
    try:
        mp.start_processes(
            rank, (model, str(tmp_path / "store"), str(tmp_path)), 2, start_method="fork"
        )
    finally:
        torch.set_num_threads(threads)
    for number in (0, 1):
        found = torch.load(tmp_path / f"rank{number}.pt", weights_only=True)
        assert found == pytest.approx(token_by_token(model), rel=1e-4)
