"""Praat TextGrids as transcribers left them: every encoding, every defect that was seen.

A reader of our own, because the libraries refuse what occurs in the National Speech Corpus. Tried
on the cases of `tests/corpora/test_textgrid.py` (+: reads it; -: fails, or loses intervals):

| case | praatio 6.2 | TextGrid 1.6 | tgt 1.5 | praat-parselmouth 0.4 (GPL) | here |
| --- | --- | --- | --- | --- | --- |
| UTF-8, UTF-16 with mark; short form; CRLF | + | + | + | + | + |
| UTF-8 with byte order mark | + | + | - | + | + |
| UTF-16 without mark | - | - | - | + | + |
| Western 8-bit | - | - | - | + | + |
| no header, long and short form | - | - | - | - | + |
| overlapping intervals | - | - | - | + | + |
| an interval without duration | - | - | + | - | + |
| an interval with negative duration | - | - | - | - | + |
| quotes that are not doubled | + | + | + | - | + |
| cut in the middle | - | - | unnoticed | - | noticed |
| Praat's binary form | - | - | - | + | + |

What is wrong with an interval is for the caller to judge: times are returned as they are written.
"""

import codecs
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

BINARY = b"ooBinaryFile\x08TextGrid"
# Praat's long form. A text ends at the last quote before the next label, so that quotes that are
# not doubled do no harm.
_LONG = re.compile(
    r"xmin\s*=\s*(?P<start>[-+\d.eE]+)\s+xmax\s*=\s*(?P<end>[-+\d.eE]+)\s+text\s*=\s*"
    r'"(?P<text>.*?)"[ \t]*(?=[\r\n]+\s*(?:intervals|item|points)\b|\s*\Z)',
    re.DOTALL,
)
_LONG_CLASS = re.compile(r'class\s*=\s*"(\w+)"\s+name\s*=\s*"([^"\r\n]*)"')
_LONG_SIZE = re.compile(r"intervals:\s*size\s*=\s*(\d+)")
_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?<![^\s"])(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?=[\s"]|\Z)'
)


class TextGridError(ValueError):
    """Not a TextGrid, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time and what is said in it.

    Attributes:
        start: Seconds.
        end: Seconds; may be before `start`, in a damaged file.
        text: As written, white space at its ends removed.
    """

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Tier:
    """An interval tier.

    Attributes:
        name: As it is called; unpredictable.
        intervals: In the order of the file.
        lost: How many more the file announces: it is cut or damaged.
    """

    name: str
    intervals: list[Interval]
    lost: int = 0


