"""Text that costs a corpus pipeline what Malay-English web text costs: for benchmarks alone.

Words are real and drawn by Zipf's law (wordfreq's lists in the order of their frequency), languages
by a Markov chain, lengths log-normally. The lines say nothing. Added are what the web has: repeated
lines, links, handles, hashtags, emoji, entities, stretched and unheard-of words, blank lines, bytes
that are no UTF-8.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

CHUNK = 50_000  # lines made at a time, each chunk from a seed of its own
MEAN_WORDS = 13.0
REPEATED = 0.1
EMOJI = ("😂", "🔥🔥", "❤️", "👍🏽", "🇲🇾", "😭😭😭")
SITES = ("https://t.co/", "www.contoh.my/berita/", "http://example.com/?q=")


def _vocabulary() -> tuple[np.ndarray, np.ndarray]:
    """Return the words of both languages `(2, words)` and their cumulative probabilities."""
    import wordfreq

    lists = [wordfreq.top_n_list(language, 25_000) for language in ("ms", "en")]
    size = min(map(len, lists))
    weights = 1 / (np.arange(size) + 2.7)
    words = np.array([words[:size] for words in lists], dtype=object)
    return words, np.cumsum(weights / weights.sum())


def _noise(rng: np.random.Generator) -> dict[float, Callable[[str], str]]:
    """Return what may happen to a line, by how often."""

    def number() -> int:
        return int(rng.integers(1 << 30))

    return {
        0.05: lambda line: f"{line} {SITES[number() % 3]}{number():x}",
        0.04: lambda line: f"{line} {EMOJI[number() % len(EMOJI)]}",
        0.03: lambda line: f"@user{number() % 100_000} {line}",
        0.02: lambda line: f"{line} #BolehLah{number() % 1000}",
        0.015: lambda line: line.replace(" ", " &amp; ", 1),
        0.012: lambda line: f"{line} so{'o' * (number() % 9)}",
        0.01: lambda line: f"<b>{line}</b>",
        0.008: lambda line: f"{line} 谢谢",
        0.006: lambda line: "",
        0.005: lambda line: line.replace("a", "\u00e0", 2),
        0.004: lambda line: f"<|0.00|>{line}<|endoftext|>",
        0.001: lambda line: f"{line} \udcff\udcfe",  # becomes bytes that are no UTF-8
    }


def _lines(number: int, size: int, words: np.ndarray, cumulative: np.ndarray) -> list[str]:
    rng = np.random.default_rng([7, number])
    counts = np.clip(rng.lognormal(np.log(MEAN_WORDS) - 0.18, 0.6, size), 1, 120).astype(int)
    total = int(counts.sum())
    mixed = rng.random(size) < 0.5
    switches = (rng.random(total) < 0.25) & np.repeat(mixed, counts)
    start = np.repeat(rng.random(size) < 0.4, counts)
    language = (np.cumsum(switches) % 2 * np.repeat(mixed, counts) + start) % 2
    places = np.minimum(np.searchsorted(cumulative, rng.random(total)), words.shape[1] - 1)
    drawn = words[language, places].tolist()
    for place in np.flatnonzero(rng.random(total) < 0.01).tolist():
        drawn[place] = f"{drawn[place]}{np.base_repr(int(rng.integers(1 << 40)), 36).lower()}"
    for place in np.flatnonzero(rng.random(total) < 0.05).tolist():
        drawn[place] += ","
    ends = np.cumsum(counts).tolist()
    lines = [" ".join(drawn[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    for place in np.flatnonzero(rng.random(size) < 0.6).tolist():
        lines[place] = lines[place].capitalize() + "."
    for share, change in _noise(rng).items():
        for place in np.flatnonzero(rng.random(size) < share).tolist():
            lines[place] = change(lines[place])
    for place in np.flatnonzero(rng.random(size) < REPEATED).tolist():
        lines[place] = lines[int(rng.integers(size))]
    return lines


def write_web_text(path: Path, lines: int) -> int:
    """Write a text file of so many lines, the same each time; return its size in bytes."""
    words, cumulative = _vocabulary()
    with open(path, "wb") as file:
        for number, low in enumerate(range(0, lines, CHUNK)):
            made = _lines(number, min(CHUNK, lines - low), words, cumulative)
            file.write(("\n".join(made) + "\n").encode("utf-8", "surrogateescape"))
        return file.tell()
