"""The demo's requirements and the choice of the merge ratio, on made-up scores."""

import json
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.score.check import check_demo
from espnet_plugin.score.metrics import Scored
from espnet_plugin.score.results import Report
from espnet_plugin.score.sweep import recommend, sweep_systems
from tests.score.experiment import CURVE, build_training

STAGES = ("adapt_text", "adapt_align", "adapt_full")


def scored(errors: list[int], n_ref: int = 10) -> Scored:
    counts, words = np.array(errors), np.full(len(errors), n_ref)
    wer = 100.0 * counts.sum() / words.sum()
    return Scored({"wer": float(wer)}, counts, words, {})


def make(scores: dict[tuple[str, str], Scored]) -> Report:
    return Report({}, scores, {"configuration": {"sets": ["test_cs", "test_en"]}})


def good() -> dict[tuple[str, str], Scored]:
    return {
        ("init", "test_cs"): scored([6] * 40),
        ("adapt_full", "test_cs"): scored([4] * 40),
        ("merge_0.4", "test_cs"): scored([5] * 40),
        ("init", "test_en"): scored([1, 3] * 20),
        ("merge_0.4", "test_en"): scored([3, 1] * 20),
    }


def failed(report: Report, expdir: Path) -> list[str]:
    return [check.name for check in check_demo(report, expdir) if not check.passed]


@pytest.fixture
def expdir(tmp_path: Path) -> Path:
    build_training(tmp_path, STAGES)
    return tmp_path / "exp"


def test_all_met(expdir: Path) -> None:
    checks = check_demo(make(good()), expdir)
    assert len(checks) == 9
    assert all(check.passed for check in checks), [str(check) for check in checks]


@pytest.mark.parametrize(
    ("key", "value", "name"),
    [
        (("adapt_full", "test_cs"), [4, 5] * 20, "adapt_full at least 30 %"),
        (("merge_0.4", "test_cs"), [6] * 40, "merge_0.4 better than init on test_cs"),
        (("merge_0.4", "test_en"), [2, 4] * 20, "merge_0.4 not worse than init on test_en"),
    ],
)
def test_each_score_can_fail(
    expdir: Path, key: tuple[str, str], value: list[int], name: str
) -> None:
    scores = {**good(), key: scored(value)}
    (only,) = failed(make(scores), expdir)
    assert only.startswith(name)


def test_slightly_worse_within_the_interval_is_not_worse(expdir: Path) -> None:
    scores = {**good(), ("merge_0.4", "test_en"): scored([3, 1] * 19 + [3, 2])}
    assert failed(make(scores), expdir) == []


def test_exactly_thirty_percent_is_enough(expdir: Path) -> None:
    scores = {**good(), ("init", "test_cs"): scored([10] * 40, 20)}
    scores["adapt_full", "test_cs"] = scored([7] * 40, 20)
    scores["merge_0.4", "test_cs"] = scored([9] * 40, 20)
    assert failed(make(scores), expdir) == []


def test_a_loss_that_does_not_fall(expdir: Path) -> None:
    (expdir / "adapt_align/curve.csv").write_text(CURVE + "0,0,,3.5,0.1,1\n1,40,2,3.5,0.5,9\n")
    assert failed(make(good()), expdir) == ["adapt_align: validation loss falls"]


@pytest.mark.parametrize(
    "proof",
    [
        {"identical": False, "frozen": 5, "changed": 5},
        {"identical": True, "frozen": 0, "changed": 5},
        {"identical": True, "frozen": 5, "changed": 0},
        {},
        [],
    ],
)
def test_a_proof_that_proves_nothing(expdir: Path, proof: object) -> None:
    (expdir / "adapt_text/freeze_proof.json").write_text(json.dumps(proof))
    assert failed(make(good()), expdir) == ["adapt_text: frozen tensors are bit-identical"]


def test_what_is_missing_fails_and_is_named(tmp_path: Path) -> None:
    checks = check_demo(make({}), tmp_path)
    assert not any(check.passed for check in checks)
    assert "curve.csv: no such file" in checks[0].figures
    assert "no scores of init on test_cs" in checks[6].figures


def test_systems_of_a_sweep() -> None:
    systems = ["whisper_base", "init", "adapt_full", "merge_0.4", "merge_0.2", "direct_merge_0.4"]
    expected = {0.0: "init", 0.2: "merge_0.2", 0.4: "merge_0.4", 1.0: "adapt_full"}
    assert sweep_systems(systems, "adapt_full", "merge_") == expected
    assert sweep_systems(systems, "direct_full", "direct_merge_") == {
        0.0: "init",
        0.4: "direct_merge_0.4",
    }


def sweep(*errors: list[int]) -> Report:
    names = ("init", "merge_0.4", "merge_0.8", "adapt_full")
    scores = {(name, "valid"): scored(e) for name, e in zip(names, errors, strict=True)}
    return make(scores)


def test_the_best_ratio_is_recommended_where_it_is_clearly_best() -> None:
    choice = recommend(sweep([8] * 30, [5] * 30, [3] * 30, [4] * 30), ["valid"])
    assert (choice.ratio, choice.best_ratio) == (0.8, 0.8)
    assert choice.wer == {0.0: 80.0, 0.4: 50.0, 0.8: 30.0, 1.0: 40.0}


def test_the_smallest_of_equally_good_ratios_is_recommended() -> None:
    choice = recommend(sweep([8] * 30, [5, 3] * 15, [3, 5] * 14 + [3, 4], [6] * 30), ["valid"])
    assert (choice.ratio, choice.best_ratio) == (0.4, 0.8)


def test_no_choice_without_validation_and_never_on_a_test_set() -> None:
    assert recommend(make(good()), []) is None
    assert recommend(make(good()), ["valid"]) is None
    with pytest.raises(ValueError, match="not chosen on a test set: test_cs"):
        recommend(make(good()), ["test_cs"])
