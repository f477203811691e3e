"""Words as they are tagged, and what their characters alone say."""

from collections.abc import Mapping, Sequence

import regex

_UNSPACED = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
_BASE = rf"(?:(?!{_UNSPACED})[\p{{L}}\p{{M}}\p{{N}}])"
# A word's parts are joined by an apostrophe or a hyphen; by . , : / between digits; and by . & _
# between single letters (U.S.A, R&D, G_L_D).
_WORD = regex.compile(
    rf"{_UNSPACED}\p{{M}}*"
    rf"|{_BASE}+(?:(?:['\u2019\-\u2010\u2011]|(?<=\p{{N}})[.,:/](?=\p{{N}})"
    rf"|(?<=(?<![\p{{L}}\p{{M}}\p{{N}}])\p{{L}})[.&_](?=\p{{L}}(?![\p{{L}}\p{{M}}\p{{N}}]))){_BASE}+)*"
)
_ENDS = regex.compile(r"[.!?\u2026\u3002\uff01\uff1f][\p{Pf}\p{Pe}\"'*]*$")
_NUMBER = regex.compile(
    r"\p{N}[\p{N}.,:/\-]*(?:a\.m|p\.m|\p{L}{1,4})?"
    r"|(?:rm|usd|sgd|us|s|idr|eur|gbp)\p{N}[\p{N}.,]*[a-z]{0,2}",
    regex.IGNORECASE,
)
_APOSTROPHES = str.maketrans("\u2019\u2018\u02bc\u2010\u2011", "'''--")


def words(text: str) -> list[str]:
    """Split a text into words.

    Case is kept and punctuation dropped. Hyphenated words (`kanak-kanak`, `walk-in`, `di-upload`)
    and those with an apostrophe are one word, as are numbers (`1,200`, `8:30`, `RM3.50`);
    a Chinese or Japanese character is a word of its own.

    Args:
        text: any text.

    Returns:
        The words in order.
    """
    return _WORD.findall(text)


def ends_sentence(chunk: str) -> bool:
    """Say whether a piece of text without spaces closes a sentence, quotes aside."""
    return _ENDS.search(chunk) is not None


def is_number(word: str) -> bool:
    """Digits, with a currency before them or a short unit after (`RM50`, `5G`, `3pm`, `4-3-3`)."""
    return _NUMBER.fullmatch(word) is not None


def plain(word: str) -> str:
    """Lower-case form with ASCII apostrophes and hyphens, as lexicons have it."""
    return word.lower().translate(_APOSTROPHES)


class Scripts:
    """Tags of words by their script."""

    def __init__(self, shared: str, others: Mapping[str, Sequence[str]]) -> None:
        """Take a pair's scripts.

        Args:
            shared: Unicode script of both languages.
            others: tag -> other scripts whose words have it.
        """
        self._others = [
            (tag, regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in names) + "]"))
            for tag, names in others.items()
        ]
        self._shared = regex.compile(rf"[\p{{Script={shared}}}\p{{M}}\P{{L}}]*")

    def tag(self, word: str) -> str | None:
        """Tag a word in another script; None for words in the shared one."""
        for tag, pattern in self._others:
            if pattern.search(word):
                return tag
        return None if self._shared.fullmatch(word) else "other"
