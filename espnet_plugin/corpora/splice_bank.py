"""Recorded phrases: every run of words in monolingual utterances whose words have times.

The bank holds about 12 bytes a word and 100 an utterance; while a directory is read, 1 kB an
utterance. A phrase is found by its rarest word and comparing what stands around it.
"""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from espnet_plugin.corpora.switch_text_lexicon import words_of
from espnet_plugin.data import DataDir

SEPARATOR = -1
OFFERED = 2000  # occurrences of a phrase that are looked at


def token_key(token: str) -> str:
    """Return a token (split at white space) as it is compared: its words, lower case."""
    return " ".join(words_of(token))


@dataclass(frozen=True, slots=True)
class Source:
    """Where an utterance is recorded.

    Attributes:
        utt: Its id.
        speaker: Its speaker.
        wav: The recording: a file, or a place in an ark.
        start: Where it begins in the recording, seconds.
        end: Where it ends; None for the recording's end.
    """

    utt: str
    speaker: str
    wav: str
    start: float
    end: float | None


class Bank:
    """Phrases of some data directories.

    Args:
        languages: Those that are wanted.

    Attributes:
        sources: The utterances.
        skipped: Utterances that are of no use, by reason.
    """

    def __init__(self, languages: Sequence[str]) -> None:
        self.sources: list[Source] = []
        self.skipped: Counter[str] = Counter()
        self._languages = languages
        self._vocabulary: dict[tuple[str, str], int] = {}
        self._tokens, self._owners = array("i"), array("i")
        self._starts, self._ends = array("f"), array("f")
        self._firsts: list[int] = []
        self._places: dict[str, list[int]] = {}  # text file -> utterance of each line, or -1

    def load(self, path: str | Path) -> None:
        """Add a data directory's utterances.

        Raises:
            FileNotFoundError: The directory or a table is missing.
            ValueError: Unusable tables, or times that do not fit the text, named by utterance.
        """
        data = DataDir.load(path)
        if "utt2times" not in data.extra:
            raise FileNotFoundError(
                f"{data.path}: has no utt2times; splicing needs the times of words "
                "(START:END:WORDS for each, as a forced aligner finds them)"
            )
        places = self._places.setdefault(str(Path(path) / "text"), [])
        for utt in data.utterances:
            reason, number = "", len(self.sources)
            language, wav = data.utt2lang[utt], data.wav.get(utt, "")
            start, end = 0.0, None
            if data.segments is not None:
                segment = data.segments[utt]
                wav, start = data.wav[segment.recording], segment.start
                end = None if segment.end < 0 else segment.end
            if language not in self._languages:
                reason = f"in '{language}'"
            elif wav.endswith("|"):
                reason = "recorded by a command; format the set first"
            elif not data.extra["utt2times"][utt]:
                reason = "without times"
            if reason:
                self.skipped[reason] += 1
                places.append(-1)
                continue
            self.sources.append(Source(utt, data.utt2spk[utt], wav, start, end))
            self._add(f"{data.path}: {utt}", language, data.text[utt], data.extra["utt2times"][utt])
            places.append(number)

    def _add(self, where: str, language: str, text: str, times: str) -> None:
        tokens = text.split()
        starts, ends = [np.nan] * len(tokens), [np.nan] * len(tokens)
        done = 0
        for part in times.split():
            try:
                first, second, third = part.split(":")
                start, end, count = float(first), float(second), int(third)
            except ValueError:
                raise ValueError(f"{where}: '{part}' in utt2times is not START:END:WORDS") from None
            if count and done + count <= len(tokens):
                starts[done], ends[done + count - 1] = start, end
            done += count
        if done != len(tokens):
            raise ValueError(f"{where}: times of {done} words, the text has {len(tokens)}")
        number = len(self.sources) - 1
        self._firsts.append(len(self._tokens))
        for token in tokens:
            key = language, token_key(token)
            self._tokens.append(self._vocabulary.setdefault(key, len(self._vocabulary)))
            self._owners.append(number)
        self._starts.extend(starts)
        self._ends.extend(ends)
        self._tokens.append(SEPARATOR)
        self._owners.append(number)
        self._starts.append(np.nan)
        self._ends.append(np.nan)

    def close(self) -> None:
        """Sort, once all directories are loaded.

        Raises:
            ValueError: There is no usable utterance.
        """
        if not self.sources:
            reasons = ", ".join(f"{reason}: {n}" for reason, n in self.skipped.most_common(5))
            raise ValueError(f"no utterance to splice from ({reasons or 'no directory'})")
        self.tokens = np.frombuffer(self._tokens, np.int32)
        self.owners = np.frombuffer(self._owners, np.int32)
        self.starts = np.frombuffer(self._starts, np.float32)
        self.ends = np.frombuffer(self._ends, np.float32)
        self.firsts = np.array([*self._firsts, len(self.tokens)])
        self._order = np.argsort(self.tokens, kind="stable")
        self._bounds = np.searchsorted(
            self.tokens[self._order], np.arange(len(self._vocabulary) + 1)
        )
        self.find = lru_cache(maxsize=100_000)(self._find)

    def origin(self, where: str) -> int | None:
        """Return the utterance that ``FILE:LINE`` names, None where it names none."""
        path, _, line = where.rpartition(":")
        places = self._places.get(path)
        if places is None or not line.isdigit() or not 0 < int(line) <= len(places):
            return None
        number = places[int(line) - 1]
        return None if number < 0 else number

    def _find(self, language: str, phrase: tuple[str, ...]) -> np.ndarray:
        """Find a phrase.

        Args:
            language: Its language.
            phrase: Keys of its tokens.

        Returns:
            Positions of its first word `(n,)`; only where its start and end are known.
        """
        ids = [self._vocabulary.get((language, word), -2) for word in phrase]
        if -2 in ids:
            return np.zeros(0, np.int64)
        sizes = [self._bounds[i + 1] - self._bounds[i] for i in ids]
        rarest = int(np.argmin(sizes))
        low, high = self._bounds[ids[rarest]], self._bounds[ids[rarest] + 1]
        found = self._order[low:high] - rarest
        found = found[(found >= 0) & (found + len(ids) < len(self.tokens))]
        for offset, number in enumerate(ids):
            found = found[self.tokens[found + offset] == number]
        known = ~np.isnan(self.starts[found]) & ~np.isnan(self.ends[found + len(ids) - 1])
        found = found[known]
        if len(found) > OFFERED:  # spread over all of them
            found = found[np.linspace(0, len(found) - 1, OFFERED).astype(np.int64)]
        return found

    def speaker(self, position: int) -> str:
        """Return who says the word at a position."""
        return self.sources[int(self.owners[position])].speaker

    def has(self, language: str, text: str) -> bool:
        """Tell whether a phrase is recorded."""
        phrase = tuple(key for token in text.split() if (key := token_key(token)))
        return bool(phrase) and len(self.find(language, phrase)) > 0
