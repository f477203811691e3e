"""Malay numerals."""

import pytest

from espnet_plugin.text.numbers import cardinal, digits_in_words, malay_number


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "kosong"),
        (8, "lapan"),
        (10, "sepuluh"),
        (11, "sebelas"),
        (19, "sembilan belas"),
        (20, "dua puluh"),
        (100, "seratus"),
        (121, "seratus dua puluh satu"),
        (1000, "seribu"),
        (1111, "seribu seratus sebelas"),
        (21_000, "dua puluh satu ribu"),
        (101_000, "seratus satu ribu"),
        (1_000_000, "satu juta"),
        (2_500_008, "dua juta lima ratus ribu lapan"),
        (10**9, "satu bilion"),
        (10**12 + 1, "satu trilion satu"),
    ],
)
def test_cardinal(value: int, expected: str) -> None:
    assert " ".join(cardinal(value)) == expected


@pytest.mark.parametrize("value", [-1, 10**15])
def test_cardinal_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match="allowed are 0 to"):
        cardinal(value)


def test_distinct_up_to_100000() -> None:
    assert len({" ".join(cardinal(value)) for value in range(100_000)}) == 100_000


def test_long_strings_are_read_digit_by_digit() -> None:
    assert digits_in_words("0123") == ["kosong", "satu", "dua", "tiga"]
    assert digits_in_words("1" * 16) == ["satu"] * 16


@pytest.mark.parametrize("token", ["", "rm", "5kg", "rm2.505", "ke", "1.2.3", "a8", "8:3", "1,00"])
def test_not_a_number(token: str) -> None:
    assert malay_number(token) is None
