import pytest
import torch

from espnet_plugin.decode.options import Options
from espnet_plugin.decode.recognizer import Recognizer

from .conftest import noise


def test_unknown_language_code(lively):
    with pytest.raises(ValueError, match="no language 'xx'"):
        Recognizer(lively, Options(lang_tokens="cs:xx"))


def test_a_model_of_another_size_is_not_loaded(lively, make_whisper):
    recognizer = Recognizer(lively, Options())
    with pytest.raises(ValueError, match="shape|tensor"):
        recognizer.load(make_whisper(d_model=32))


def test_half_precision(lively):
    recognizer = Recognizer(lively, Options(dtype="bfloat16", max_tokens_per_second=2.0))
    hyp = recognizer([noise(0.5, 1)], ["ms"])[0]
    assert hyp.ids and hyp.score < 0
    assert recognizer.whisper.decoder.embed_tokens.weight.dtype == torch.bfloat16


def test_tail_is_silence_that_is_heard(lively, waves):
    plain, tail = (Recognizer(lively, Options(tail=t)) for t in (0.0, 0.5))
    silent = [torch.cat((wave, torch.zeros(8000))) for wave in waves]
    expected, frames = plain.features(silent)
    found, found_frames = tail.features(waves)
    assert torch.equal(frames, found_frames) and torch.equal(expected, found)
    long = [torch.zeros(479000), torch.zeros(480000)]
    assert tail.features(long)[1].tolist() == [3000, 3000]
