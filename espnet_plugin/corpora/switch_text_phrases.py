"""Sentences as words, and which of their phrases another language's phrase can take the place of.

From a pair of sentences with linked words come the phrase pairs of statistical translation (Och and
Ney 2004): words side by side whose links lead to words side by side and back. Here, besides:

- neither phrase crosses punctuation, and each is at most 10 words long;
- both begin and end with a linked word (a determiner before the phrase goes with it), and no other
  word than a function word inside is without link: such a word would be lost, or come from nowhere;
- the words beside them keep their side: no switch where the order of words differs, as between the
  noun and the adjective of `kereta merah`, `red car` (Poplack's equivalence constraint, 1980);
- the rules of `switch_text_rules` hold.

Where there is no translation of the sentence, the phrases are those of the lexicon. They are
exchanged one by one, never two in a row: their order in the other language is not known.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from espnet_plugin.corpora.switch_text_lexicon import Lexicon, words_of
from espnet_plugin.corpora.switch_text_link import Link
from espnet_plugin.corpora.switch_text_rules import Rules, Side, refusal
from espnet_plugin.text.tags.tokens import plain

LONGEST = 10  # words of a phrase
REORDERED = "word order differs"
MOST = 1 << 30
POOR = 0.3  # share of linked words that are no function words, below which a pair does not fit


@dataclass(frozen=True, slots=True)
class Phrase:
    """What can stand in the place of words of a sentence.

    Attributes:
        first: First word that it replaces.
        last: Last one.
        text: In the other language, as written there.
        size: Its words.
        opening: It began its sentence, where its first letter may be a capital for that alone.
    """

    first: int
    last: int
    text: str
    size: int
    opening: bool


def make_side(text: str, words: Sequence[str], tags: Sequence[str], language: int) -> Side:
    """Find a sentence's words in its text.

    Args:
        text: The sentence.
        words: What `Tagger.words` makes of it.
        tags: Their tags.
        language: 0 or 1.
    """
    starts, ends, position = [], [], 0
    for word in words:
        start = text.index(word, position)
        position = start + len(word)
        starts.append(start)
        ends.append(position)
    joined = [text[end:start].isspace() for end, start in zip(ends[:-1], starts[1:], strict=True)]
    return Side(text, [plain(w) for w in words], starts, ends, tags, joined, language)


def linked_phrases(
    matrix: Side,
    other: Side,
    links: set[Link],
    synonyms: set[Link],
    rules: tuple[Rules, Rules],
    codes: Sequence[str],
    refused: Counter[str],
) -> list[Phrase]:
    """Find the phrases of a sentence that its translation has phrases for.

    Args:
        matrix: The sentence.
        other: Its translation.
        links: Word of the matrix sentence, word of the translation.
        synonyms: The same of words that mean the same, linked or not.
        rules: Of both languages.
        codes: The languages.
        refused: Counts the phrases that rules refuse, by reason.

    Returns:
        Phrases, by first and last word.
    """
    here = _Linked(matrix, ((a, b) for a, b in links), rules[matrix.language])
    there = _Linked(other, ((b, a) for a, b in links), rules[other.language])
    same: list[list[int]] = [[] for _ in matrix.words]
    for a, b in synonyms:
        same[a].append(b)
    found = []
    for first, linked in enumerate(here.to):
        if not linked:
            continue
        low, high = min(linked), -1
        start = low  # of the stretch of the translation that has been looked at, to `high`
        reach = [first, first]  # what that stretch translates
        for last in range(first, min(first + LONGEST, len(here.to))):
            if last > first and not matrix.joined[last - 1]:
                break
            if not here.to[last]:
                if matrix.words[last] in here.small:
                    continue
                break  # a word that would be lost
            low = min(low, *here.to[last])
            stop = max(high, *here.to[last])
            whole = stop - low < LONGEST
            for place in (*range(low, start), *range(max(high + 1, start), stop + 1)):
                whole = whole and there.usable[place] and (place == low or other.joined[place - 1])
                if there.to[place]:
                    reach = [min(reach[0], *there.to[place]), max(reach[1], *there.to[place])]
            # longer phrases have the same faults
            if not whole or (low < start and not other.joined[start - 1]) or reach[0] < first:
                break
            start, high = low, stop
            if reach[1] > last:
                continue
            reason = _fault(here, there, first, last, low, high, same, rules, codes)
            if reason:
                refused[reason] += 1
                continue
            left = there.opening[low]
            text = other.text[other.starts[left] : other.ends[high]]
            size = high - left + 1
            found.append(Phrase(here.opening[first], last, text, size, _opens(other, left)))
    return found


class _Linked:
    """A sentence of a pair, and what can be known of its words before any phrase is looked at.

    Attributes:
        to: The words that each is linked to.
        usable: Whether a word may be in a phrase: it is linked, or a function word.
        opening: For each word the one that a phrase with it begins with: a determiner before it
            that translates nothing, else the word itself.
        before: What the nearest linked word before each is linked to, the last such; -1 for none.
        after: What the nearest behind it is linked to, the first such; a large number for none.
        small: Function words.
    """

    def __init__(self, side: Side, links: Iterable[Link], rules: Rules) -> None:
        self.side, self.small, total = side, rules.small, len(side.words)
        self.to: list[list[int]] = [[] for _ in side.words]
        for a, b in links:
            self.to[a].append(b)
        self.usable = [
            bool(linked) or word in rules.small
            for linked, word in zip(self.to, side.words, strict=True)
        ]
        self.opening, self.before = list(range(total)), [-1] * total
        self.after = [MOST] * total
        for word in range(1, total):
            if side.joined[word - 1]:
                linked = self.to[word - 1]
                self.before[word] = max(linked) if linked else self.before[word - 1]
                if not linked and side.words[word - 1] in rules.determiners:
                    self.opening[word] = word - 1
        for word in range(total - 2, -1, -1):
            if side.joined[word]:
                linked = self.to[word + 1]
                self.after[word] = min(linked) if linked else self.after[word + 1]


def _fault(
    here: _Linked,
    there: _Linked,
    first: int,
    last: int,
    low: int,
    high: int,
    same: Sequence[Sequence[int]],
    rules: tuple[Rules, Rules],
    codes: Sequence[str],
) -> str:
    """Say why the words `low` to `high` may not take the place of `first` to `last`."""
    if (
        here.before[first] > high
        or here.after[last] < low
        or there.before[low] > last
        or there.after[high] < first
    ):
        return REORDERED
    start, left, other = here.opening[first], there.opening[low], there.side
    words, tags = other.words[left : high + 1], other.tags[left : high + 1]
    if reason := refusal(here.side, start, last, words, tags, rules, codes):
        return reason
    if other.torn(left, high):
        return "inside a name or number"
    beside = [*(same[start - 1] if start else ()), *(same[last + 1 : last + 2] or [[]])[0]]
    return "meaning said twice" if any(left <= place <= high for place in beside) else ""


def _opens(side: Side, word: int) -> bool:
    """Tell whether a word begins its text or what follows a full stop."""
    return word == 0 or any(
        mark in side.text[side.ends[word - 1] : side.starts[word]] for mark in ".?!"
    )


def fits(first: Side, second: Side, links: set[Link], rules: tuple[Rules, Rules]) -> bool:
    """Tell whether enough words are linked to call one sentence the other's translation."""
    for side, own, place in ((first, rules[0], 0), (second, rules[1], 1)):
        content = {n for n, word in enumerate(side.words) if word not in own.small}
        if content and len(content & {link[place] for link in links}) < POOR * len(content):
            return False
    return True


def listed_phrases(
    matrix: Side,
    lexicon: Lexicon,
    rules: tuple[Rules, Rules],
    codes: Sequence[str],
    refused: Counter[str],
) -> list[Phrase]:
    """Find the phrases of a sentence that the lexicon has translations for.

    Returns:
        Phrases; several for words with several translations.
    """
    other = 1 - matrix.language
    own = rules[matrix.language]
    found = []
    for match in lexicon.find(matrix):
        first = match.first
        if first and matrix.joined[first - 1] and matrix.words[first - 1] in own.determiners:
            first -= 1  # the translation is given without one
        for translation in match.translations:
            words = words_of(translation)
            tags = [codes[other]] * len(words)
            if reason := refusal(matrix, first, match.last, words, tags, rules, codes):
                refused[reason] += 1
            else:
                found.append(Phrase(first, match.last, translation, len(words), False))
    return found
