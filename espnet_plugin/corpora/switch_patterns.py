"""How people switch: the statistics of code-switched text that synthetic text has to follow.

They are measured on real text by the word tags (`text.tags.Tagger`), and text that is made is
measured in the same way, so that the tagger's mistakes are on both sides:

    python -m espnet_plugin.bin.synth_data patterns --input real.jsonl --output patterns.json

What is counted, of lines that switch between the pair's two languages; words that belong to no
language (`other num name shared`) are passed over, and lines with words of a third are left out:

| histogram | of |
| --- | --- |
| `cmi` | lines, by code-mixing index (`score.cmi`), in steps of 5 |
| `switches` | lines, by switch points |
| `matrix` | lines, by matrix language: the one of most words (the first where equal) |
| `embedded` | embedded stretches, by words: runs of words of the other language |
| `place` | embedded stretches: first of the line, last, or between two of the matrix language |
| `inner` | stretches of the matrix language between two embedded ones, by words |
| `directions` | switch points, by direction |

`switch_patterns_ms-en.json` beside this file is the default: the demo's 1 335 hand-written lines.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_plugin.checkpoint import read_json

if TYPE_CHECKING:
    from espnet_plugin.text.tags import Tagger

VERSION = 1
CMI_STEP = 5
CMI_BINS = 100 // CMI_STEP  # bin b holds indices over 5 (b - 1) up to 5 b
MOST_SWITCHES = 8
MOST_WORDS = 12  # longer stretches share the last bin
PLACES = ("first", "inside", "last")
SIZES = {
    "cmi": CMI_BINS + 1,
    "switches": MOST_SWITCHES + 1,
    "matrix": 2,
    "embedded": MOST_WORDS + 1,
    "place": len(PLACES),
    "inner": MOST_WORDS + 1,
    "directions": 2,  # first to second language, second to first
}
RARE = 0.01  # share below which a pattern is not one that people use


@dataclass(frozen=True, slots=True)
class Shape:
    """How a line switches; every number is a bin of the histogram of its name.

    Attributes:
        cmi: Bin of its code-mixing index.
        switches: Switch points, at most 8.
        matrix: 0 or 1: which language has most words.
        embedded: Words of each embedded stretch, at most 12.
        place: Place of each embedded stretch.
        inner: Words of each stretch of the matrix language between two embedded ones, at most 12.
        directions: Switches from the first language, and from the second.
        index: The code-mixing index itself, 0..100.
    """

    cmi: int
    switches: int
    matrix: int
    embedded: tuple[int, ...]
    place: tuple[int, ...]
    inner: tuple[int, ...]
    directions: tuple[int, int]
    index: float

    def bins(self) -> Iterable[tuple[str, Sequence[int]]]:
        """Yield each histogram's name and the bins that this line adds to."""
        yield "cmi", (self.cmi,)
        yield "switches", (self.switches,)
        yield "matrix", (self.matrix,)
        yield "embedded", self.embedded
        yield "place", self.place
        yield "inner", self.inner
        yield "directions", [0] * self.directions[0] + [1] * self.directions[1]


def shape_of(codes: Iterable[int], spoken: int) -> Shape | None:
    """Return how a line switches.

    Args:
        codes: Its words' tags as `Tagger.tag_block` codes them: 0 and 1 are the pair's languages.
        spoken: Codes below this are languages.

    Returns:
        Its shape; None where it does not switch, or has a word of a third language.
    """
    runs: list[list[int]] = []
    for code in codes:
        if code >= spoken:
            continue
        if code > 1:
            return None
        if runs and runs[-1][0] == code:
            runs[-1][1] += 1
        else:
            runs.append([code, 1])
    if len(runs) < 2:
        return None
    words = [sum(n for language, n in runs if language == which) for which in (0, 1)]
    matrix = 0 if words[0] >= words[1] else 1
    last = len(runs) - 1
    embedded, places, inner = [], [], []
    for position, (language, n) in enumerate(runs):
        if language != matrix:
            embedded.append(min(n, MOST_WORDS))
            places.append(0 if position == 0 else 2 if position == last else 1)
        elif 0 < position < last:
            inner.append(min(n, MOST_WORDS))
    first = runs[0][0]
    away = (last + 1) // 2  # switches from the language that the line begins with
    index = 100.0 * min(words) / sum(words)
    return Shape(
        math.ceil(index / CMI_STEP - 1e-9),
        min(last, MOST_SWITCHES),
        matrix,
        tuple(embedded),
        tuple(places),
        tuple(inner),
        (away, last - away) if first == 0 else (last - away, away),
        index,
    )


