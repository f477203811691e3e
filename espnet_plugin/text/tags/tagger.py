"""Word-level language tags: one tag for each word, by lexicon, identifier and context."""

import hashlib
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from espnet_plugin.text.tags import context, tokens
from espnet_plugin.text.tags.context import Masks, after, before
from espnet_plugin.text.tags.pair import KINDS, Pair, load_pair
from espnet_plugin.text.tags.table import (
    CAPITAL,
    COMMON,
    ENDS,
    FOREIGN,
    HEAD,
    LINK,
    MAYBE,
    NAMELIKE,
    STRANGE,
    TITLE,
    WORD,
    Table,
)

VERSION = "2"  # raised whenever any tag changes
CACHED = 300_000  # pieces of text that are remembered
LOUD = 0.6  # capitals say nothing in a line where a larger share of the words has one
MIXED = 0.1  # share of each of two languages from which a line is code-switched

Codes = NDArray[np.uint8]
Counts = NDArray[np.int32]


class Tagger:
    """Tags the words of lines in two languages that share a script.

    Everything about a word out of context is worked out once and remembered, up to a limit; what
    context adds is array arithmetic over a block of lines. Tags depend on the text and the
    configuration alone, never on what was tagged before. An instance can be pickled; the copy loads
    the lexicons again.

    Attributes:
        pair: the configuration.
        tags: the tag vocabulary; codes are indices into it.
        languages: codes of the pair's two languages.
        fingerprint: of method, configuration and lexicons: where it is equal, tags are.
    """

    def __init__(self, pair: Pair, cached: int = CACHED) -> None:
        """Load the pair's lexicons (about a second).

        Args:
            pair: the configuration.
            cached: pieces of text to remember; past that everything is forgotten. 300 000 take
                about 200 MB.

        Raises:
            ValueError: the configuration names a lexicon that does not exist.
        """
        self.pair = pair
        self.tags = pair.tags
        self.languages = tuple(language.code for language in pair.languages)
        parts = [VERSION, pair.digest()]
        parts += [version(name) for name in ("wordfreq", "simplemma", "lingua-language-detector")]
        self.fingerprint = hashlib.sha256(" ".join(parts).encode()).hexdigest()
        self._cached = cached
        self._table = Table(pair)

    @classmethod
    def load(cls, pair: str | Path = "ms-en") -> "Tagger":
        """Make the tagger of a language pair.

        Args:
            pair: name of a pair that ships with the package, or a YAML file (keys: `pair.Pair`).

        Returns:
            The tagger.

        Raises:
            FileNotFoundError: neither a known name nor a file.
            ValueError: the configuration has an unknown key, a wrong value or a missing lexicon.
        """
        return cls(load_pair(pair))

    def __reduce__(self) -> tuple[type["Tagger"], tuple[Pair, int]]:
        return Tagger, (self.pair, self._cached)

    def words(self, text: str) -> list[str]:
        """Split a text into the words that get tags (see `tokens.words`)."""
        return [word for piece in text.split() for word in tokens.words(piece)]

    def tag(self, words: Sequence[str]) -> list[str]:
        """Tag the words of one line.

        Punctuation is not seen, so a capital after a full stop counts as one inside a sentence;
        `tag_block` sees it.

        Args:
            words: one word each, as `words` gives them.

        Returns:
            One tag for each word.

        Raises:
            ValueError: an empty word, or one with a space in it.
        """
        for word in words:
            if word.split() != [word]:
                raise ValueError(f"not one word: {word!r}; words are what Tagger.words gives")
        self._forget()
        codes = self._decide(self._table.words(words), np.array([len(words)], np.int32))
        return [self.tags[code] for code in codes]

    def tag_block(self, texts: Sequence[str]) -> tuple[Codes, Counts]:
        """Tag all words of many lines: the fast way, some microseconds a line.

        Args:
            texts: lines.

        Returns:
            Codes of all words, one line after the other, `(words,)`, and the number of words of
            each line, `(lines,)`.
        """
        self._forget()
        numbers, n_words = self._table.pieces(texts)
        return self._decide(numbers, n_words), n_words

    def line_language(self, codes: Codes) -> str:
        """Name the language of one line (see `line_languages`)."""
        return self.line_languages(codes, np.array([len(codes)], np.int32))[0]

    def line_languages(self, codes: Codes, n_words: Counts) -> list[str]:
        """Name each line's language by its words' tags.

        Args:
            codes: as `tag_block` gives them, `(words,)`.
            n_words: likewise, `(lines,)`.

        Returns:
            For each line `cs` where each language of the pair has a word and at least a tenth of
            the words that belong to any language (`other num name shared` do not); else the
            language with the most words, the first in `tags` where equal; `other` where no word
            belongs to any.
        """
        spoken = len(self.tags) - len(KINDS)
        line = np.repeat(np.arange(len(n_words)), n_words)
        counts = np.bincount(line * len(self.tags) + codes, minlength=len(n_words) * len(self.tags))
        counts = counts.reshape(len(n_words), len(self.tags))[:, :spoken]
        total = counts.sum(1)
        less = counts[:, :2].min(1)
        best = counts.argmax(1)
        best[(less > 0) & (less >= MIXED * total)] = spoken
        best[total == 0] = spoken + 1
        return np.array([*self.tags[:spoken], "cs", "other"])[best].tolist()

    def _forget(self) -> None:
        if self._table.size > self._cached:
            self._table.clear()

    def _decide(self, numbers: NDArray[np.int32], n_words: Counts) -> Codes:
        """Put together what is known of the words and of their neighbours."""
        table = self._table
        kinds, odds, flags = table.kinds[numbers], table.odds[numbers], table.flags[numbers]
        first = np.zeros(len(numbers), np.bool_)
        first[(np.cumsum(n_words) - n_words)[n_words > 0]] = True
        groups = table.groups[numbers]
        same = (groups > 0) & before(groups, first, equal=True)
        same |= after(same, first)
        kinds = np.where(same, groups - 1, kinds)
        named = groups == self.tags.index("name") + 1
        name = self._names(kinds, flags, named, first, n_words)
        odds[name | (kinds != WORD)] = 0.0
        second = context.posterior(odds, n_words) < 0
        codes = np.where(kinds == WORD, second, kinds).astype(np.uint8)
        codes[name] = self.tags.index("name")
        return codes

    def _names(
        self,
        kinds: Codes,
        flags: NDArray[np.uint16],
        in_names: Masks,
        first: Masks,
        n_words: Counts,
    ) -> Masks:
        """Find names: listed ones, capitals inside a sentence, and what stands beside a name."""

        def has(bit: int) -> Masks:
            return (flags & bit) > 0

        word = kinds == WORD
        start = first | before(has(ENDS), first)
        loud = context.share(has(CAPITAL) & ~start, word & ~start, n_words) > LOUD
        capital = has(CAPITAL) & ~loud
        inside = capital & ~start
        unusual = ~has(COMMON)
        titled = before(has(TITLE), first)
        found = unusual & (inside | (capital & has(NAMELIKE)) | (has(NAMELIKE) & has(FOREIGN)))
        found |= inside & has(MAYBE)
        found |= titled & (has(MAYBE) | has(NAMELIKE) | has(STRANGE) | (capital & unusual))
        name = (kinds == self.tags.index("name")) | (found & word)
        # A capital after a name goes on with it (Amerika Syarikat). Before one it may be a title or
        # an office (Menteri Pendidikan Fadhlina), unless it is no common word or known in names.
        joins = word & ((inside & ~has(HEAD | TITLE)) | has(LINK))
        opens = joins & (unusual | in_names)
        for _ in range(2):
            name |= (joins & before(name, first)) | (opens & after(name, first))
        # At the start of a sentence the word after it tells.
        return name | (word & capital & start & has(MAYBE) & after(name, first))
