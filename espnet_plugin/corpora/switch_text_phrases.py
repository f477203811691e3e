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
from collections.abc import Sequence
from dataclasses import dataclass

from espnet_plugin.corpora.switch_text_lexicon import Lexicon, words_of
from espnet_plugin.corpora.switch_text_link import Link
from espnet_plugin.corpora.switch_text_rules import Rules, Side, refusal
from espnet_plugin.text.tags.tokens import plain

LONGEST = 10  # words of a phrase
REORDERED = "word order differs"
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
    to: list[list[int]] = [[] for _ in matrix.words]
    back: list[list[int]] = [[] for _ in other.words]
    for a, b in links:
        to[a].append(b)
        back[b].append(a)
    own, foreign = rules[matrix.language], rules[other.language]
    found = []
    for first, linked in enumerate(to):
        if not linked:
            continue
        low, high = len(back), -1
        for last in range(first, min(first + LONGEST, len(to))):
            if last > first and not matrix.joined[last - 1]:
                break
            if not to[last]:
                if matrix.words[last] in own.small:
                    continue
                break  # a word that would be lost
            low, high = min(low, *to[last]), max(high, *to[last])
            if high - low >= LONGEST:
                break
            if not _closed(first, last, low, high, back, other, foreign):
                continue
            if _reordered(matrix, first, last, to, low, high) or _reordered(
                other, low, high, back, first, last
            ):
                refused[REORDERED] += 1
                continue
            start = _with_determiner(first, to, matrix, own)
            left = _with_determiner(low, back, other, foreign)
            words, tags = other.words[left : high + 1], other.tags[left : high + 1]
            reason = refusal(matrix, start, last, words, tags, rules, codes)
            if not reason and other.torn(left, high):
                reason = "inside a name or number"
            if not reason and any(
                (beside, place) in synonyms
                for beside in (start - 1, last + 1)
                for place in range(left, high + 1)
            ):
                reason = "meaning said twice"
            if reason:
                refused[reason] += 1
                continue
            text = other.text[other.starts[left] : other.ends[high]]
            found.append(Phrase(start, last, text, len(words), _opens(other, left)))
    return found


def _closed(
    first: int,
    last: int,
    low: int,
    high: int,
    back: Sequence[Sequence[int]],
    other: Side,
    rules: Rules,
) -> bool:
    """Tell whether the words `low` to `high` translate nothing else, and are one phrase."""
    for place in range(low, high + 1):
        if place > low and not other.joined[place - 1]:
            return False
        if not back[place] and other.words[place] not in rules.small:
            return False
        if any(not first <= a <= last for a in back[place]):
            return False
    return True


def _reordered(
    side: Side, first: int, last: int, linked: Sequence[Sequence[int]], low: int, high: int
) -> bool:
    """Tell whether the nearest linked words beside a phrase go to its other side."""
    place = first
    while place and side.joined[place - 1]:
        place -= 1
        if linked[place]:
            if max(linked[place]) > high:
                return True
            break
    place = last
    while place + 1 < len(linked) and side.joined[place]:
        place += 1
        if linked[place]:
            return min(linked[place]) < low
    return False


def _with_determiner(first: int, linked: Sequence[Sequence[int]], side: Side, rules: Rules) -> int:
    """Take along a determiner that translates nothing."""
    before = first - 1
    takes = before >= 0 and side.joined[before] and not linked[before]
    return before if takes and side.words[before] in rules.determiners else first


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
