"""CMI and errors at switch points."""

import pytest

from espnet_plugin.score import align, cmi
from espnet_plugin.score.switching import switch_errors, switch_points

CASES = [
    ("", 0.0),
    ("ms ms ms", 0.0),
    ("ms en", 50.0),
    ("ms ms ms en", 25.0),
    ("ms en zh", 100 * 2 / 3),
    ("ms en num name shared other", 50.0),
    ("num name", 0.0),
    ("ms num", 0.0),
]


@pytest.mark.parametrize(("tags", "expected"), CASES)
def test_cmi(tags: str, expected: float) -> None:
    assert cmi(tags.split()) == pytest.approx(expected)


def test_unknown_tag_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'nums' \(did you mean num\?\); allowed are ms en"):
        cmi(["ms", "nums"])


def test_switch_points_pass_over_words_of_no_language() -> None:
    assert switch_points(["ms", "ms", "en", "en", "ms"]) == [(1, 2), (3, 4)]
    assert switch_points(["ms", "name", "en"]) == [(0, 2)]
    assert switch_points(["ms", "ms", "num"]) == []


@pytest.mark.parametrize(
    ("hyp", "errors"),
    [
        ("saya nak book hotel esok", 0),
        ("dia nak book hotel esok", 0),  # not beside a switch
        ("saya tak book hotel esok", 1),
        ("saya nak cook tel esok", 2),
        ("saya nak hotel esok", 1),
        ("saya nak a book hotel esok", 1),  # between the two sides
        ("saya a nak book hotel esok", 0),
        ("saya nak book hotel esok lah", 0),
    ],
)
def test_switch_errors(hyp: str, errors: int) -> None:
    alignment = align(["saya", "nak", "book", "hotel", "esok"], hyp.split())
    assert switch_errors(alignment, ["ms", "ms", "en", "en", "ms"]) == (errors, 4)
