"""From the exchangeable phrases of a sentence to switched sentences with the wanted patterns.

Several candidates are drawn for each sentence: how often to switch, where and for how many words
comes from the target distributions, and those phrases are taken that come nearest. Which candidate
is kept is decided afterwards, by what the text made so far lacks (`switch_text_choose`).
"""

import math
import random
import re
from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from espnet_plugin.corpora.switch_text_phrases import Phrase
from espnet_plugin.corpora.switch_text_rules import Side

_EDGE = re.compile(r"(\W*)(.*?)(\W*)", re.DOTALL)
EVEN_FIRST = 0.15  # of lines with an even number of switches: those that begin embedded
WIDTH = 0.7  # words: how much a phrase of another length than wanted is disliked


@dataclass(frozen=True, slots=True)
class Switched:
    """A sentence that switches: its stretches `(text, language)`, which join to its text."""

    stretches: tuple[tuple[str, int], ...]
    matrix: int

    @property
    def text(self) -> str:
        """The sentence as written."""
        return "".join(text for text, _ in self.stretches)

    @property
    def markup(self) -> str:
        """The sentence with its stretches in the second language in square brackets."""
        return "".join(f"[{text}]" if lang else text for text, lang in self.stretches)


class Drawer:
    """Draws candidates.

    Args:
        targets: Histograms as shares, by the names of `switch_patterns`.
        shortest_inner: Fewest words between two embedded phrases.
        tries: Candidates to draw for a sentence; equal ones count once.
    """

    def __init__(
        self, targets: Mapping[str, np.ndarray], shortest_inner: int, tries: int = 8
    ) -> None:
        if tries < 1:
            raise ValueError(f"tries is at least 1, got {tries}")
        self._tries, self._gap = tries, max(1, shortest_inner)
        self._sums = {
            name: list(accumulate(targets[name].tolist()))
            for name in ("switches", "embedded", "matrix")
        }
        first, _, last = targets["place"].tolist()
        self._first = first / (first + last) if first + last else 0.5

    def _draw(self, name: str, rng: random.Random) -> int:
        sums = self._sums[name]
        return min(bisect(sums, rng.random() * sums[-1]), len(sums) - 1)

    def draw(
        self,
        sides: Sequence[Side | None],
        phrases: Sequence[Sequence[Phrase]],
        codes: Sequence[str],
        rng: random.Random,
    ) -> list[Switched]:
        """Draw switched sentences.

        Args:
            sides: The sentence in both languages; None where it is not in one.
            phrases: What can be replaced in each.
            codes: The languages, whose words are counted between phrases.
            rng: Draws.

        Returns:
            At most `tries` different ones, perhaps none.
        """
        usable = [language for language in (0, 1) if sides[language] and phrases[language]]
        if not usable:
            return []
        fields = {}
        for language in usable:
            side = sides[language]
            assert side is not None
            fields[language] = _Field(side, phrases[language], codes)
        found: dict[tuple[int, ...], Switched] = {}
        for _ in range(self._tries):
            matrix = self._draw("matrix", rng)
            matrix = matrix if matrix in fields else usable[0]
            chosen = self._choose(fields[matrix], rng)
            key = (matrix, *chosen)
            if chosen and key not in found:
                found[key] = fields[matrix].build(chosen)
        return list(found.values())

    def _choose(self, field: "_Field", rng: random.Random) -> list[int]:
        """Choose phrases for a drawn pattern, from the left; empty where they do not suffice."""
        runs = 1 + max(1, self._draw("switches", rng))
        first = rng.random() < (self._first if runs % 2 == 0 else EVEN_FIRST)
        chosen: list[int] = []
        reach = -1  # words spoken before the next phrase may begin
        for run in range(runs):
            if (run % 2 == 0) != first:
                continue
            wanted = max(1, self._draw("embedded", rng))
            options = field.options(run == 0, run == runs - 1, reach)
            if not options:
                return []
            weights = [
                math.exp(-abs(field.phrases[option].size - wanted) / WIDTH) for option in options
            ]
            option = rng.choices(options, weights)[0]
            chosen.append(option)
            reach = field.spoken_after[option] + self._gap
        return chosen


class _Field:
    """The phrases of a sentence, by place."""

    def __init__(self, side: Side, phrases: Sequence[Phrase], codes: Sequence[str]) -> None:
        self.side, self.phrases = side, phrases
        spoken = [tag in codes[:2] for tag in side.tags]
        before = [0, *accumulate(map(int, spoken))]  # words of a language before each word
        self.spoken_before = [before[phrase.first] for phrase in phrases]
        self.spoken_after = [before[phrase.last + 1] for phrase in phrases]
        self._all = before[-1]

    def options(self, opens: bool, closes: bool, reach: int) -> list[int]:
        """Return phrases that may be the next: first of the line, last, or inside; past `reach`."""
        return [
            n
            for n in range(len(self.phrases))
            if (self.spoken_before[n] == 0) == opens
            and (self.spoken_after[n] == self._all) == closes
            and self.spoken_before[n] >= reach
        ]

    def build(self, chosen: Sequence[int]) -> Switched:
        """Put phrases into the sentence."""
        side, pieces, done = self.side, [], 0
        capital = side.text[side.starts[0]].isupper()
        for number in chosen:
            phrase = self.phrases[number]
            pieces.append((side.text[done : side.starts[phrase.first]], side.language))
            text = _recase(phrase, capital and phrase.first == 0)
            pieces.append((text, 1 - side.language))
            done = side.ends[phrase.last]
        pieces.append((side.text[done:], side.language))
        return Switched(_stretches(pieces), side.language)


def _recase(phrase: Phrase, capital: bool) -> str:
    """Give a phrase the capital of its new place: one at the start, none it had as a start."""
    text = phrase.text
    if capital:
        return text[:1].upper() + text[1:]
    word = text.split()[0]
    # "I", "I'm" and words in capitals throughout stay
    if phrase.opening and word[:1].isupper() and word[1:2].islower():
        return text[:1].lower() + text[1:]
    return text


def _stretches(pieces: Sequence[tuple[str, int]]) -> tuple[tuple[str, int], ...]:
    """Leave space and punctuation at the edges of second-language stretches to the first."""
    found: list[tuple[str, int]] = []

    def add(text: str, language: int) -> None:
        if text and found and found[-1][1] == language:
            found[-1] = (found[-1][0] + text, language)
        elif text:
            found.append((text, language))

    for text, language in pieces:
        if language:
            match = _EDGE.fullmatch(text)
            assert match is not None
            for part, lang in zip(match.groups(), (0, 1, 0), strict=True):
                add(part, lang)
        else:
            add(text, 0)
    return tuple(found)
