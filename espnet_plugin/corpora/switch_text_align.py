"""Which words translate each other: statistics of a parallel corpus.

IBM model 1 (Brown et al. 1993) with fast_align's two additions: a prior for words at the same
relative place, and a sparse prior over translations (Dyer, Chahuneau and Smith, NAACL 2013). Both
directions are learnt by EM on a sample, in numpy; `switch_text_link` uses them.

Libraries were looked at: eflomal (GPL, and no wheels: it compiles C on the user's machine),
fast_align (no package), awesome-align and simalign (a multilingual BERT over each sentence; no
release since 2022), nltk's IBM models (pure Python: too slow for 100 000 pairs). What is needed
here is short, and replaced phrases are filtered anyway (`switch_text_rules`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy.special import digamma

from espnet_plugin.checkpoint import atomic_write

VERSION = 1
ITERATIONS = 5
NULL_SHARE = 0.08  # of words that translate nothing
TENSION = 4.0  # how strongly words keep their relative place
SPARSE = 0.01  # concentration of the Dirichlet prior over a word's translations
LEAST = 1e-3  # probability below which a translation is forgotten
MOST_WORDS = 60  # of a sentence to learn from
MOST_VOCABULARY = 200_000  # words of a language; rarer ones are not learnt
EVENTS = 2_000_000  # pairs of words worked on at a time
NULL = 0

WordPair = tuple[Sequence[str], Sequence[str]]


@lru_cache(maxsize=4096)
def places(first: int, second: int) -> np.ndarray:
    """Return `(first, second)` weights of a word's relative place; each column adds up to 1."""
    rows = (np.arange(first) + 0.5) / first
    columns = (np.arange(second) + 0.5) / second
    weights = np.exp(-TENSION * np.abs(rows[:, None] - columns[None, :]))
    return weights / weights.sum(0)