@dataclass
class Patterns:
    """Counted shapes.

    Attributes:
        languages: The pair's two languages.
        counts: A histogram `(bins,)` float64 by name; see the module.
        lines: Lines read.
        switching: Those that switch between the two languages.
        cmi_sum: Sum of their code-mixing indices.
        about: What they were measured on, and with which tagger.
    """

    languages: tuple[str, str]
    counts: dict[str, np.ndarray] = field(
        default_factory=lambda: {name: np.zeros(size) for name, size in SIZES.items()}
    )
    lines: int = 0
    switching: int = 0
    cmi_sum: float = 0.0
    about: dict[str, Any] = field(default_factory=dict)

    def add(self, shape: Shape) -> None:
        """Count a line that switches."""
        self.switching += 1
        self.cmi_sum += shape.index
        for name, bins in shape.bins():
            for number in bins:
                self.counts[name][number] += 1

    def shares(self, name: str) -> np.ndarray:
        """Return a histogram as shares `(bins,)` that add up to 1 (or all 0, where empty)."""
        counts = self.counts[name]
        return counts / max(counts.sum(), 1.0)

    @property
    def mean_cmi(self) -> float:
        """Mean code-mixing index of the lines that switch."""
        return self.cmi_sum / self.switching if self.switching else 0.0

    @property
    def shortest_inner(self) -> int:
        """Fewest words between two embedded stretches; runs that are rare do not count."""
        summed = np.cumsum(self.shares("inner"))
        return int(np.flatnonzero(summed >= RARE)[0]) if summed[-1] > 0 else MOST_WORDS

    @property
    def most_switches(self) -> int:
        """Most switch points of a line, rare lines left out."""
        above = np.cumsum(self.shares("switches")[::-1])[::-1]
        return int(np.flatnonzero(above >= RARE)[-1])

    def figures(self) -> dict[str, Any]:
        """Return means and shares, rounded, as a report shows them."""

        def mean(name: str) -> float | None:
            shares = self.shares(name)
            if not shares.sum():
                return None
            return round(float(np.arange(len(shares)) @ shares), 3)

        first, second = self.languages
        named = {
            "matrix": self.languages,
            "place": PLACES,
            "directions": (f"{first} {second}", f"{second} {first}"),
        }
        return {
            "lines": self.lines,
            "switching": self.switching,
            "cmi": round(self.mean_cmi, 2),
            "switches_per_line": mean("switches"),
            "embedded_words": mean("embedded"),
            "inner_words": mean("inner"),
        } | {
            name: {key: round(float(s), 4) for key, s in zip(keys, self.shares(name), strict=True)}
            for name, keys in named.items()
        }

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads, and the figures."""
        return {
            "version": VERSION,
            "languages": list(self.languages),
            "lines": self.lines,
            "switching": self.switching,
            "cmi_sum": self.cmi_sum,
            "counts": {name: counts.tolist() for name, counts in self.counts.items()},
            "about": self.about,
            "figures": self.figures(),
        }

    @classmethod
    def from_json(cls, value: Any, where: str) -> "Patterns":
        """Read what `to_json` returned.

        Args:
            value: The parsed JSON.
            where: The file, for messages.

        Raises:
            ValueError: It is something else, of another version, or damaged.
        """
        if not isinstance(value, dict) or value.get("version") != VERSION:
            found = value.get("version") if isinstance(value, dict) else type(value).__name__
            raise ValueError(
                f"{where}: no switch patterns of version {VERSION} (found {found}); "
                "synth_data patterns measures them"
            )
        try:
            patterns = cls(
                (str(value["languages"][0]), str(value["languages"][1])),
                {name: np.array(value["counts"][name], float) for name in SIZES},
                int(value["lines"]),
                int(value["switching"]),
                float(value["cmi_sum"]),
                dict(value["about"]),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ValueError(f"{where}: damaged switch patterns ({error!r})") from None
        for name, counts in patterns.counts.items():
            if counts.shape != (SIZES[name],) or not (counts >= 0).all():
                raise ValueError(f"{where}: {name} has to hold {SIZES[name]} counts")
        if not patterns.switching or not patterns.counts["embedded"].sum():
            raise ValueError(f"{where}: no line that switches was counted")
        return patterns


def read_patterns(path: str | Path | None, languages: Sequence[str]) -> Patterns:
    """Read measured patterns.

    Args:
        path: A file of `synth_data patterns`; None for the one that ships with the package.
        languages: The pair that they are for.

    Raises:
        FileNotFoundError: No such file, or none ships for this pair.
        ValueError: Not patterns, or those of other languages.
    """
    if path is None:
        path = Path(__file__).with_name(f"switch_patterns_{'-'.join(languages)}.json")
        if not path.is_file():
            raise FileNotFoundError(
                f"no switch patterns ship for {'-'.join(languages)}: measure them on real text "
                "(synth_data patterns) and give --patterns FILE"
            )
    patterns = Patterns.from_json(read_json(path), str(path))
    if patterns.languages != tuple(languages):
        raise ValueError(
            f"{path}: patterns of {' '.join(patterns.languages)}, not {' '.join(languages)}"
        )
    return patterns


def measure(texts: Iterable[Sequence[str]], tagger: "Tagger") -> Patterns:
    """Measure how text switches.

    Args:
        texts: Blocks of lines.
        tagger: Tags the words.

    Returns:
        The patterns.
    """
    first, second = tagger.languages
    patterns = Patterns((first, second), about={"tagger": tagger.fingerprint})
    spoken = spoken_codes(tagger)
    third = 0
    for block in texts:
        codes, n_words = tagger.tag_block(block)
        start = 0
        values = codes.tolist()
        for n in n_words.tolist():
            line = values[start : start + n]
            start += n
            patterns.lines += 1
            shape = shape_of(line, spoken)
            if shape is not None:
                patterns.add(shape)
            elif any(1 < code < spoken for code in line):
                third += 1
    patterns.about["lines_with_a_third_language"] = third
    return patterns


def spoken_codes(tagger: "Tagger") -> int:
    """Return how many of the tagger's codes, from 0, are languages."""
    from espnet_plugin.score.switching import INDEPENDENT

    return len([tag for tag in tagger.tags if tag not in INDEPENDENT])


