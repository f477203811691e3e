"""What the demo has to show: each requirement with its figures, passed or failed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from espnet_plugin.checkpoint import read_json
from espnet_plugin.score.bootstrap import difference_interval
from espnet_plugin.score.curves import validation_fall
from espnet_plugin.score.results import Report

STAGES = ("adapt_text", "adapt_align", "adapt_full")
MERGED = "merge_0.4"
MIN_IMPROVEMENT = 30.0  # percent, relative, of adapt_full over init on test_cs


@dataclass(frozen=True)
class Check:
    """One requirement.

    Attributes:
        name: what is required.
        passed: whether it holds.
        figures: what was measured.
    """

    name: str
    passed: bool
    figures: str

    def __str__(self) -> str:
        return f"{'PASS' if self.passed else 'FAIL'}  {self.name}: {self.figures}"


def check_demo(report: Report, expdir: Path) -> list[Check]:
    """Check the demo's requirements; a figure that is missing fails its requirement.

    Args:
        report: scores of `init`, `adapt_full` and `merge_0.4` on `test_cs` and `test_en`.
        expdir: holds `<system>/curve.csv` and `<system>/freeze_proof.json`.

    Returns:
        The requirements in order.
    """
    checks = [
        _try(f"{stage}: validation loss falls", partial(_loss_falls, expdir / stage))
        for stage in STAGES
    ]
    checks += [
        _try(f"{stage}: frozen tensors are bit-identical", partial(_frozen, expdir / stage))
        for stage in STAGES
    ]
    return [
        *checks,
        _try(
            f"adapt_full at least {MIN_IMPROVEMENT:g} % relatively better than init on test_cs",
            partial(_improvement, report, "adapt_full", MIN_IMPROVEMENT),
        ),
        _try(f"{MERGED} better than init on test_cs", partial(_improvement, report, MERGED, 0.0)),
        _try(
            f"{MERGED} not worse than init on test_en beyond its interval",
            partial(_not_worse, report),
        ),
    ]


def _try(name: str, measure: Callable[[], tuple[bool, str]]) -> Check:
    try:
        return Check(name, *measure())
    except (FileNotFoundError, ValueError) as error:
        return Check(name, False, str(error))


def _loss_falls(directory: Path) -> tuple[bool, str]:
    start, best, epoch = validation_fall(directory / "curve.csv")
    return best < start, f"{start:.4f} at the start, {best:.4f} at its best (epoch {epoch})"


def _frozen(directory: Path) -> tuple[bool, str]:
    path = directory / "freeze_proof.json"
    proof = read_json(path)
    try:
        identical, frozen, changed = proof["identical"], proof["frozen"], proof["changed"]
    except (KeyError, TypeError):
        raise ValueError(f"{path}: 'identical', 'frozen' and 'changed' are not in it") from None
    # A stage that changed nothing proves nothing.
    passed = identical is True and frozen > 0 and changed > 0
    return passed, f"identical {str(identical).lower()}; {frozen} frozen, {changed} changed"


def _improvement(report: Report, system: str, minimum: float) -> tuple[bool, str]:
    init = report.result("init", "test_cs")["wer"]
    wer = report.result(system, "test_cs")["wer"]
    if init <= 0.0:
        raise ValueError("init makes no error on test_cs: nothing can be better")
    relative = 100.0 * (init - wer) / init
    passed = wer < init and relative >= minimum
    return passed, f"WER {init:.1f} -> {wer:.1f} %, {relative:.1f} % relatively better"


def _not_worse(report: Report) -> tuple[bool, str]:
    init, merged = report.get("init", "test_en"), report.get(MERGED, "test_en")
    before, after = init.result["wer"], merged.result["wer"]
    low, high = difference_interval(merged.errors, init.errors, merged.n_ref)
    figures = (
        f"WER {before:.1f} -> {after:.1f} %, difference {after - before:+.1f} points "
        f"(95 % interval {low:+.1f} to {high:+.1f}, paired)"
    )
    return low <= 0.0, figures


def order(report: Report, test_set: str) -> str:
    """Systems of a set from the lowest WER to the highest; reported, never required."""
    scores = report.scored.items()
    found = sorted((s.result["wer"], system) for (system, name), s in scores if name == test_set)
    return " < ".join(f"{system} {wer:.1f}" for wer, system in found)


def print_checks(checks: Sequence[Check], report: Report) -> bool:
    """Print the requirements and the order of the systems; return whether all passed."""
    for check in checks:
        print(check)
    for test_set in report.meta["configuration"]["sets"]:
        print(f"order (not required)  {test_set}: {order(report, test_set)}")
    failed = sum(not check.passed for check in checks)
    print(f"{len(checks) - failed} of {len(checks)} requirements passed")
    return not failed
