from fractions import Fraction

import pytest

from espnet_plugin.pads import parse_pad


@pytest.mark.parametrize("text", ["batch", "30s"])
def test_one_padding(text: str) -> None:
    mixture = parse_pad(text)
    assert mixture.pads == (text,) and mixture.main == text
    assert [mixture.locate(step) for step in (0, 7, 10**9)] == [(text, 0), (text, 7), (text, 10**9)]


@pytest.mark.parametrize("share", ["0.2", "0.29", "0.5", "0.75"])
def test_steps_of_a_mixture_are_counted_and_spaced(share: str) -> None:
    rest = 1 - Fraction(share)
    mixture = parse_pad(f"30s:{share},batch:{float(rest)}")
    found = [mixture.locate(step) for step in range(200)]
    assert found[0] == ("30s", 0), "what needs the most memory comes first"
    for pad in ("batch", "30s"):
        numbers = [number for name, number in found if name == pad]
        assert numbers == list(range(len(numbers)))
    of_30s = [pad == "30s" for pad, _ in found]
    assert sum(of_30s) == 200 * Fraction(share)
    for low in range(0, 180, 20):
        assert abs(sum(of_30s[low : low + 20]) - 20 * float(share)) <= 1
    assert mixture.main == ("30s" if share == "0.75" else "batch")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "got ''"),
        ("bach", "got 'bach'.*batch"),
        ("60s:0.5,batch:0.5", "pad is batch, 30s, or a mixture such as .*got '60s:0.5,batch:0.5'"),
        ("batch:0.5,batch:0.5", "names batch twice"),
        ("batch:0.8,30s:0.3", "the shares in .* sum to 1.1"),
        ("batch:0.8", "sum to 0.8"),
        ("batch:1,30s:0", "the share of 30s is not above 0"),
        ("batch:x,30s:0.2", "the share 'x' is no number"),
        ("batch,30s", "batch has no share"),
        ("batch:1/0", "the share '1/0' is no number"),
    ],
)
def test_what_is_no_padding_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_pad(text)
