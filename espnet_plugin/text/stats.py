"""Statistics of a tagged text corpus: how much there is, and how much of it switches language.

Counters are whole numbers and sums, so parts of a corpus can be counted anywhere and merged in any
order, with the same result. The figures are derived from them at the end; a line is an utterance,
and no measure reaches from one line into the next, because neighbours in a corpus of the web have
nothing to do with each other. Words tagged `other num name shared` belong to no language; measures
of switching pass over them.

| figure | definition |
| --- | --- |
| `cmi` | of a line 100 (1 - words of its main language / words of any language); 0 without such words (Das and Gamback 2014; `espnet_plugin.score.cmi`) |
| switch points | of a line: neighbouring words of a language whose languages differ |
| `m_index` | (1 - sum p²) / ((k - 1) sum p²), p the share of each of k languages among the words: 0 one language, 1 equal shares (Barnett et al. 2000; Guzmán et al. 2017) |
| `i_index` | switch points / pairs of neighbouring words of a language: 0 never, 1 always (Guzmán et al. 2017) |
| `burstiness` | (s - m) / (s + m), m mean and s standard deviation of the lengths of one-language spans: -1 regular, 0 as by chance, towards 1 in bursts (Goh and Barabási 2008; Guzmán et al. 2017) |

Guzmán et al., "Metrics for modeling code-switching across corpora", Interspeech 2017, treat a
corpus as one sequence of words. Ours differ where lines are not a sequence: pairs and spans end
with the line, and spans are those of lines that switch (the length of another line says nothing
about switching). Languages with under 1 % of the words are left out of the M-index: k counts
languages, so that a tagger's few stray words of a third would halve it.
"""  # noqa: E501

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np

from espnet_plugin.score.switching import INDEPENDENT, LANGUAGES
from espnet_plugin.text.source_counts import SourceCounts
from espnet_plugin.text.stats_report import LIMITS, Limits, table, warnings

VERSION = 1

CMI_STEP = 5  # width of a bin of the CMI histogram
CMI_BINS = 100 // CMI_STEP
MOST_SWITCHES = 20  # lines with more share the last bin
MOST_SPAN = 20
LENGTH_BINS = 16  # words of a line: 0, 1, 2-3, 4-7, ...
TOP_SOURCES = 20
REPRESENTED = 0.01  # least share of the words for a language to count in the M-index
_CMI_UNIT = 10**8  # a line's CMI is summed in millionths of a percent: exact in any order


