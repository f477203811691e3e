"""Words taken apart by a language's affixes."""

from collections.abc import Iterable, Iterator

import regex

from espnet_plugin.text.tags.pair import Language

_STEM = 3  # letters of the shortest stem
_LOAN = 4  # letters of the shortest stem from the other language
_DOUBLED = regex.compile(r"(\p{L}{3,})2\p{L}*")


class Affixes:
    """One language's prefixes, suffixes and clitics, as its configuration lists them."""

    def __init__(self, language: Language) -> None:
        """Sort the affixes by length."""
        self._repeats = language.reduplicates
        self._dropped = language.prefixes
        self._prefixes = _by_length(language.prefixes)
        self._suffixes = _by_length(language.suffixes)
        self._clitics = _by_length(language.clitics)
        self._loan_prefixes = _by_length(language.loan_prefixes)
        self._loan_endings = _by_length((*language.loan_suffixes, *language.clitics))

    def repeated(self, word: str) -> bool:
        """Whether a word is repeated in this language's ways: `kawan2`, `mahal-mahal`."""
        if not self._repeats:
            return False
        head, hyphen, tail = word.partition("-")
        return bool(_DOUBLED.fullmatch(word) or (hyphen and head and tail.startswith(head)))

    def stems(self, word: str) -> Iterator[str]:
        """What may remain of a word without its affixes; not the word itself."""
        forms = [word]
        for endings in (self._clitics, self._clitics, self._suffixes):
            forms += [rest for form in forms for rest in _without_ending(form, endings)]
        for form in dict.fromkeys(forms):
            if form != word:
                yield form
            for stem in self._without_prefix(form):
                yield stem
                yield from self._without_prefix(stem)

    def loans(self, word: str) -> Iterator[str]:
        """What may remain without the affixes that words of the other language take too."""
        starts = [0, *(n for n, known in self._loan_prefixes if word[:n] in known)]
        ends = [0, *(n for n, known in self._loan_endings if word[-n:] in known)]
        for start in starts:
            for end in ends:
                if (start or end) and len(word) - start - end >= _LOAN:
                    yield word[start : len(word) - end]

    def joined(self, parts: list[str]) -> bool:
        """Whether a hyphen joins one of those affixes to a word: `di-upload`, `submit-kan`."""
        return _has(self._loan_prefixes, parts[0]) or _has(self._loan_endings, parts[-1])

    def _without_prefix(self, form: str) -> Iterator[str]:
        for length, known in self._prefixes:
            if form[:length] in known:
                for letter in self._dropped[form[:length]]:
                    if len(letter) + len(form) - length >= _STEM:
                        yield letter + form[length:]


def _by_length(affixes: Iterable[str]) -> list[tuple[int, frozenset[str]]]:
    """Lengths, the longest first, and the affixes of each: looked up instead of compared."""
    lengths = sorted({len(affix) for affix in affixes}, reverse=True)
    return [(n, frozenset(affix for affix in affixes if len(affix) == n)) for n in lengths]


def _has(affixes: list[tuple[int, frozenset[str]]], part: str) -> bool:
    return any(part in known for _, known in affixes)


def _without_ending(form: str, endings: list[tuple[int, frozenset[str]]]) -> Iterator[str]:
    for length, known in endings:
        ending = form[-length:]
        if ending in known and len(form) - length >= (1 if "'" in ending else _STEM):
            yield form[:-length]
