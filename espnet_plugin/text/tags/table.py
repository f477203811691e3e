"""What is known of words and of pieces of text, remembered in arrays."""

from array import array
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import numpy as np
import regex
from numpy.typing import NDArray

from espnet_plugin.text.tags import tokens
from espnet_plugin.text.tags.lexicon import Evidence, Lexicon
from espnet_plugin.text.tags.pair import Pair

WORD = 255  # kind of a word of one of the two languages, which context decides
# What a word is besides, as bits:
CAPITAL = 1  # starts with a capital
COMMON = 2  # in a dictionary: no name by itself
NAMELIKE = 4  # quoted in both languages, in no dictionary
FOREIGN = 8  # not much more frequent in the first language: a name in lower case too
STRANGE = 16  # unknown to every list
MAYBE = 32  # a name that is a word too
TITLE = 64
LINK = 128
HEAD = 256
ENDS = 512  # a sentence ends after it

_KEPT = 300_000  # words whose evidence is kept at most
_SHORTEST_NAME = 4  # letters of a name that is told by its frequencies
_FOREIGN = 1.5  # log-odds of the first language below which a quoted word is foreign to it


class Table:
    """Words by number, and pieces of text between spaces as runs of words.

    A piece is what `str.split` yields: a word with its punctuation, or several. Looking a piece up
    is one dictionary access; the work for a new one is done once.

    Attributes:
        kinds: of each word, a tag's code or WORD, uint8.
        odds: log-odds of the pair's first language out of context, float32.
        flags: the bits above, uint16.
        groups: 1 + code of the tag that a word has beside others of the tag, or 0, uint8.
    """

    def __init__(self, pair: Pair) -> None:
        """Load the pair's lexicons."""
        self._pair = pair
        self._lexicon = Lexicon(pair)
        self._scripts = tokens.Scripts(pair.script, pair.scripts)
        codes = {tag: code for code, tag in enumerate(pair.tags)}
        self._codes = codes
        self._fixed = {word: codes[tag] for tag, words in pair.words.items() for word in words}
        self._together = {
            word: codes[tag] + 1
            for tag, words in pair.together.items()
            for word in words | pair.words.get(tag, frozenset())
        }
        self._patterns = [
            (codes[tag], regex.compile(pattern))
            for tag, patterns in pair.patterns.items()
            for pattern in patterns
        ]
        self._marks = (
            (pair.first_names, MAYBE),
            (pair.titles, TITLE),
            (pair.links, LINK),
            (pair.heads, HEAD),
        )
        self._evidence: dict[str, Evidence] = {}
        self.clear()

    def clear(self) -> None:
        """Forget everything but the evidence on known words, which soon come again."""
        kept = self._evidence if len(self._evidence) < _KEPT else {}
        self._evidence = {form: evidence for form, evidence in kept.items() if evidence.known}
        self._pieces = _Numbers(self._add_piece)
        self._words: dict[tuple[str, bool], int] = {}
        self._starts, self._counts, self._runs = array("i"), array("i"), array("i")
        self._kinds, self._odds = array("B"), array("f")
        self._flags, self._groups = array("H"), array("B")
        self._refresh()

    @property
    def size(self) -> int:
        """Pieces remembered, or what is as large."""
        return max(len(self._pieces), len(self._kinds), len(self._runs) // 4)

    def pieces(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Number the words of lines.

        Args:
            texts: lines.

        Returns:
            Numbers of all words, `(words,)`, and the number of words of each line, `(lines,)`.
        """
        split = [text.split() for text in texts]
        n_pieces = np.fromiter(map(len, split), np.int32, len(split))
        numbers = map(self._pieces.__getitem__, chain.from_iterable(split))
        rows = np.fromiter(numbers, np.int32, int(n_pieces.sum()))
        self._refresh()
        counts = self._piece_counts[rows]
        n_words = _sums(counts, n_pieces)
        offsets = np.cumsum(counts) - counts
        inside = np.arange(int(counts.sum())) - np.repeat(offsets, counts)
        return self._piece_runs[np.repeat(self._piece_starts[rows], counts) + inside], n_words

    def words(self, words: Iterable[str]) -> NDArray[np.int32]:
        """Number words that are given one by one."""
        numbers = np.array([self._word(word, False) for word in words], np.int32)
        self._refresh()
        return numbers

    def _refresh(self) -> None:
        """Make arrays of what has been added since the last time."""
        size = (len(self._starts), len(self._kinds))
        if size != getattr(self, "_seen", None):
            self._seen = size
            self._piece_starts = np.array(self._starts, np.int32)
            self._piece_counts = np.array(self._counts, np.int32)
            self._piece_runs = np.array(self._runs, np.int32)
            self.kinds = np.array(self._kinds, np.uint8)
            self.odds = np.array(self._odds, np.float32)
            self.flags = np.array(self._flags, np.uint16)
            self.groups = np.array(self._groups, np.uint8)

    def _add_piece(self, piece: str) -> int:
        found = tokens.words(piece)
        self._starts.append(len(self._runs))
        self._counts.append(len(found))
        last = len(found) - 1 if tokens.ends_sentence(piece) else -1
        self._runs.extend(self._word(word, at == last) for at, word in enumerate(found))
        return len(self._starts) - 1

    def _word(self, word: str, ends: bool) -> int:
        number = self._words.get((word, ends))
        if number is None:
            number = self._words[word, ends] = len(self._kinds)
            kind, odds, flags = self._analyse(word)
            self._kinds.append(kind)
            self._odds.append(odds)
            self._flags.append(flags | ENDS * ends)
            self._groups.append(self._together.get(tokens.plain(word), 0))
        return number

    def _analyse(self, word: str) -> tuple[int, float, int]:
        """Kind, log-odds and flags of a word out of context."""
        form = tokens.plain(word)
        flags = CAPITAL * word[0].isupper()
        for listed, bit in self._marks:
            flags |= bit * (form in listed)
        tag = self._scripts.tag(word)
        if tag is not None:
            return self._codes[tag], 0.0, flags
        code = self._fixed.get(word, self._fixed.get(form))
        if code is not None:
            return code, 0.0, flags
        for code, pattern in self._patterns:
            if pattern.fullmatch(form):
                return code, 0.0, flags
        if tokens.is_number(form):
            return self._codes["num"], 0.0, flags
        evidence = self._weigh(word, form)
        if evidence.cognate:
            return self._codes["shared"], 0.0, flags
        acronym = len(word) > 1 and word.isupper()
        known_acronym = acronym and evidence.known and not evidence.namelike
        flags |= COMMON * (evidence.common or known_acronym)
        flags |= NAMELIKE * evidence.namelike
        flags |= FOREIGN * (len(form) >= _SHORTEST_NAME and evidence.odds < _FOREIGN)
        flags |= STRANGE * (not evidence.known)
        return WORD, evidence.odds, flags

    def _weigh(self, word: str, form: str) -> Evidence:
        if word != form and (evidence := self._lexicon.listed(word)):
            return evidence  # in the configuration with its capitals
        evidence = self._evidence.get(form)
        if evidence is None:
            evidence = self._evidence[form] = self._lexicon.evidence(form)
        return evidence


class _Numbers(dict[str, int]):
    """Numbers of pieces; a new one is added when it is asked for."""

    def __init__(self, add: Callable[[str], int]) -> None:
        self._add = add

    def __missing__(self, piece: str) -> int:
        number = self[piece] = self._add(piece)
        return number


def _sums(values: NDArray[np.int32], lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    """Sum runs of values, `(runs,)`; an empty run is 0."""
    total = np.concatenate(([0], np.cumsum(values)))
    ends = np.cumsum(lengths)
    return (total[ends] - total[ends - lengths]).astype(np.int32)
