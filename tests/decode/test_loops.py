from dataclasses import replace

import pytest
import torch

from espnet_plugin.decode.loops import compression_ratio, is_loop
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.recognizer import Recognizer
from espnet_plugin.decode.rules import TokenRules


@pytest.mark.parametrize(
    ("text", "limited", "expected"),
    [
        ("Please pass me the salt.", False, False),
        ("bye bye bye bye", False, False),  # what people say
        ("Go" + " go" * 17, False, True),
        ("Which counter" + " kat" * 40, False, True),
        ("a text that was cut off", True, True),
        ("", False, False),
    ],
)
def test_a_text_that_repeats_itself(text, limited, expected):
    assert is_loop(text, limited) is expected


def test_compression_ratio_is_that_of_openai_whisper():
    whisper = pytest.importorskip("whisper.utils")
    for text in ("salam semua", "la " * 50, "ä ö ü " * 9):
        assert compression_ratio(text) == whisper.compression_ratio(text)


@pytest.mark.parametrize(
    ("n", "tokens", "banned"),
    [
        (3, [1, 2], []),
        (3, [1, 2, 3, 1, 2], [3]),
        (3, [1, 1, 1], [1]),
        (2, [1, 2, 1, 3, 1], [2, 3]),
        (1, [4, 2], [2, 4]),
        (0, [1, 1, 1, 1], []),
    ],
)
def test_no_tokens_in_a_row_come_twice(n, tokens, banned):
    rules = TokenRules(0, 9, torch.zeros(6), torch.zeros(6), no_repeat=n)
    found = rules.log_probs(torch.zeros(1, 6), torch.tensor([tokens]))
    assert (found[0] == -torch.inf).nonzero()[:, 0].tolist() == banned
    assert float(found.exp().sum()) == pytest.approx(1)


@pytest.fixture(scope="module")
def prone(lively, rules):
    """Ends by itself now and then, and else at the limit: both kinds in one batch."""
    recognizer = Recognizer(lively, Options(max_tokens_per_second=2.0, on_loop="keep"))
    recognizer.rules = rules
    return recognizer


LANGS = ["cs", "en", "ms", "en", "cs", "ms"]


def test_only_loops_are_decoded_again(prone, waves):
    def decode(on_loop, order=range(6)):
        prone.options = replace(prone.options, on_loop=on_loop)
        hyps = prone([waves[i] for i in order], [LANGS[i] for i in order])
        return dict(zip(order, hyps, strict=True))

    kept, retried = decode("keep"), decode("retry")
    assert {hyp.loop for hyp in kept.values()} == {"", "kept"}
    assert {hyp.loop for hyp in retried.values()} >= {"", "retried"}
    for row, hyp in retried.items():
        if hyp.loop == "retried":
            assert kept[row].loop == "kept" and not hyp.limited
            threes = [tuple(hyp.ids[i : i + 3]) for i in range(len(hyp.ids) - 2)]
            assert len(set(threes)) == len(threes) and hyp.ids != kept[row].ids
        else:
            assert hyp == kept[row]
    for row, hyp in retried.items():  # alone as in a batch
        alone = decode("retry", [row])[row]
        assert (alone.ids, alone.loop) == (hyp.ids, hyp.loop)
