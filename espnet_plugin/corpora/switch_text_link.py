"""Which words of a sentence and its translation belong together, by statistics and a lexicon.

Words that are spelt alike on both sides (names, numbers) and phrases of a lexicon are linked first.
Of the others the links are those that both directions of `switch_text_align` have, and those beside
them that one direction has and that link a word still free ("grow", Koehn, Och and Marcu 2003).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from espnet_plugin.corpora.switch_text_align import NULL_SHARE, Translations, places
from espnet_plugin.corpora.switch_text_lexicon import Lexicon, words_of
from espnet_plugin.corpora.switch_text_rules import Side

MEANS = 0.3  # probability from which a word is taken to mean the other

Link = tuple[int, int]


class Aligner:
    """Links the words of two sentences.

    Args:
        translations: Learnt statistics; None to go by the lexicon alone.
        lexicon: Phrases that are surely translations; None for none.
    """

    def __init__(self, translations: Translations | None, lexicon: Lexicon | None) -> None:
        if translations is None and lexicon is None:
            raise ValueError("words are linked by statistics or a lexicon; there is neither")
        self._translations, self._lexicon = translations, lexicon

    def links(self, first: Side, second: Side) -> tuple[set[Link], set[Link]]:
        """Link words.

        Args:
            first: The sentence in the pair's first language.
            second: In its second.

        Returns:
            Pairs of a word of the first and a word of the second, from 0: those that are linked,
            and those that mean the same wherever they stand.
        """
        fixed = self._by_lexicon(first, second) if self._lexicon else set()
        one, two = {a for a, _ in fixed}, {b for _, b in fixed}
        for a, b in _alike(first.words, second.words):
            if a not in one and b not in two:
                fixed.add((a, b))
        if self._translations is None or not first.words or not second.words:
            return fixed, fixed
        return _symmetric(self._translations, first.words, second.words, fixed)

    def _by_lexicon(self, first: Side, second: Side) -> set[Link]:
        """Link phrases of the lexicon that are on both sides, each with the nearest in place."""
        assert self._lexicon is not None
        found: set[Link] = set()
        taken: set[int] = set()
        for match in self._lexicon.find(first):
            options = []
            for translation in match.translations:
                phrase = words_of(translation)
                for start in range(len(second.words) - len(phrase) + 1):
                    stop = start + len(phrase)
                    if tuple(second.words[start:stop]) == phrase and not taken & set(
                        range(start, stop)
                    ):
                        away = abs(start / len(second.words) - match.first / len(first.words))
                        options.append((-len(phrase), away, start, stop))
            if options:
                _, _, start, stop = min(options)
                taken |= set(range(start, stop))
                found |= {
                    (a, b) for a in range(match.first, match.last + 1) for b in range(start, stop)
                }
        return found


def _alike(first: Sequence[str], second: Sequence[str]) -> Iterable[Link]:
    """Link words of three letters or more, and numbers, that stand once on each side."""
    once = [{w for w, n in Counter(words).items() if n == 1} for words in (first, second)]
    both = {w for w in once[0] & once[1] if len(w) > 2 or w[0].isdigit()}
    return [(first.index(word), second.index(word)) for word in sorted(both)]


def _symmetric(
    translations: Translations, first: Sequence[str], second: Sequence[str], fixed: set[Link]
) -> tuple[set[Link], set[Link]]:
    """Join both directions: what they agree on, grown by neighbours that link a free word."""
    n, m = len(first), len(second)
    forward, backward = translations.probabilities(first, second)
    same = np.maximum(forward[1:], backward[:, 1:]) >= MEANS
    synonyms = {(int(a), int(b)) for a, b in np.argwhere(same)} | fixed
    forward[1:] *= (1 - NULL_SHARE) * places(n, m)
    forward[0] *= NULL_SHARE
    backward[:, 1:] *= (1 - NULL_SHARE) * places(m, n).T
    backward[:, 0] *= NULL_SHARE
    by_second = {
        (int(a) - 1, b) for b, a in enumerate(forward.argmax(0)) if a and forward[a, b] > 0
    }
    by_first = {
        (a, int(b) - 1) for a, b in enumerate(backward.argmax(1)) if b and backward[a, b] > 0
    }
    one, two = {a for a, _ in fixed}, {b for _, b in fixed}
    free = {(a, b) for a, b in by_first | by_second if a not in one and b not in two}
    links = (by_first & by_second & free) | fixed
    waiting = sorted(free - links)
    grown = True
    while grown:
        grown = False
        for a, b in list(waiting):
            near = any((a + x, b + y) in links for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y)
            free_one = all(link[0] != a for link in links)
            free_two = all(link[1] != b for link in links)
            if near and (free_one or free_two):
                links.add((a, b))
                waiting.remove((a, b))
                grown = True
    return links, synonyms