def tilt(shares: np.ndarray, values: np.ndarray, mean: float) -> np.ndarray:
    """Bend a distribution to another mean, as little as possible.

    Of all distributions with that mean, shares times `exp(a * value)` is the nearest to the
    measured one (least relative entropy); `a` is found by bisection.

    Args:
        shares: `(bins,)`, adding up to 1.
        values: `(bins,)`, the value of each bin.
        mean: The wanted mean.

    Returns:
        `(bins,)`.

    Raises:
        ValueError: The mean is not between the values that occur.
    """
    there = shares > 0
    low, high = values[there].min(), values[there].max()
    if not low < mean < high:
        raise ValueError(f"a mean of {mean:g} is not between {low:g} and {high:g}, as measured")
    offset = values - mean

    def bent(a: float) -> np.ndarray:
        exponent = np.where(there, a * offset, -np.inf)
        weights = np.where(there, shares, 0) * np.exp(exponent - exponent.max())
        return weights / weights.sum()

    left, right = -10.0, 10.0
    for _ in range(80):
        middle = (left + right) / 2
        left, right = (middle, right) if bent(middle) @ values < mean else (left, middle)
    return bent((left + right) / 2)


def distance(reached: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Compare two sets of histograms, each as shares.

    Returns:
        By name the total variation distance: the share that would have to be moved, 0..1.
    """
    return {
        name: round(float(np.abs(reached[name] - target[name]).sum() / 2), 4) for name in target
    }
