"""Merging over the ratio: the systems of a sweep, and the ratio that validation recommends."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_plugin.score.bootstrap import difference_interval
from espnet_plugin.score.results import Report
from espnet_plugin.stages import BASE


@dataclass(frozen=True)
class Choice:
    """A recommended ratio and what it rests on.

    Attributes:
        ratio: the recommended share of the adapted model.
        best_ratio: the ratio with the lowest validation WER.
        wer: validation WER in percent by ratio.
        sets: names of the validation sets, pooled.
        n_utt: their utterances.
    """

    ratio: float
    best_ratio: float
    wer: dict[float, float]
    sets: tuple[str, ...]
    n_utt: int


def sweep_systems(systems: Sequence[str], tuned: str, prefix: str) -> dict[float, str]:
    """Systems of a sweep by ratio: `init` is 0, the adapted model 1, `<prefix><ratio>` between."""
    found: dict[float, str] = {}
    for system in systems:
        match = re.fullmatch(re.escape(prefix) + r"(\d+(?:\.\d+)?)", system)
        if system == BASE:
            found[0.0] = system
        elif system == tuned:
            found[1.0] = system
        elif match and 0.0 < float(match[1]) < 1.0:
            found[float(match[1])] = system
    return dict(sorted(found.items()))


def recommend(
    report: Report, valid_sets: Sequence[str], tuned: str = "adapt_full", prefix: str = "merge_"
) -> Choice | None:
    """Choose a merge ratio on validation data, never on a test set.

    Among the ratios that are not significantly worse than the best one (95 % interval of the paired
    difference, utterances resampled), the smallest is recommended: it stays closest to the original
    model and so forgets least.

    Args:
        report: scores that include the sweep's systems on the validation sets.
        valid_sets: names of the validation sets; their utterances are pooled.
        tuned: the adapted model.
        prefix: what the names of its merges start with.

    Returns:
        The choice; None when no merged system was decoded on every validation set.

    Raises:
        ValueError: a validation set is also a test set.
    """
    tests = set(report.meta["configuration"]["sets"])
    if overlap := tests.intersection(valid_sets):
        raise ValueError(f"a ratio is not chosen on a test set: {', '.join(sorted(overlap))}")
    candidates = {
        ratio: [report.scored[system, name] for name in valid_sets]
        for ratio, system in sweep_systems(report.systems, tuned, prefix).items()
        if valid_sets and all((system, name) in report.scored for name in valid_sets)
    }
    if not any(0.0 < ratio < 1.0 for ratio in candidates):
        return None
    errors = {
        ratio: np.concatenate([scored.errors for scored in parts])
        for ratio, parts in candidates.items()
    }
    n_ref = np.concatenate([scored.n_ref for scored in next(iter(candidates.values()))])
    wer = {ratio: 100.0 * float(e.sum()) / float(n_ref.sum()) for ratio, e in errors.items()}
    best = min(wer, key=lambda ratio: (wer[ratio], ratio))
    good = [r for r in wer if difference_interval(errors[r], errors[best], n_ref)[0] <= 0.0]
    return Choice(min(good), best, wer, tuple(valid_sets), len(n_ref))
