from types import SimpleNamespace

import numpy as np
import pytest

from espnet_plugin.preprocess import PairPreprocessor
from espnet_plugin.samples import as_samples

WAVE = np.array([0.0, 0.5, -0.25, -1.0])


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "int16", "int64"], ids=lambda d: d
)
def test_all_that_readers_give_is_the_same_sound(dtype):
    given = WAVE * 32768 if dtype.startswith("int") else WAVE
    found = as_samples(given.astype(dtype), "u1")
    assert found.dtype == np.float32 and found.tolist() == WAVE.tolist()


def test_an_overshoot_is_left_alone():
    assert as_samples(np.array([1.3, -1.2]), "u1").tolist() == pytest.approx([1.3, -1.2])
    assert as_samples(np.zeros(0), "u1").shape == (0,)


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (WAVE * 32768, "u1: samples from -3.277e.04 to 1.638e.04, expected within -1..1; are they"),
        (np.array([0, 40000]), "u1: int64 samples from 0 to 40000; integers are of 16 bits"),
        (np.array([0, 100], np.int8), "u1: int8 samples"),
        (np.array([0, 200], np.uint8), "u1: samples of type uint8"),
        (np.array([0.0, np.nan]), "u1: the audio holds NaN or Inf"),
        (np.array([0.0, -np.inf]), "u1: the audio holds NaN or Inf"),
        (np.array("a.wav"), "u1: samples of type <U5; floats or int16 are needed"),
    ],
)
def test_what_no_model_can_hear_is_refused(wave, message):
    with pytest.raises(ValueError, match=message):
        as_samples(wave, "u1")


def test_training_hears_integers_as_floats():
    """ESPnet's `kaldi_ark` reader gives them."""
    builder = SimpleNamespace(lang_tokens={"ms": "ms"}, encode=lambda *_, **__: np.array([1]))
    given = {"speech": (WAVE * 32768).astype(np.int16), "text": "x", "lang": "ms"}
    found = PairPreprocessor(builder)("u1", given)["speech"]
    assert found.tolist() == WAVE.tolist()
    with pytest.raises(ValueError, match="utterance u1: samples from"):
        PairPreprocessor(builder)("u1", {**given, "speech": WAVE * 32768})
