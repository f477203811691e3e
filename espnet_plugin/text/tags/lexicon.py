"""Which of two languages a word belongs to, before its context is looked at.

The evidence is a log-odds (natural logarithm), positive for the pair's first language. It comes
from, in this order:

1. the configuration's own words: they decide;
2. the frequencies (wordfreq) and dictionaries (simplemma) of both languages. A frequency list holds
   words of other languages that its sources quote (English in Malay tweets, names in English news),
   so the share of the other language in a list is estimated from that language's commonest words
   and subtracted. A word that only one language's dictionary has gains a factor of thirty;
3. for words that the dictionaries lack: their parts, by the language's affixes or at hyphens;
4. for what remains, and where frequencies are faint: a language identifier (`identifier`).
"""

import math
from dataclasses import dataclass
from itertools import islice

import regex
import wordfreq
from simplemma.strategies import DictionaryLookupStrategy

from espnet_plugin.cli import nearest
from espnet_plugin.text.tags.affixes import Affixes
from espnet_plugin.text.tags.identifier import Identifier
from espnet_plugin.text.tags.pair import Language, Pair

DECIDED = 7.0  # log-odds of what lists decide: context cannot turn it
_LISTED = math.log(30.0)  # in the dictionary of one language only
_AFFIXED = 5.0  # a known stem with affixes of one language
_HOMOGRAPH = 0.7  # the most for unrelated words that are spelt alike: context decides
_FLOOR = 1e-7  # frequency of a word that a list lacks
_FAINT = 3e-6  # frequencies below this say little
_NAMELIKE = 0.01  # the smaller of a name's two frequencies over the larger one
_SHORTEST = 3  # letters of the shortest cognate
_SAMPLE = 200  # commonest words, from which a leak is estimated
_LARGEST_LEAK = 0.2
_DICTIONARIES = DictionaryLookupStrategy()
_ELONGATED = (regex.compile(r"(\p{L})\1{2,}"), regex.compile(r"(\p{L})\1+"))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a word out of context.

    Attributes:
        odds: log-odds of the first language against the second.
        known: whether a list has the word or its stem; else `odds` is a guess.
        cognate: in both languages' dictionaries, with frequencies of the same order.
        common: in a dictionary or the configuration, or built of such a word: no name by itself.
        namelike: in no dictionary, or only with a capital; or hardly more frequent in one language
            than in the other: names are quoted everywhere.
    """

    odds: float
    known: bool
    cognate: bool = False
    common: bool = False
    namelike: bool = False


class Lexicon:
    """Lists, affixes and the identifier of a pair of languages."""

    def __init__(self, pair: Pair) -> None:
        """Load what the configuration names.

        Raises:
            ValueError: a list, a dictionary or an identifier's language does not exist.
        """
        self._pair = pair
        self._sides = [Lists(language) for language in pair.languages]
        self._affixes = [Affixes(language) for language in pair.languages]
        first, second = self._sides
        self._leaks = first.leak(second), second.leak(first)
        self._identifier = Identifier(pair)

    def evidence(self, word: str) -> Evidence:
        """Weigh a word.

        Args:
            word: in lower case, with ASCII apostrophes and hyphens.

        Returns:
            The evidence.
        """
        forms = [word, _ELONGATED[0].sub(r"\1\1", word), _ELONGATED[1].sub(r"\1", word)]
        for form in dict.fromkeys(forms):
            if found := self.listed(form) or self._known(form) or self._derived(form):
                return found
        return Evidence(self._identifier.odds(word), known=False)

    def listed(self, word: str) -> Evidence | None:
        """Weigh a word by the configuration's own words; None where it has none."""
        first, second = (word in side.words for side in self._sides)
        if word in self._pair.homographs or (first and second):
            found = self._known(word)
            return Evidence(_clip(found.odds if found else 0.0, _HOMOGRAPH), True, common=True)
        if first or second:
            return Evidence(DECIDED if first else -DECIDED, True, common=True)
        return None

    def _known(self, word: str) -> Evidence | None:
        """Weigh a word by frequencies and dictionaries; None where they lack it."""
        first, second = self._sides
        a, b = first.frequency(word), second.frequency(word)
        in_a, in_b = first.has(word), second.has(word)
        in_a = in_a or (not in_b and first.related(word))
        in_b = in_b or (not in_a and second.related(word))
        if not (a or b or in_a or in_b):
            return None
        odds = math.log(
            (max(a - self._leaks[0] * b, 0.0) + _FLOOR)
            / (max(b - self._leaks[1] * a, 0.0) + _FLOOR)
        )
        ratio = min(a, b) / max(a, b) if a or b else 0.0
        if in_a or in_b:
            cognate = in_a and in_b and len(word) >= _SHORTEST and min(a, b) > _FAINT
            cognate = cognate and 0 < self._pair.cognate_ratio <= ratio
            return Evidence(_clip(odds + _LISTED * (in_a - in_b)), True, cognate, common=True)
        # Affixes count where they agree with the frequencies: not for Megan (me-, -an).
        derived = self._derived(word)
        if derived and derived.odds * odds > 0:
            return derived
        if max(a, b) < _FAINT:
            return Evidence(odds + self._identifier.odds(word), known=False)
        proper = any(side.has(word.capitalize()) for side in self._sides)
        return Evidence(_clip(odds), True, namelike=proper or ratio > _NAMELIKE)

    def _derived(self, word: str) -> Evidence | None:
        """Weigh a word by its parts; None where they say nothing."""
        parts = [part for part in word.split("-") if part]
        for here, sign in ((0, 1), (1, -1)):
            affixes, side, other = self._affixes[here], self._sides[here], self._sides[1 - here]
            if (
                affixes.repeated(word)
                or (len(parts) > 1 and affixes.joined(parts))
                or any(side.owns(stem, other) for stem in affixes.stems(word))
                or any(other.owns(stem, side) for stem in affixes.loans(word))
            ):
                return Evidence(sign * _AFFIXED, True, common=True)
        if len(parts) < 2:
            return None
        found = [self.evidence(part) for part in parts if len(part) > 1 and part.isalpha()]
        if not found:
            return None
        odds = _clip(sum(evidence.odds for evidence in found))
        known = any(evidence.known for evidence in found)
        return Evidence(odds, known, common=all(evidence.common for evidence in found))


