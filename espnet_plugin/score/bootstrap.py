"""Confidence intervals of error rates by resampling utterances (Bisani and Ney 2004)."""

import numpy as np

RESAMPLES = 1000


def _rates(errors: np.ndarray, n_ref: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Error rates in percent of resampled sets; `errors` is (systems, utterances)."""
    picks = np.random.default_rng(seed).integers(len(n_ref), size=(resamples, len(n_ref)))
    words = n_ref[picks].sum(axis=1)
    # A resample may hold only utterances without reference words; it has no rate.
    kept = words > 0
    return 100.0 * errors[:, picks[kept]].sum(axis=2) / words[kept]


def _check(n_ref: np.ndarray, *errors: np.ndarray) -> None:
    if any(counts.shape != n_ref.shape for counts in errors):
        shapes = ", ".join(str(counts.shape) for counts in errors)
        raise ValueError(f"error counts of shape {shapes} for {n_ref.shape} utterances")
    if n_ref.sum() == 0:
        raise ValueError("no reference words: there is no error rate")


def interval(
    errors: np.ndarray, n_ref: np.ndarray, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """95 % interval of an error rate (percentiles 2.5 and 97.5 of resampled sets).

    Args:
        errors: errors of each utterance, (utterances,) int.
        n_ref: reference words of each utterance, (utterances,) int.
        resamples: number of resampled sets.
        seed: seed of the resampling.

    Returns:
        Lower and upper bound in percent.

    Raises:
        ValueError: shapes differ, or there is no reference word.
    """
    _check(n_ref, errors)
    low, high = np.percentile(_rates(errors[None], n_ref, resamples, seed)[0], [2.5, 97.5])
    return float(low), float(high)


def difference_interval(
    errors: np.ndarray,
    baseline: np.ndarray,
    n_ref: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % interval of the difference of two systems' error rates on the same utterances (paired).

    Args:
        errors: errors of each utterance of one system, (utterances,) int.
        baseline: those of the other system.
        n_ref: reference words of each utterance, (utterances,) int.
        resamples: number of resampled sets.
        seed: seed of the resampling.

    Returns:
        Bounds of (system - baseline) in percent points; below 0 the system is better.

    Raises:
        ValueError: shapes differ, or there is no reference word.
    """
    _check(n_ref, errors, baseline)
    rates = _rates(np.stack([errors, baseline]), n_ref, resamples, seed)
    low, high = np.percentile(rates[0] - rates[1], [2.5, 97.5])
    return float(low), float(high)
