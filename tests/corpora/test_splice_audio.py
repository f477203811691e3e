"""How spliced utterances sound: joints, pauses, levels."""

import numpy as np
import pytest

from espnet_plugin.corpora.augment import RATE, rms
from espnet_plugin.corpora.splice_audio import crossfade, cut, join, meet, quietest
from espnet_plugin.corpora.splice_bank import Source
from espnet_plugin.corpora.splice_plan import Piece


def test_the_quietest_place_is_found() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 4000)
    wave[1500:1600] = 0
    assert 1500 <= quietest(wave, 1000, 2000) <= 1600
    assert quietest(wave, 1700, 1700) == 1700
    assert quietest(wave, 5000, 6000) == 4000


def test_crossfades_keep_power_and_length() -> None:
    draw = np.random.default_rng(0)
    one, two = draw.normal(0, 1, 40_000), draw.normal(0, 1, 40_000)
    mixed = crossfade(one, two, 20_000)
    assert len(mixed) == 60_000
    assert np.std(mixed[20_000:40_000]) == pytest.approx(1, abs=0.03)
    assert np.array_equal(crossfade(one, two, 0), np.concatenate([one, two]))


def test_energies_meet_at_a_joint() -> None:
    draw = np.random.default_rng(0)
    one, two = draw.normal(0, 0.02, 8000), draw.normal(0, 0.01, 8000)
    meet(one, two)
    assert np.std(one[-300:]) == pytest.approx(np.std(two[:300]), rel=0.25)
    assert np.std(one[:4000]) == pytest.approx(0.02, rel=0.1)


def piece(start: float, end: float, before: float | None, after: float | None) -> Piece:
    source = Source("u", "s", "u.wav", 0.0, None)
    return Piece(source, "ms", start, end, before, after, ((start, end, 1),))


def test_pauses_are_those_of_the_recordings() -> None:
    wave = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    edges = [
        (piece(1.0, 2.0, 0.1, 0.2), False, False, (0.95, 2.1)),  # half of the pause goes along
        (piece(1.0, 2.0, 0.8, 0.0), False, False, (0.85, 2.0)),  # at most 0.15 s
        (piece(1.0, 2.0, None, None), True, True, (0.9, 2.1)),  # 0.1 s at the ends
        (piece(0.02, 2.99, None, None), True, True, (0.0, 3.0)),
    ]
    for wanted, first, last, (begin, end) in edges:
        found = cut(wave, wanted, first, last)
        assert found[0] / RATE == pytest.approx(begin, abs=0.0151)
        assert found[1] / RATE == pytest.approx(end, abs=0.0151)
    with pytest.raises(ValueError, match=r"u has no 3\.10 to 3\.30 s; it lasts 3\.00 s"):
        cut(wave, piece(3.1, 3.3, 0.0, 0.0), False, False)


def test_levels_are_those_of_the_longest_piece() -> None:
    loud = (0.4 * np.sin(np.arange(2 * RATE) * 0.2)).astype(np.float32)
    soft = (0.15 * np.sin(np.arange(2 * RATE) * 0.3)).astype(np.float32)
    pieces = [piece(0.2, 1.8, None, 0.0), piece(0.5, 1.0, 0.0, 0.0), piece(0.5, 1.0, 0.0, None)]
    joined = join([loud, soft, np.clip(loud * 40, -1, 1)], pieces)
    assert joined.gains[0] == 0
    assert joined.gains[1] == pytest.approx(20 * np.log10(0.4 / 0.15), abs=0.1)
    levels = [
        rms(joined.wave[round(start) + 2000 : round(start) + 7000]) for start in joined.starts
    ]
    assert levels[1] == pytest.approx(levels[0], rel=0.1)
    assert levels[2] == pytest.approx(levels[0], rel=0.1)
    assert np.abs(joined.wave).max() <= 0.95
    with pytest.raises(ValueError, match=r"u is silent from 0\.50 to 1\.00 s"):
        join([loud, 0 * soft], pieces[:2])