class Lists:
    """One language's frequency lists, dictionaries and own words."""

    def __init__(self, language: Language) -> None:
        """Load them.

        Raises:
            ValueError: a list or dictionary does not exist.
        """
        self.words = language.words
        existing = wordfreq.available_languages("best")
        for code in language.frequencies:
            if code not in existing:
                raise ValueError(
                    f"language {language.code}: wordfreq has no list {code!r}"
                    f"{nearest(code, existing)}; it has {' '.join(sorted(existing))}"
                )
        self._tables = [
            (wordfreq.get_frequency_dict(code, "best"), weight)
            for code, weight in language.frequencies.items()
        ]
        self._codes = list(language.frequencies)
        self._dictionaries = language.lexicons
        self._related = language.related_lexicons
        for code in (*self._dictionaries, *self._related):
            try:
                _DICTIONARIES.is_dictionary_member("a", code)
            except ValueError as error:
                raise ValueError(
                    f"language {language.code}: simplemma has no dictionary {code!r}"
                ) from error

    def frequency(self, word: str) -> float:
        """Highest weighted frequency, from 0 to 1."""
        return max((table.get(word, 0.0) * weight for table, weight in self._tables), default=0.0)

    def has(self, word: str) -> bool:
        """Whether a dictionary has the word in this case."""
        return any(_DICTIONARIES.is_dictionary_member(word, code) for code in self._dictionaries)

    def related(self, word: str) -> bool:
        """Whether a related language's dictionary has it."""
        return any(_DICTIONARIES.is_dictionary_member(word, code) for code in self._related)

    def owns(self, word: str, other: "Lists") -> bool:
        """Whether a word is this language's rather than the other's."""
        if word in self.words or word in other.words:
            return word in self.words
        if self.has(word) or other.has(word):
            return self.has(word)
        return self.frequency(word) > max(_FAINT, other.frequency(word))

    def leak(self, other: "Lists") -> float:
        """Estimate the other language's share of this one's frequencies.

        Returns:
            The median, over the other language's commonest words, of the ratio of their
            frequencies here and there; at most _LARGEST_LEAK.
        """
        if not other._tables:
            return 0.0
        (table, _), code = other._tables[0], other._codes[0]
        words = filter(str.isalpha, wordfreq.top_n_list(code, 2 * _SAMPLE))
        ratios = sorted(self.frequency(word) / table[word] for word in islice(words, _SAMPLE))
        return min(ratios[len(ratios) // 2], _LARGEST_LEAK)


def _clip(odds: float, most: float = DECIDED) -> float:
    return max(-most, min(most, odds))
