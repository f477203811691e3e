"""Which recorded phrases say a line: the same utterance, the same speaker, else another one.

Each run of words in one language has to be recorded as it stands (or, where more pieces are
allowed, in few parts). The speaker of the line is, of those that say most of it, the one that has
spoken least so far; the sentence that the line was made of comes first, because its pieces fit
together best. Runs that this speaker has not said are taken from others, unless that is forbidden.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_plugin.corpora.keyed import keyed_random
from espnet_plugin.corpora.splice_bank import Bank, Source, token_key
from espnet_plugin.corpora.synthesiser_lines import SpokenLine

SAME_SPEAKER = ("preferred", "required")


class NotRecordedError(ValueError):
    """A line that the bank cannot say; `reason` in few words, the message has the phrase."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a recorded utterance; times in seconds from the utterance's start.

    Attributes:
        source: The utterance.
        language: Its language.
        start: Where its first word begins.
        end: Where its last word ends.
        before: Pause before it in the utterance; None where it is the first.
        after: Pause behind it; None where it is the last.
        times: ``(start, end, words)`` of its timed stretches.
    """

    source: Source
    language: str
    start: float
    end: float
    before: float | None
    after: float | None
    times: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A line and the pieces that say it, whoever speaks them."""

    line: SpokenLine
    speaker: str
    pieces: tuple[Piece, ...]


class Planner:
    """Finds pieces for lines, in their order; speakers are balanced over all of them.

    Args:
        bank: The recorded phrases.
        max_pieces: Parts that a run of one language may be put together from.
        same_speaker: ``preferred`` or ``required``.
        seed: Draws among equals.
    """

    def __init__(self, bank: Bank, max_pieces: int, same_speaker: str, seed: int) -> None:
        if same_speaker not in SAME_SPEAKER:
            raise ValueError(f"same_speaker is '{same_speaker}', not {' or '.join(SAME_SPEAKER)}")
        if max_pieces < 1:
            raise ValueError(f"max_pieces is at least 1, got {max_pieces}")
        self._bank, self._seed, self._max_pieces = bank, seed, max_pieces
        self._required = same_speaker == "required"
        self.spoken: Counter[str] = Counter()  # lines by speaker
        self._helped: Counter[str] = Counter()  # phrases lent to lines of others
        self._used: Counter[int] = Counter()  # by position

    def plan(self, line: SpokenLine) -> Job:
        """Choose the pieces of a line.

        Raises:
            NotRecordedError: A phrase that nobody says, or not the same speaker.
            ValueError: A token in two languages.
        """
        runs = [
            (language, tokens, tuple(key for token in tokens if (key := token_key(token))))
            for language, tokens in line.runs
        ]
        parts: list[tuple[str, list[str], tuple[str, ...]]] = []
        for run in runs:
            if not run[2]:
                raise NotRecordedError("phrase without a word", " ".join(run[1]))
            parts += self._split(*run)
        found = [self._bank.find(language, keys) for language, _, keys in parts]
        origin = self._bank.origin(line.origin)
        speaker = self._speaker(line, parts, found, origin)
        positions = [
            self._choose(line, n, positions, speaker, origin) for n, positions in enumerate(found)
        ]
        for number, (position, (_, _, keys)) in enumerate(zip(positions, parts, strict=True)):
            if self._bank.speaker(position) != speaker:
                if self._required:
                    raise NotRecordedError("not by the same speaker", " ".join(keys))
                self._helped[self._bank.speaker(position)] += 1
            self._used[positions[number]] += 1
        self.spoken[speaker] += 1
        pieces = [
            self._piece(language, tokens, len(keys), position)
            for (language, tokens, keys), position in zip(parts, positions, strict=True)
        ]
        return Job(line, speaker, tuple(pieces))

    def _split(
        self, language: str, tokens: list[str], keys: tuple[str, ...]
    ) -> list[tuple[str, list[str], tuple[str, ...]]]:
        """Cut a run into phrases that are recorded: the longest first, from the left."""
        parts: list[tuple[str, list[str], tuple[str, ...]]] = []
        while keys:
            length = len(keys)
            if len(parts) + 1 < self._max_pieces:
                while length and not len(self._bank.find(language, keys[:length])):
                    length -= 1
            if not length or not len(self._bank.find(language, keys[:length])):
                raise NotRecordedError("phrase not recorded", f"{language}: {' '.join(keys)}")
            taken = with_words(tokens, length)
            if length == len(keys):
                taken = len(tokens)
            parts.append((language, tokens[:taken], keys[:length]))
            tokens, keys = tokens[taken:], keys[length:]
        return parts

    def _speaker(
        self,
        line: SpokenLine,
        parts: Sequence[tuple[str, list[str], tuple[str, ...]]],
        found: Sequence[np.ndarray],
        origin: int | None,
    ) -> str:
        """Choose who says the line."""
        words: Counter[str] = Counter()
        for (_, _, keys), positions in zip(parts, found, strict=True):
            for speaker in {self._bank.speaker(position) for position in positions.tolist()}:
                words[speaker] += len(keys)
        if origin is not None and self._bank.sources[origin].speaker in words:
            return self._bank.sources[origin].speaker
        most = max(words.values())
        best = sorted(speaker for speaker, count in words.items() if count == most)
        draw = keyed_random(self._seed, "speaker", line.number, line.text).random
        return min(best, key=lambda speaker: (self.spoken[speaker], draw()))

    def _choose(
        self,
        line: SpokenLine,
        number: int,
        positions: np.ndarray,
        speaker: str,
        origin: int | None,
    ) -> int:
        """Choose one of a phrase's recordings."""
        bank = self._bank
        places = positions.tolist()
        same = [p for p in places if int(bank.owners[p]) == origin]
        same = same or [p for p in places if bank.speaker(p) == speaker]
        draw = keyed_random(self._seed, "piece", line.number, number, line.text).random
        if same:
            return min(same, key=lambda p: (self._used[p], draw()))
        return min(places, key=lambda p: (self._helped[bank.speaker(p)], self._used[p], draw()))

    def _piece(self, language: str, tokens: Sequence[str], length: int, position: int) -> Piece:
        """Describe a recording of a phrase; its times count the line's tokens."""
        bank = self._bank
        number = int(bank.owners[position])
        first, last = int(bank.firsts[number]), int(bank.firsts[number + 1]) - 2
        end = position + length - 1
        # tokens of the line that have no word go with the word before them (or the first one)
        counts: list[int] = []
        for token in tokens:
            if token_key(token):
                counts.append(1)
            elif counts:
                counts[-1] += 1
        counts[0] += len(tokens) - sum(counts)
        times, since, words = [], position, 0
        for place in range(position, end + 1):
            words += counts[place - position]
            if not np.isnan(bank.ends[place]):
                times.append((float(bank.starts[since]), float(bank.ends[place]), words))
                since, words = place + 1, 0
        start, stop = float(bank.starts[position]), float(bank.ends[end])
        before = after = 0.0
        if position > first and not np.isnan(bank.ends[position - 1]):
            before = max(0.0, start - float(bank.ends[position - 1]))
        if end < last and not np.isnan(bank.starts[end + 1]):
            after = max(0.0, float(bank.starts[end + 1]) - stop)
        return Piece(
            bank.sources[number],
            language,
            start,
            stop,
            None if position == first else before,
            None if end == last else after,
            tuple(times),
        )


def with_words(tokens: Sequence[str], words: int) -> int:
    """Return how many tokens hold so many with words."""
    for number, token in enumerate(tokens, 1):
        words -= bool(token_key(token))
        if not words:
            return number
    return len(tokens)
