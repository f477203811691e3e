"""Malay numerals in words, as newsreaders say them: 8 `lapan`, 0 `kosong`, the point `perpuluhan`.

The kept library for this, num2words, knows Indonesian (`delapan`, `nol`, `koma`) and not Malay.
"""

import re

_UNITS = ("kosong", "satu", "dua", "tiga", "empat", "lima", "enam", "tujuh", "lapan", "sembilan")
_SCALES = ((10**12, "trilion"), (10**9, "bilion"), (10**6, "juta"))
_MAX_DIGITS = 15
_AMOUNT_SCALES = {"k": 3, "ribu": 3, "m": 6, "j": 6, "juta": 6, "b": 9, "bilion": 9}

_GROUPED = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)"
_NUMBER = re.compile(rf"({_GROUPED})(?:\.([0-9]+))?(%)?")
_RINGGIT = re.compile(rf"rm({_GROUPED})(?:\.([0-9]+))?({'|'.join(_AMOUNT_SCALES)})?")
_ORDINAL = re.compile(r"ke-?([0-9]+)")
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})")


def cardinal(value: int) -> list[str]:
    """Spell a whole number in Malay.

    Args:
        value: a number from 0 to 10**15 - 1.

    Returns:
        The words, e.g. `["seratus", "dua", "puluh", "satu"]` for 121.

    Raises:
        ValueError: the number is out of range.
    """
    if not 0 <= value < 10**_MAX_DIGITS:
        raise ValueError(f"cannot spell {value} in Malay: allowed are 0 to 10**{_MAX_DIGITS} - 1")
    if value == 0:
        return [_UNITS[0]]
    words: list[str] = []
    for size, name in _SCALES:
        if value >= size:
            words += [*_below_million(value // size), name]
            value %= size
    return words + _below_million(value)


def _below_million(value: int) -> list[str]:
    words: list[str] = []
    if value >= 1000:
        thousands = value // 1000
        words += ["seribu"] if thousands == 1 else [*_below_million(thousands), "ribu"]
        value %= 1000
    if value >= 100:
        words += ["seratus"] if value < 200 else [_UNITS[value // 100], "ratus"]
        value %= 100
    if value >= 20:
        words += [_UNITS[value // 10], "puluh"]
        value %= 10
    elif value >= 10:
        if value >= 12:
            return [*words, _UNITS[value - 10], "belas"]
        return [*words, "sepuluh" if value == 10 else "sebelas"]
    return words + ([_UNITS[value]] if value else [])


def digits_in_words(digits: str) -> list[str]:
    """Spell a string of ASCII digits: as a number, or digit by digit like a telephone number.

    Digit by digit are strings with a leading zero and strings longer than 15 digits.
    """
    if len(digits) > _MAX_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return [_UNITS[int(digit)] for digit in digits]
    return cardinal(int(digits))


def malay_number(token: str) -> list[str] | None:
    """Spell one lower-case token if it is a Malay way of writing a number.

    Known forms: `1,000`, `3.5`, `10%`, `8:30`, `ke-3`, `rm50`, `rm2.50`, `rm10.4m` (also k, b,
    ribu, juta, bilion).

    Returns:
        The words, or None when the token is something else.
    """
    if match := _NUMBER.fullmatch(token):
        words = digits_in_words(match[1].replace(",", ""))
        if match[2]:
            words += ["perpuluhan", *(_UNITS[int(digit)] for digit in match[2])]
        return [*words, "peratus"] if match[3] else words
    if match := _CLOCK.fullmatch(token):
        return cardinal(int(match[1])) + (digits_in_words(match[2]) if match[2] != "00" else [])
    if match := _ORDINAL.fullmatch(token):
        words = digits_in_words(match[1])
        return ["pertama"] if words == ["satu"] else ["ke" + words[0], *words[1:]]
    if match := _RINGGIT.fullmatch(token):
        return _ringgit(match[1].replace(",", ""), match[2] or "", match[3])
    return None


def _ringgit(whole: str, fraction: str, scale: str | None) -> list[str] | None:
    if len(whole) > 5 and scale or len(whole) > _MAX_DIGITS:
        return None
    if scale:
        zeros = _AMOUNT_SCALES[scale]
        if len(fraction) > zeros:
            return None
        return [*cardinal(int(whole + fraction.ljust(zeros, "0"))), "ringgit"]
    if len(fraction) > 2:
        return None
    sen = int(fraction.ljust(2, "0")) if fraction else 0
    words = [*cardinal(int(whole)), "ringgit"] if int(whole) or not sen else []
    return [*words, *cardinal(sen), "sen"] if sen else words
