"""Whisper's normalisers in time linear in the text, with the same result but for two things.

Whisper's basic normaliser replaces combining marks by spaces. Those are the vowels of Tamil, Hindi
or Thai: words fall to pieces that all look alike, and their errors are not seen. Here marks stay
with their letters. And where it splits a text into characters (Chinese, Japanese, Thai, ...), Latin
words stay whole, as mixed error rates count them.

Three things in transformers' classes grow with the square of the text, or fail:

- A run of words that mean numbers is one number, computed anew at each word; and Python converts
  no number of more than 4 300 digits. The rule here: a run is cut where it may reach 4 000 digits,
  and a word of more characters than that stays as it is. Speech has no such numbers.
- An opening bracket that nothing closes is looked for to the end of the text. It becomes another
  symbol, which the normaliser turns into a space as it does the bracket.
- White space before an apostrophe is tried from each of its characters; long runs become two.
"""

import re
import unicodedata
from collections.abc import Iterator

import regex
from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer,
    EnglishNumberNormalizer,
    EnglishTextNormalizer,
)

MAX_DIGITS = 4000
_BRACKETED = re.compile(r"[<\[][^>\]]*[>\]]")
_LOOSE_MARKS = regex.compile(r"(?<![\p{L}\p{M}])\p{M}+")
_CHARACTER = regex.compile(r"\p{Latin}[\p{Latin}\p{M}]*|\X")
_LONG_SPACE = re.compile(r"\s{3,}")  # patterns tell one space from more, but not two from three


class Numbers(EnglishNumberNormalizer):
    """English numbers of at most `MAX_DIGITS` digits."""

    def process_words(self, words: list[str]) -> Iterator[str]:
        """Yield words, with those that mean numbers replaced."""
        start, digits = 0, 0
        for place, word in enumerate(words):
            digits = digits + self._digits(word) if self._goes_on(word) else 0
            if digits > MAX_DIGITS:
                yield from super().process_words(words[start:place])
                start, digits = place, self._digits(word)
                if digits > MAX_DIGITS:
                    yield word
                    start, digits = place + 1, 0
        yield from super().process_words(words[start:])

    def _goes_on(self, word: str) -> bool:
        return word in self.words or any(letter.isdigit() for letter in word)

    def _digits(self, word: str) -> int:
        """Return the most digits by which a word makes a number longer."""
        known = self.multipliers.get(word) or self.multipliers_suffixed.get(word, (0, ""))[0]
        return len(str(known)) if known else 3 if word in self.words else len(word)


class English(EnglishTextNormalizer):
    """Whisper's English normaliser."""

    def __init__(self, spellings: dict[str, str]) -> None:
        super().__init__(spellings)
        self.standardize_numbers = Numbers()
        patterns = [self.ignore_patterns, *self.replacers]
        self._replaced = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))

    def __call__(self, s: str) -> str:
        """Normalise a text."""
        if s.isascii() and s.isalpha():  # a word, of which many are asked for: 50 times as fast
            word = s.lower()
            if word not in self.standardize_numbers.words and not self._replaced.search(word):
                return self.standardize_spellings(word)
        return super().__call__(_without_traps(s))


class Basic(BasicTextNormalizer):
    """Whisper's normaliser of other languages, which keeps the marks of letters."""

    def __init__(self, split_letters: bool = False) -> None:
        super().__init__()
        self.clean, self.by_character = _without_symbols, split_letters

    def __call__(self, s: str) -> str:
        """Normalise a text."""
        found = super().__call__(_without_traps(s))
        if self.by_character:
            found = re.sub(r"\s+", " ", " ".join(_CHARACTER.findall(found)))
        return found


def _without_symbols(s: str) -> str:
    text = unicodedata.normalize("NFKC", s)
    kept = "".join(" " if unicodedata.category(c)[0] in "SP" else c for c in text)
    return _LOOSE_MARKS.sub(" ", kept)


def _without_traps(text: str) -> str:
    text = _BRACKETED.sub("", _closed(text, "<[", ">]"))
    return _LONG_SPACE.sub("  ", _closed(text, "(", ")"))


def _closed(text: str, opening: str, closing: str) -> str:
    """Replace the opening brackets behind the last closing one."""
    end = 1 + max(text.rfind(bracket) for bracket in closing)
    return text[:end] + text[end:].translate({ord(bracket): "|" for bracket in opening})
