"""Bootstrap intervals."""

import numpy as np
import pytest

from espnet_plugin.score.bootstrap import difference_interval, interval


def test_no_spread_where_all_utterances_are_alike() -> None:
    low, high = interval(np.full(20, 2), np.full(20, 8))
    assert low == high == pytest.approx(25.0)


def test_interval_matches_the_normal_approximation() -> None:
    rng = np.random.default_rng(5)
    errors = rng.binomial(10, 0.2, size=2000)
    low, high = interval(errors, np.full(2000, 10), resamples=2000)
    rate, standard_error = 10 * errors.mean(), 10 * errors.std() / np.sqrt(2000)
    assert low == pytest.approx(rate - 1.96 * standard_error, abs=0.06)
    assert high == pytest.approx(rate + 1.96 * standard_error, abs=0.06)


def test_seeded() -> None:
    rng = np.random.default_rng(1)
    errors, n_ref = rng.integers(0, 5, 50), rng.integers(1, 12, 50)
    assert interval(errors, n_ref, seed=3) == interval(errors, n_ref, seed=3)
    assert interval(errors, n_ref, seed=3) != interval(errors, n_ref, seed=4)


def test_pairing_sees_a_small_constant_difference() -> None:
    rng = np.random.default_rng(2)
    n_ref = np.full(100, 10)
    baseline = rng.integers(0, 9, 100)
    better = np.maximum(baseline - 1, 0)
    low, high = difference_interval(better, baseline, n_ref)
    assert low < high < 0.0
    assert interval(better, n_ref)[1] > interval(baseline, n_ref)[0]  # unpaired they overlap
    assert difference_interval(baseline, baseline, n_ref) == (0.0, 0.0)


def test_utterances_without_words_are_survived() -> None:
    low, high = interval(np.array([1, 0]), np.array([4, 0]))
    assert low == high == pytest.approx(25.0)


def test_errors() -> None:
    with pytest.raises(ValueError, match="no reference words"):
        interval(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"shape \(2,\) for \(3,\) utterances"):
        interval(np.zeros(2), np.ones(3))
