"""The running level of the loss."""

import math

import numpy as np
import pytest

from espnet_plugin.monitor.spikes import LEAST, Level


def test_the_limit_is_median_plus_factor_mad() -> None:
    losses = np.random.default_rng(0).normal(3, 0.5, 101)
    level = Level(101, 10.0, losses)
    middle = np.median(losses)
    mad = np.median(np.abs(losses - middle))
    assert level.limit() == pytest.approx(middle + 10 * mad)


def test_a_planted_spike_is_found_and_hardly_moves_the_level() -> None:
    rng = np.random.default_rng(1)
    level = Level(200, 10.0)
    for loss in rng.normal(2, 0.1, 150):
        assert level.judge([loss])[0] is None
    before = level.limit()
    assert level.judge([9.0])[0] == "spike"
    assert level.limit() == pytest.approx(before, rel=0.05)
    assert level.judge([2.05])[0] is None


def test_falling_losses_and_small_ripples_are_no_spikes() -> None:
    level = Level(200, 10.0)
    for step in range(300):  # hardly any deviation: the floor holds
        assert level.judge([2.0 + 0.001 * (step % 2)])[0] is None
    assert level.judge([2.2])[0] is None
    level = Level(200, 10.0)
    assert not any(level.judge([8 * 0.98**step + 1])[0] for step in range(300))


def test_nothing_is_a_spike_before_there_is_a_level() -> None:
    level = Level(200, 10.0)
    assert [level.judge([x])[0] for x in [1.0] * (LEAST - 1) + [100.0]] == [None] * LEAST


def test_the_worst_rank_decides_and_nonfinite_losses_stay_out_of_the_level() -> None:
    level = Level(200, 10.0, [2.0] * 50)
    assert level.judge([2.0, 7.0])[0] == "spike"
    assert level.judge([2.0, math.nan])[0] == "nonfinite_loss"
    assert level.judge([math.inf, 2.0])[0] == "nonfinite_loss"
    assert all(map(math.isfinite, level.losses))
