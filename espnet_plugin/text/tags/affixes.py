"""Words taken apart by a language's affixes."""

from collections.abc import Iterator

import regex

from espnet_plugin.text.tags.pair import Language

_STEM = 3  # letters of the shortest stem
_LOAN = 4  # letters of the shortest stem from the other language
_DOUBLED = regex.compile(r"(\p{L}{3,})2\p{L}*")


class Affixes:
    """One language's prefixes, suffixes and clitics, as its configuration lists them."""

    def __init__(self, language: Language) -> None:
        """Sort the affixes, the longest first."""
        self._repeats = language.reduplicates
        self._prefixes = sorted(language.prefixes.items(), key=lambda item: (-len(item[0]), item))
        self._suffixes = sorted(language.suffixes, key=lambda ending: (-len(ending), ending))
        self._clitics = sorted(language.clitics, key=lambda ending: (-len(ending), ending))
        self._loan_prefixes = language.loan_prefixes
        self._loan_endings = {*language.loan_suffixes, *language.clitics}

    def repeated(self, word: str) -> bool:
        """Whether a word is repeated in this language's ways: `kawan2`, `mahal-mahal`."""
        if not self._repeats:
            return False
        head, hyphen, tail = word.partition("-")
        return bool(_DOUBLED.fullmatch(word) or (hyphen and head and tail.startswith(head)))

    def stems(self, word: str) -> Iterator[str]:
        """What may remain of a word without its affixes; not the word itself."""
        for form in self._without_endings(word):
            if form != word:
                yield form
            for stem in self._without_prefix(form):
                yield stem
                yield from self._without_prefix(stem)

    def loans(self, word: str) -> Iterator[str]:
        """What may remain without the affixes that words of the other language take too."""
        prefixes = ["", *(prefix for prefix in self._loan_prefixes if word.startswith(prefix))]
        endings = ["", *(ending for ending in self._loan_endings if word.endswith(ending))]
        for prefix in prefixes:
            for ending in endings:
                stem = word[len(prefix) : len(word) - len(ending)]
                if len(stem) >= _LOAN and stem != word:
                    yield stem

    def joined(self, parts: list[str]) -> bool:
        """Whether a hyphen joins one of those affixes to a word: `di-upload`, `submit-kan`."""
        return parts[0] in self._loan_prefixes or parts[-1] in self._loan_endings

    def _without_prefix(self, form: str) -> Iterator[str]:
        for prefix, dropped in self._prefixes:
            if form.startswith(prefix):
                for letter in dropped:
                    stem = letter + form[len(prefix) :]
                    if len(stem) >= _STEM:
                        yield stem

    def _without_endings(self, word: str) -> list[str]:
        """The word, without one or two clitics, and each of those without a suffix."""
        forms = [word]
        for endings in (self._clitics, self._clitics, self._suffixes):
            for form in list(forms):
                for ending in endings:
                    shortest = 1 if "'" in ending else _STEM
                    if form.endswith(ending) and len(form) - len(ending) >= shortest:
                        forms.append(form[: -len(ending)])
        return list(dict.fromkeys(forms))