def decode(data: bytes) -> str:
    """Decode a transcript whatever program wrote it.

    A byte order mark decides; without one, NUL bytes in every other place mean UTF-16; else it is
    UTF-8, and where it is not, Windows's Western encoding (every byte is a character there).
    """
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
    ):
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    head = data[:400]
    if head.count(0) > len(head) // 4:
        even, odd = head[::2].count(0), head[1::2].count(0)
        return data.decode("utf-16-le" if odd > even else "utf-16-be", "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def read_textgrid(data: bytes) -> list[Tier]:
    """Read the interval tiers of a TextGrid.

    Args:
        data: The file's content: text in long or short form, with or without header, or binary.

    Returns:
        The tiers; point tiers are left out.

    Raises:
        TextGridError: Nothing in it is an interval, or a binary file is cut.
    """
    if data.startswith(b"ooBinaryFile"):
        try:
            return list(_read_binary(data))
        except (struct.error, IndexError):
            raise TextGridError(f"cut or damaged binary TextGrid of {len(data)} bytes") from None
    text = decode(data)
    tiers = _read_long(text) if "xmax" in text else _read_short(text)
    if not tiers:
        raise TextGridError("holds no interval; an empty or cut file, or no TextGrid")
    return tiers


def speech_tier(tiers: list[Tier]) -> Tier:
    """Return the tier with the most intervals that say something.

    Raises:
        TextGridError: There is no tier.
    """
    if not tiers:
        raise TextGridError("holds no interval tier")
    return max(tiers, key=lambda tier: sum(bool(i.text) for i in tier.intervals))


def _interval(start: str, end: str, text: str) -> Interval:
    try:
        return Interval(float(start), float(end), text.replace('""', '"').strip())
    except ValueError:
        raise TextGridError(f"times {start!r} and {end!r} are no numbers") from None


def _read_long(text: str) -> list[Tier]:
    """Read the form with labels; what stands before the first interval is not needed."""
    places = [(m.start(), m[1], m[2]) for m in _LONG_CLASS.finditer(text)]
    starts = [place for place, _, _ in places] or [0]
    tiers: list[Tier] = []
    for number, start in enumerate(starts):
        name = places[number][2] if places else ""
        if places and places[number][1] != "IntervalTier":
            continue
        stop = starts[number + 1] if number + 1 < len(starts) else len(text)
        found = [
            _interval(match[1], match[2], match[3]) for match in _LONG.finditer(text, start, stop)
        ]
        size = _LONG_SIZE.search(text, start, stop)
        tiers.append(Tier(name, found, max(0, int(size[1]) - len(found)) if size else 0))
    return tiers if any(tier.intervals for tier in tiers) or places else []


def _read_short(text: str) -> list[Tier]:
    """Read the form without labels: two numbers and a string are an interval, wherever they are."""
    tiers: list[tuple[str, list[Interval], int]] = []
    numbers: list[str] = []
    previous = ""
    in_points = starts = False
    for match in _TOKEN.finditer(text):
        if match["number"] is not None:
            numbers.append(match["number"])
            continue
        value = match["text"]
        if previous in ("IntervalTier", "TextTier") and not numbers:
            in_points, starts = previous == "TextTier", True
            if not in_points:
                tiers.append((value, [], 0))
        elif len(numbers) >= 2 and not in_points and value not in ("IntervalTier", "TextTier"):
            if starts and len(numbers) == 5:  # the tier's start, end and size come first
                tiers[-1] = tiers[-1][0], [], int(float(numbers[2]))
            if not tiers:
                tiers.append(("", [], 0))
            tiers[-1][1].append(_interval(numbers[-2], numbers[-1], value))
            starts = False
        previous, numbers = value, []
    return [Tier(name, found, max(0, size - len(found))) for name, found, size in tiers]


def _read_binary(data: bytes) -> Iterator[Tier]:
    """Read Praat's binary form: big-endian doubles, and strings with their length before them."""
    position = len(BINARY) if data.startswith(BINARY) else -1
    if position < 0:
        raise TextGridError(f"a binary file of another kind: {data[:24]!r}")

    def take(form: str) -> tuple[float, ...]:
        nonlocal position
        values = struct.unpack_from(form, data, position)
        position += struct.calcsize(form)
        return values

    def string(form: str) -> str:
        nonlocal position
        (length,) = take(form)
        wide = length == 0xFFFF  # then UTF-16 follows
        if wide:
            (length,) = take(">H")
        size = int(length) * (2 if wide else 1)
        if position + size > len(data):
            raise IndexError
        raw = data[position : position + size]
        position += size
        return raw.decode("utf-16-be" if wide else "latin-1", "replace")

    _, _, exists = take(">ddB")
    (count,) = take(">i") if exists else (0,)
    for _ in range(int(count)):
        kind, name = string(">B"), string(">H")
        _, _, size = take(">ddi")
        if kind == "IntervalTier":
            intervals = []
            for _ in range(int(size)):
                start, end = take(">dd")
                intervals.append(Interval(start, end, string(">H").strip()))
            yield Tier(name, intervals)
        elif kind == "TextTier":
            for _ in range(int(size)):
                take(">d")
                string(">H")
        else:
            raise TextGridError(f"a tier of the unknown kind {kind!r}")
