import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.corpora import augment
from espnet_plugin.corpora.keyed import keyed_order, keyed_random

RATE = augment.RATE


def tone(seconds: float, amplitude: float = 0.3, frequency: float = 300.0) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def quiet(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), dtype=np.float32)


@settings(max_examples=25, deadline=None)
@given(snr=st.floats(-5, 30), length=st.integers(400, 40_000), seed=st.integers(0, 5))
def test_noise_has_the_wanted_ratio(snr: float, length: int, seed: int):
    speech = tone(1.0)
    noise = np.random.default_rng(1).normal(size=length).astype(np.float32)
    mixed = augment.add_noise(speech, noise, snr, random.Random(seed))
    added = mixed.astype(np.float64) - speech
    measured = 10 * np.log10(np.square(speech, dtype=np.float64).mean() / np.square(added).mean())
    assert measured == pytest.approx(snr, abs=0.01)


def test_pauses_do_not_count_in_the_ratio():
    noise = np.random.default_rng(1).normal(size=8000).astype(np.float32)
    padded = np.concatenate([tone(1.0), quiet(3.0)])
    added = augment.add_noise(padded, noise, 10.0, random.Random(0)) - padded
    assert np.sqrt(np.square(added).mean()) == pytest.approx(0.3 / 2**0.5 / 10**0.5, rel=0.01)


def test_a_noise_that_comes_and_goes_counts_where_it_sounds():
    bursts = np.concatenate([tone(0.2), quiet(0.3)])
    added = augment.add_noise(tone(1.0), bursts, 10.0, random.Random(0)) - tone(1.0)
    assert augment.rms(added) == pytest.approx(0.3 / 2**0.5 / 10**0.5, rel=0.01)


def test_silence_has_no_ratio_and_no_level():
    with pytest.raises(ValueError, match="one of them is silent"):
        augment.add_noise(quiet(1.0), tone(1.0), 10.0, random.Random(0))
    with pytest.raises(ValueError, match="one of them is silent"):
        augment.add_noise(tone(1.0), quiet(1.0), 10.0, random.Random(0))
    with pytest.raises(ValueError, match="only silence"):
        augment.set_level(quiet(1.0), -20.0)
    with pytest.raises(ValueError, match="only silence"):
        augment.tighten(quiet(1.0))


@pytest.mark.parametrize("before", [0.0, 0.02, 1.0])
def test_edges_and_pauses(before: float):
    wave = np.concatenate([quiet(before), tone(0.5), quiet(0.8), tone(0.5), quiet(0.4)])
    tight = augment.tighten(wave, edge=0.1, pause=0.15)
    assert len(tight) / RATE == pytest.approx(0.1 + 0.5 + 0.15 + 0.5 + 0.1, abs=0.03)
    assert not tight[: RATE // 20].any()
    assert np.square(tight).sum() == pytest.approx(np.square(wave).sum(), rel=1e-3)


@settings(max_examples=25, deadline=None)
@given(decibels=st.floats(-40, -1), amplitude=st.floats(0.001, 1.0))
def test_level(decibels: float, amplitude: float):
    wave = augment.set_level(tone(0.5, amplitude), decibels)
    assert np.abs(wave).max() <= augment.PEAK + 1e-6
    wanted = min(
        10 ** (decibels / 20), augment.PEAK / 2**0.5
    )  # a sine's peak is 3 dB over its level
    assert augment.rms(wave) == pytest.approx(wanted, rel=0.01)


def test_a_room_neither_delays_nor_amplifies():
    response = np.zeros(4000, dtype=np.float32)
    response[87] = 1.0  # nothing but the direct sound
    speech = tone(1.0)
    wet = augment.add_reverb(speech, response)
    assert len(wet) == len(speech) + RATE // 10
    assert np.corrcoef(wet[RATE // 4 : len(speech)], speech[RATE // 4 :])[0, 1] > 0.99
    response[2000] = -0.5
    response += 0.01  # an offset, as the measured ones have
    wet = augment.add_reverb(speech, response)
    assert augment.rms(wet) == pytest.approx(augment.rms(speech), rel=0.01)
    assert abs(wet.mean()) < 0.01


def test_resampling_keeps_the_pitch():
    time = np.arange(22050) / 22050
    wave = augment.resample(np.sin(2 * np.pi * 440 * time), 22050)
    assert len(wave) == RATE
    assert wave.dtype == np.float32
    assert int(np.abs(np.fft.rfft(wave)).argmax()) == 440
    assert np.array_equal(augment.resample(wave, RATE), wave)


def test_keyed_randomness_depends_on_the_name_alone():
    assert keyed_random(1, "a").random() == keyed_random(1, "a").random()
    assert keyed_random(1, "a").random() != keyed_random(2, "a").random()
    assert keyed_random(1, "a", "b").random() != keyed_random(1, "ab").random()
    assert round(keyed_random(0, "sound", "te00-cs0001").random(), 6) == 0.471928
    names = [f"u{i}" for i in range(20)]
    order = keyed_order(3, names, "speaker")
    assert sorted(order) == sorted(names)
    assert order != names
    assert [n for n in order if n != "u7"] == keyed_order(
        3, [n for n in names if n != "u7"], "speaker"
    )
