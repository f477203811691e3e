"""Failure signatures in synthetic curves: each is found where it is, and nowhere else."""

import json
from pathlib import Path

import pytest

from espnet_plugin.monitor.signatures import detect, in_text, text_stage_converged

Curve = dict[str, list[float]]

HEALTHY: Curve = {
    "train_loss": [float("nan"), 2.5, 2.1, 1.9, 1.8],
    "valid_loss": [3.0, 2.6, 2.3, 2.2, 2.15],
    "valid_loss_cs": [3.4, 2.9, 2.6, 2.5, 2.4],
    "valid_loss_ms": [3.0, 2.6, 2.3, 2.2, 2.1],
    "valid_loss_en": [2.6, 2.4, 2.3, 2.2, 2.2],
    "lr": [float("nan"), 1e-4, 1e-4, 5e-5, 1e-5],
    "spikes": [float("nan"), 0, 1, 0, 0],
}


def rows(**changes: list[float]) -> list[dict[str, float]]:
    curve = HEALTHY | changes
    return [
        {"epoch": epoch} | {name: values[epoch] for name, values in curve.items()}
        for epoch in range(5)
    ]


def names(curve: list[dict[str, float]], stage: str = "adapt_full") -> set[str]:
    return {finding.name for finding in detect(curve, stage, after_text=stage == "adapt_align")}


@pytest.mark.parametrize("stage", ["adapt_text", "adapt_align", "adapt_full"])
def test_a_healthy_run_has_no_signature(stage: str) -> None:
    assert all(not names(rows()[:n], stage) for n in range(6))


CASES: dict[str, tuple[Curve, str]] = {
    "forgetting_en": ({"valid_loss_en": [2.6, 2.6, 2.7, 2.8, 2.9]}, "lower ratio"),
    "no_switching": (
        {"valid_loss_cs": [3.4, 3.4, 3.5, 3.4, 3.4], "valid_loss": [3.0, 2.9, 2.8, 2.7, 2.6]},
        "higher CMI",
    ),
    "stage2_unstable": (
        {"valid_loss": [3.0, 3.0, 3.1, 3.2, 3.3], "valid_loss_cs": [3.4, 3.4, 3.5, 3.6, 3.7]}
        | {"valid_loss_ms": [3.0, 3.0, 3.1, 3.1, 3.2], "valid_loss_en": [2.6, 2.6, 2.7, 2.7, 2.8]},
        "unlike the text corpus",
    ),
    "divergence": (
        {"train_loss": [float("nan"), 2.5, 2.1, 2.0, 5.0], "valid_loss": [3.0, 2.6, 2.3, 2.2, 2.2]},
        "lower the learning rate",
    ),
    "stuck": (
        {name: [3.0, 3.001, 3.0, 3.0, 2.999] for name in HEALTHY if name.startswith("valid")}
        | {"train_loss": [float("nan"), 3, 3, 3, 3]},
        "learning rate is far too low",
    ),
    "overfitting": ({"valid_loss": [3.0, 2.4, 2.2, 2.4, 2.6]}, "by heart"),
    "zero_rate": ({"lr": [float("nan"), 1e-4, 1e-4, 1e-5, 0]}, "total_steps"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_signature_is_found_and_named_with_what_to_try(name: str) -> None:
    changes, advice = CASES[name]
    stage = "adapt_align" if name == "stage2_unstable" else "adapt_full"
    found = {f.name: f for f in detect(rows(**changes), stage, after_text=True)}
    assert set(found) == {name}
    assert advice in found[name].advice


def test_a_total_that_rises_by_what_is_forgotten_is_no_divergence() -> None:
    """The weights learn what they are given: a lower rate is not what is missing."""
    risen = {"valid_loss": [3.0, 6.0, 6.4, 6.5, 6.5], "valid_loss_cs": [3.4, 2.1, 2.0, 1.9, 1.9]}
    risen |= {f"valid_loss_{other}": [2.9, 7.3, 8.0, 8.1, 8.1] for other in ("ms", "en")}
    assert names(rows(**risen)) == {"forgetting_ms", "forgetting_en"}
    assert names(rows(**risen | {"valid_loss_cs": [3.4, 4.1, 5.0, 5.9, 5.9]})) == {"divergence"}


def test_short_epochs_of_unlike_batches_are_no_divergence() -> None:
    demo = rows(train_loss=[float("nan"), 0.17, 0.27, 0.26, 0.3])
    assert all(not names(demo[:n]) for n in range(6)), "validation is at its best in each"
    for row in demo:
        del row["valid_loss"]
    assert names(demo) == {"divergence"}, "nothing speaks for the run"


def test_a_short_rise_or_one_that_all_languages_share_is_no_forgetting() -> None:
    assert not names(rows(valid_loss_en=[2.6, 2.5, 2.5, 2.5, 2.7]))
    worse = rows(valid_loss_en=[2.6, 2.6, 2.7, 2.7, 2.8], valid_loss_cs=[3.4, 3.4, 3.5, 3.5, 3.6])
    assert "forgetting_en" not in names(worse)


def test_spikes_call_stage_2_unstable_only_after_a_stage_1_that_converged() -> None:
    curve = rows(spikes=[float("nan"), 0, 0, 0, 4])
    assert names(curve, "adapt_align") == {"stage2_unstable"}
    assert not detect(curve, "adapt_align", after_text=False)
    assert not names(curve, "adapt_full")


def test_curves_without_languages_or_start_are_judged_by_what_they_have() -> None:
    bare = [{k: v for k, v in row.items() if "_loss_" not in k} for row in rows()]
    assert not names(bare)
    assert not names(bare[1:]) and not names([])


def test_text_that_hardly_switches_is_named_before_training(tmp_path: Path) -> None:
    from espnet_plugin.text.stats import TextStats

    def write(switching: int) -> Path:
        import numpy as np

        stats = TextStats(["ms", "en", "other"])
        codes = np.array([0, 1, 0, 0] * switching + [0, 0, 0, 0] * (20 - switching), np.uint8)
        words = np.full(20, 4)
        stats.add_block(codes, words, None, ["ms"] * 20)
        entries = {"after": stats.to_json(), "made_from": {"config": {"pair": ["ms", "en"]}}}
        (tmp_path / "report").mkdir(exist_ok=True)
        (tmp_path / "report" / "report.json").write_text(json.dumps(entries))
        return tmp_path

    (finding,) = in_text(write(2))
    assert finding.name == "no_switching_text"
    assert "10.0 % of the lines" in finding.found and "CMI is 2.5" in finding.found
    assert in_text(write(4)) == []
    assert in_text(tmp_path / "nothing") == []


@pytest.mark.parametrize(
    ("stage", "kept", "expected"),
    [("adapt_text", 2.0, True), ("adapt_text", 3.5, False), ("acoustic", 2.0, False)],
)
def test_whether_stage_1_converged_is_read_where_training_starts(
    tmp_path: Path, stage: str, kept: float, expected: bool
) -> None:
    assert not text_stage_converged(tmp_path)
    record = {"stage": stage, "valid_loss_start": 3.0, "valid_loss_kept": kept}
    (tmp_path / "training.json").write_text(json.dumps(record))
    assert text_stage_converged(tmp_path) is expected