@dataclass
class Translations:
    """Learnt probabilities of words.

    Attributes:
        vocabularies: Word -> id of each language, from 1; 0 is no word.
        cells: `(n,)` int64, sorted: `first id * stride + second id`.
        forward: `(n,)` float32: probability of the second word given the first.
        backward: `(n,)` float32: of the first given the second.
        pairs: Pairs of sentences that they were learnt from.
    """

    vocabularies: tuple[dict[str, int], dict[str, int]]
    cells: np.ndarray
    forward: np.ndarray
    backward: np.ndarray
    pairs: int

    def __post_init__(self) -> None:
        self._stride = len(self.vocabularies[1]) + 1
        self._index = {cell: place for place, cell in enumerate(self.cells.tolist())}
        # one more at the end, of probability 0, for pairs that were never seen
        self._forward = np.append(self.forward, np.float32(0)).astype(np.float64)
        self._backward = np.append(self.backward, np.float32(0)).astype(np.float64)

    def probabilities(self, first: Sequence[str], second: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Look up all pairs of words.

        Args:
            first: Words in the first language, n.
            second: In the second, m.

        Returns:
            `(1 + n, m)` of the second words given the first, row 0 given nothing; and `(n, 1 + m)`
            of the first given the second.
        """
        one = [NULL, *(self.vocabularies[0].get(word, -1) for word in first)]
        two = [NULL, *(self.vocabularies[1].get(word, -1) for word in second)]
        index, stride, missing = self._index, self._stride, len(self.cells)
        places = np.array(
            [
                [index.get(a * stride + b, missing) if a >= 0 and b >= 0 else missing for b in two]
                for a in one
            ]
        )
        return self._forward[places[:, 1:]], self._backward[places[1:, :]]

    def save(self, path: Path) -> None:
        """Write to a `.npz` file, atomically."""
        with atomic_write(path) as file:
            np.savez(
                file,
                cells=self.cells,
                forward=self.forward,
                backward=self.backward,
                first=np.array(["\n".join(self.vocabularies[0])]),
                second=np.array(["\n".join(self.vocabularies[1])]),
                facts=np.array([VERSION, self.pairs]),
            )

    @classmethod
    def load(cls, path: Path) -> "Translations":
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            vocabularies = [
                {word: number for number, word in enumerate(str(data[name][0]).split("\n"), 1)}
                for name in ("first", "second")
            ]
            return cls(
                (vocabularies[0], vocabularies[1]),
                data["cells"],
                data["forward"],
                data["backward"],
                int(data["facts"][1]),
            )

    def lexicon(self, least: float = 0.3) -> list[tuple[str, str, float]]:
        """List words that translate each other with some probability both ways.

        Args:
            least: Smallest product of the two probabilities, square root taken.

        Returns:
            First word, second word and that value, the most certain first.
        """
        names = [["", *vocabulary] for vocabulary in self.vocabularies]
        certain = np.sqrt(self.forward.astype(np.float64) * self.backward)
        found = []
        for place in np.flatnonzero(certain >= least).tolist():
            first, second = divmod(int(self.cells[place]), self._stride)
            if first and second:
                found.append((names[0][first], names[1][second], float(certain[place])))
        return sorted(found, key=lambda entry: (-entry[2], entry[:2]))


def learn(pairs: Sequence[WordPair], iterations: int = ITERATIONS) -> Translations:
    """Learn which words translate each other.

    Args:
        pairs: Sentences as lower-case words, in both languages. The same pairs in the same order
            give the same numbers. 100 000 pairs of a dozen words take some 30 s and 1 GB.
        iterations: Of EM.

    Returns:
        The probabilities.

    Raises:
        ValueError: No pair to learn from.
    """
    pairs = [p for p in pairs if 0 < len(p[0]) <= MOST_WORDS and 0 < len(p[1]) <= MOST_WORDS]
    if not pairs:
        raise ValueError("no pair of sentences to learn translations from")
    vocabularies = (_vocabulary(p[0] for p in pairs), _vocabulary(p[1] for p in pairs))
    stride = len(vocabularies[1]) + 1
    chunks = [_events(chunk, vocabularies, stride) for chunk in _chunks(pairs)]
    cells = np.unique(np.concatenate([np.unique(chunk.cells) for chunk in chunks]))
    for chunk in chunks:
        chunk.cells = np.searchsorted(cells, chunk.cells).astype(np.int32)
    first, second = np.divmod(cells, stride)
    forward = _em(chunks, first, len(vocabularies[0]) + 1, "forward", iterations)
    backward = _em(chunks, second, stride, "backward", iterations)
    keep = (forward >= LEAST) | (backward >= LEAST)
    return Translations(
        vocabularies,
        cells[keep],
        forward[keep].astype(np.float32),
        backward[keep].astype(np.float32),
        len(pairs),
    )


def _vocabulary(sentences: Iterable[Sequence[str]]) -> dict[str, int]:
    counts = Counter(word for sentence in sentences for word in sentence)
    ordered = sorted(counts, key=lambda word: (-counts[word], word))[:MOST_VOCABULARY]
    return {word: number for number, word in enumerate(ordered, 1)}


def _chunks(pairs: Sequence[WordPair]) -> Iterable[list[WordPair]]:
    chunk: list[WordPair] = []
    events = 0
    for pair in pairs:
        chunk.append(pair)
        events += (len(pair[0]) + 1) * (len(pair[1]) + 1)
        if events >= EVENTS:
            yield chunk
            chunk, events = [], 0
    if chunk:
        yield chunk


@dataclass
class _Events:
    """All pairs of words of some sentences, with `no word` on either side.

    Attributes:
        cells: `(n,)` which pair of words: first an id, then a place among all pairs.
        weights: Prior by direction, `(n,)` float32: of the first word, or of the second.
        groups: By direction, `(n,)` int32: the word that is explained; -1 where it is no word.
        sizes: By direction: how many words are explained.
    """

    cells: np.ndarray
    weights: dict[str, np.ndarray]
    groups: dict[str, np.ndarray]
    sizes: dict[str, int]


def _events(
    pairs: Sequence[WordPair], vocabularies: tuple[dict[str, int], dict[str, int]], stride: int
) -> _Events:
    cells: list[np.ndarray] = []
    groups: dict[str, list[np.ndarray]] = {"forward": [], "backward": []}
    weights: dict[str, list[np.ndarray]] = {"forward": [], "backward": []}
    done = {"forward": 0, "backward": 0}
    for first, second in pairs:
        one = np.array([NULL, *(vocabularies[0].get(word, NULL) for word in first)])
        two = np.array([NULL, *(vocabularies[1].get(word, NULL) for word in second)])
        n, m = len(first), len(second)
        cells.append((one[:, None] * stride + two[None, :]).ravel())
        rows, columns = np.indices((n + 1, m + 1))
        prior = np.full((n + 1, m + 1), NULL_SHARE)
        prior[1:, 1:] = (1 - NULL_SHARE) * places(n, m)
        unseen = (one[:, None] == NULL) & (rows > 0) | (two[None, :] == NULL) & (columns > 0)
        for name, explained, transposed in (("forward", columns, False), ("backward", rows, True)):
            weight = prior
            if transposed:
                weight = np.full((n + 1, m + 1), NULL_SHARE)
                weight[1:, 1:] = (1 - NULL_SHARE) * places(m, n).T
            group = np.where((explained == 0) | unseen, -1, explained - 1 + done[name])
            groups[name].append(group.ravel())
            weights[name].append(weight.ravel())
        done["forward"] += m
        done["backward"] += n
    return _Events(
        np.concatenate(cells),
        {name: np.concatenate(w).astype(np.float32) for name, w in weights.items()},
        {name: np.concatenate(g).astype(np.int32) for name, g in groups.items()},
        done,
    )


def _em(
    chunks: Sequence[_Events], given: np.ndarray, size: int, name: str, iterations: int
) -> np.ndarray:
    """Return the probability of each cell given one of its words.

    Args:
        chunks: The events.
        given: `(cells,)` the word that is given.
        size: How many such words there are.
        name: The direction.
        iterations: How often.
    """
    table = np.ones(len(given))
    for _ in range(iterations):
        counts = np.zeros(len(given))
        for chunk in chunks:
            use = chunk.groups[name] >= 0
            cells, groups = chunk.cells[use], chunk.groups[name][use]
            share = table[cells] * chunk.weights[name][use]
            total = np.bincount(groups, share, minlength=chunk.sizes[name])
            share /= np.maximum(total[groups], 1e-300)
            counts += np.bincount(cells, share, minlength=len(given))
        totals = np.bincount(given, counts, minlength=size)
        kinds = np.bincount(given, counts > 0, minlength=size)
        table = np.exp(digamma(counts + SPARSE) - digamma(totals + SPARSE * kinds)[given])
        table[counts == 0] = 0.0
    totals = np.bincount(given, table, minlength=size)
    return table / np.maximum(totals[given], 1e-300)