class TextStats:
    """Counters of a corpus or a part of it.

    Attributes:
        tags: What the codes mean, in order.
        languages: Those of the tags that are languages.
        langs: Lines by language (`cs ms en ...`).
        sources: Lines by source.
    """

    def __init__(self, tags: Sequence[str] = (*LANGUAGES, *INDEPENDENT)) -> None:
        """Begin with nothing counted.

        Args:
            tags: the tagger's tags; all but `other num name shared` are languages.

        Raises:
            ValueError: none of the tags is a language, or one comes twice.
        """
        self.tags = tuple(tags)
        self.languages = tuple(tag for tag in self.tags if tag not in INDEPENDENT)
        if not self.languages or len(set(self.tags)) < len(self.tags):
            raise ValueError(
                f"tags are {' '.join(self.tags) or 'none'}; allowed are different ones, at least "
                f"one of them a language (none of {' '.join(INDEPENDENT)})"
            )
        # A code's place among the languages, or -1.
        self._places = np.array(
            [self.languages.index(tag) if tag in self.languages else -1 for tag in self.tags],
            np.int8,
        )
        pairs = len(self.languages) ** 2
        self.langs: Counter[str] = Counter()
        self.sources = SourceCounts()
        self._counts: dict[str, np.ndarray] = {
            name: np.zeros(size, np.int64)
            for name, size in {
                "lines": 1,
                "lines_with_tokens": 1,
                "tokens": 1,
                "tags": len(self.tags),  # words of each tag
                "lines_without_language": 1,  # no word of any language
                "cmi": CMI_BINS + 1,  # CMI 0, then over (i - 1) steps up to i steps
                "cmi_sum": 1,
                "switches": MOST_SWITCHES + 2,  # lines with 0, 1, ... switch points; more
                "switch_pairs": pairs,  # switches from one language to another
                "neighbours": 1,  # pairs of neighbouring words of a language
                "spans": MOST_SPAN + 2,  # of lines that switch, with 0 (none), 1, ... words; more
                "span_words": 1,
                "span_squares": 1,
                "lengths": LENGTH_BINS + 1,
            }.items()
        }

    def add_block(
        self,
        codes: np.ndarray,
        n_words: np.ndarray,
        tokens: np.ndarray | None,
        langs: Sequence[str],
        sources: Sequence[str] | None = None,
        keep: np.ndarray | None = None,
    ) -> None:
        """Count the lines of a block.

        Args:
            codes: `(words,)` uint8, the lines' tags one after the other, as indices of `tags`.
            n_words: `(lines,)` integers, words of each line.
            tokens: `(lines,)` integers, tokens of each line; None where not known.
            langs: language of each line.
            sources: source of each line; None leaves them uncounted.
            keep: `(lines,)` bool; only lines where it is True are counted; None for all.

        Raises:
            ValueError: the lengths disagree, or a code stands for no tag.
        """
        n = len(n_words)
        given = {"langs": langs, "tokens": tokens, "sources": sources, "keep": keep}
        for name, value in given.items():
            if value is not None and len(value) != n:
                raise ValueError(f"{name} has {len(value)} entries for {n} lines")
        if int(np.sum(n_words)) != len(codes):
            raise ValueError(f"{len(codes)} tags for lines of {int(np.sum(n_words))} words in all")
        if len(codes) and int(codes.max()) >= len(self.tags):
            raise ValueError(f"tag code {int(codes.max())}; there are {len(self.tags)} tags")
        if keep is not None:
            codes = codes[np.repeat(keep, n_words)]
            n_words = np.asarray(n_words)[keep]
            tokens = None if tokens is None else np.asarray(tokens)[keep]
            langs = list(compress(langs, keep))
            sources = None if sources is None else list(compress(sources, keep))
        self.langs.update(langs)
        if sources is not None:
            self.sources.add_block(sources)
        if tokens is not None:
            self._counts["tokens"] += int(np.sum(tokens, dtype=np.int64))
            self._counts["lines_with_tokens"] += len(tokens)
        self._add_words(codes, np.asarray(n_words, np.int64))

    def _add_words(self, codes: np.ndarray, n_words: np.ndarray) -> None:
        counts, n, k = self._counts, len(n_words), len(self.languages)
        counts["lines"] += n
        counts["tags"] += np.bincount(codes, minlength=len(self.tags))
        bits = np.frexp(n_words)[1]  # 0, 1, 2-3, 4-7, ... words have 0, 1, 2, 3, ... bits
        counts["lengths"] += np.bincount(np.minimum(bits, LENGTH_BINS), minlength=LENGTH_BINS + 1)

        places = self._places[codes]
        spoken = places >= 0
        line = np.repeat(np.arange(n), n_words)[spoken]
        language = places[spoken].astype(np.int64)
        by_line = np.bincount(line * k + language, minlength=n * k).reshape(n, k)
        total = by_line.sum(axis=1)
        mixed, divisor = total - by_line.max(axis=1), np.maximum(total, 1)
        counts["lines_without_language"] += np.count_nonzero(total == 0)
        counts["cmi"] += np.bincount(-(-CMI_BINS * mixed // divisor), minlength=CMI_BINS + 1)
        counts["cmi_sum"] += np.sum((_CMI_UNIT * mixed + divisor // 2) // divisor)

        same_line = line[1:] == line[:-1]
        change = same_line & (language[1:] != language[:-1])
        switches = np.bincount(line[1:][change], minlength=n)
        counts["neighbours"] += np.count_nonzero(same_line)
        counts["switches"] += _histogram(switches, MOST_SWITCHES)
        pair = language[:-1][change] * k + language[1:][change]
        counts["switch_pairs"] += np.bincount(pair, minlength=k * k)

        starts = np.flatnonzero(np.concatenate([[True], change | ~same_line])[: len(line)])
        spans = np.diff(np.concatenate([starts, [len(line)]]))
        spans = spans[switches[line[starts]] > 0]
        counts["spans"] += _histogram(spans, MOST_SPAN)
        counts["span_words"] += spans.sum()
        counts["span_squares"] += (spans * spans).sum()

    def merge(self, other: "TextStats") -> None:
        """Add the counters of another part of the corpus.

        Raises:
            ValueError: it was counted with other tags.
        """
        if other.tags != self.tags:
            raise ValueError(
                f"statistics with tags {' '.join(other.tags)} cannot be merged with those of "
                f"{' '.join(self.tags)}"
            )
        for name, counts in other._counts.items():
            self._counts[name] += counts
        self.langs.update(other.langs)
        self.sources.merge(other.sources)

    def histogram(self, name: str) -> np.ndarray:
        """Return a histogram: `cmi`, `switches`, `spans` or `lengths` (bins: see the counters)."""
        return self._counts[name].copy()

    def directions(self) -> dict[str, int]:
        """Count the switch points by direction, `"ms en"` from Malay to English."""
        names = [f"{a} {b}" for a in self.languages for b in self.languages]
        counts = zip(names, self._counts["switch_pairs"].tolist(), strict=True)
        return {name: count for name, count in counts if count}

    @property
    def lines(self) -> int:
        """Lines counted."""
        return int(self._counts["lines"][0])

    @property
    def words(self) -> int:
        """Words counted."""
        return int(self._counts["tags"].sum())

    @property
    def tokens(self) -> int | None:
        """Tokens counted; None where those of some line are not known."""
        known = self._counts["lines_with_tokens"][0] == self.lines
        return int(self._counts["tokens"][0]) if known else None

    def figures(self) -> dict[str, Any]:
        """Derive the figures (see the module); None where there is nothing to divide by."""
        counts = self._counts
        lines, words, tokens = self.lines, self.words, self.tokens
        tags = dict(zip(self.tags, counts["tags"].tolist(), strict=True))
        by_language = {language: tags[language] for language in self.languages}
        spoken = sum(by_language.values())
        switching = lines - int(counts["switches"][0])
        points = int(counts["switch_pairs"].sum())
        cmi_sum = int(counts["cmi_sum"][0]) / 10**6
        spans = int(counts["spans"].sum())
        span_words, squares = int(counts["span_words"][0]), int(counts["span_squares"][0])
        return {
            "lines": lines,
            "words": words,
            "tokens": tokens,
            "words_per_line": _ratio(words, lines),
            "tokens_per_line": None if tokens is None else _ratio(tokens, lines),
            "lines_by_language": _shares(self.langs, lines),
            "words_by_tag": _shares(tags, words),
            "words_by_language": _shares(by_language, spoken),
            "lines_switching": _ratio(switching, lines),
            "cmi": _ratio(cmi_sum, lines),
            "cmi_of_switching_lines": _ratio(cmi_sum, switching),
            "switch_points": points,
            "switch_points_per_line": _ratio(points, lines),
            "m_index": _m_index(by_language.values()),
            "i_index": _ratio(points, int(counts["neighbours"][0])),
            "span_length": _ratio(span_words, spans),
            "burstiness": _burstiness(spans, span_words, squares),
            "top_sources": [[name, count] for name, count in self.sources.top(TOP_SOURCES)],
            "sources": len(self.sources.counts) if self.sources.exact else None,
        }

    def to_json(self) -> dict[str, Any]:
        """Return counters (what `from_json` reads) and figures."""
        return {
            "version": VERSION,
            "tags": list(self.tags),
            "counts": {name: counts.tolist() for name, counts in self._counts.items()},
            "langs": dict(sorted(self.langs.items())),
            "sources": self.sources.to_json(),
            "figures": self.figures(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TextStats":
        """Read what `to_json` returned.

        Raises:
            ValueError: it is of another version or incomplete.
        """
        if value.get("version") != VERSION:
            raise ValueError(
                f"text statistics of version {value.get('version')}; this program reads {VERSION}"
            )
        stats = cls(value["tags"])
        for name, counts in stats._counts.items():
            found = value["counts"].get(name, [])
            if len(found) != len(counts):
                raise ValueError(
                    f"text statistics: {name} has {len(found)} counts, not {len(counts)}"
                )
            counts += np.array(found, np.int64)
        stats.langs = Counter(value["langs"])
        stats.sources = SourceCounts.from_json(value["sources"])
        return stats

    def describe(self) -> str:
        """Return the figures as a Markdown table."""
        return table({"corpus": self.figures()})

    def warnings(self, before: "TextStats | None" = None, limits: Limits = LIMITS) -> list[str]:
        """Say in words what makes the corpus unfit for learning to switch.

        Args:
            before: the statistics before the filters, for how much they dropped.
            limits: when to warn.

        Returns:
            A sentence or two each; nothing where all is well.
        """
        return warnings(self.figures(), None if before is None else before.figures(), limits)


def _histogram(values: np.ndarray, most: int) -> np.ndarray:
    """Count the values 0, 1, ..., `most`, and those above."""
    return np.bincount(np.minimum(values, most + 1), minlength=most + 2)


def _ratio(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _shares(counts: Mapping[str, int], whole: int) -> dict[str, float]:
    """Shares of what occurs, the largest first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {name: count / whole for name, count in ranked if count}


def _m_index(words: Iterable[int]) -> float | None:
    """Return the M-index of the languages' words; None where no word has a language."""
    counts = np.array(list(words), float)
    counts = counts[counts >= max(REPRESENTED * counts.sum(), 1)]
    if not len(counts):
        return None
    squares = float(np.sum((counts / counts.sum()) ** 2))
    return (1 - squares) / ((len(counts) - 1) * squares) if len(counts) > 1 else 0.0


def _burstiness(spans: int, words: int, squares: int) -> float | None:
    """Return the burstiness of spans from their number, their words and the squares' sum."""
    if not spans:
        return None
    # Whole numbers up to the root: equal spans have a deviation of 0, not of rounding.
    deviation = math.sqrt(spans * squares - words * words)
    return (deviation - words) / (deviation + words)
