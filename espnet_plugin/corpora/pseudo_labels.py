"""Which transcripts that a machine has made are good enough to train on.

| reason | what is wrong |
| --- | --- |
| `compression` | the text compresses too well: a loop, by Whisper's own test |
| `repetition` | the same words many times in a row (`terima kasih terima kasih ...`) |
| `slow speech` | too few words for the time: silence or music that was transcribed anyway |
| `fast speech` | too many |
| `language` | another language than those wanted, or too many words of none |
| `disagreement` | the model to be trained hears something else |
| `no hypothesis` | it has not heard it |

The first that applies counts. Words are those between spaces, and Chinese and Japanese characters.
"""

import functools
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import regex

from espnet_plugin.corpora.corpus import Option, Row, Skip
from espnet_plugin.corpora.hub_layout import words_of
from espnet_plugin.score import align
from espnet_plugin.text import normalize

if TYPE_CHECKING:
    from espnet_plugin.text.tags import Tagger

BLOCK = 512  # texts tagged at a time
LONGEST_LOOP = 12  # words
KINDS = ("compression", "repetition", "speed", "language")
_WORD = regex.compile(
    r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}\p{P}\p{S}]+"
)
_NEUTRAL = ("name", "num", "shared")  # tags that speak for no language


@dataclass(frozen=True)
class Limits:
    """What a pseudo-label must be.

    Attributes:
        kinds: Which of `KINDS` are looked at.
        max_compression: Bytes of the text by bytes after zlib; Whisper takes 2.4.
        max_repeats: How often words may follow themselves; the third `kanak kanak kanak` may be
            speech, the sixth is a loop.
        min_speed: Words a second.
        max_speed: Words a second; quick Malay has about five.
        languages: Codes of `espnet_plugin.text.tags`; text in two of its pair counts for both.
        max_foreign: Share of the words that may be of none of them.
        pair: The tagger's pair.
        max_wer: Errors by words of the label, where a hypothesis is given.
    """

    kinds: tuple[str, ...] = ("compression", "repetition", "speed")
    max_compression: float = 2.4
    max_repeats: int = 4
    min_speed: float = 0.3
    max_speed: float = 7.0
    languages: tuple[str, ...] = ("ms", "en")
    max_foreign: float = 0.2
    pair: str = "ms-en"
    max_wer: float = 0.3

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in KINDS:
                raise ValueError(f"filter '{kind}' is none of {' '.join(KINDS)}")
        for name in ("max_compression", "max_repeats", "min_speed", "max_speed", "max_foreign"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is 0 or more")
        if self.min_speed >= self.max_speed:
            raise ValueError(f"min_speed {self.min_speed} is not below max_speed {self.max_speed}")


OPTIONS = {
    "filter": Option(" ".join(Limits.kinds), "tests of pseudo-labels", (*KINDS, "none")),
    "max_compression": Option(str(Limits.max_compression), "bytes by bytes after zlib"),
    "max_repeats": Option(str(Limits.max_repeats), "times that words may follow themselves"),
    "min_speed": Option(str(Limits.min_speed), "words a second"),
    "max_speed": Option(str(Limits.max_speed), "words a second"),
    "languages": Option(" ".join(Limits.languages), "wanted languages (filter: language)"),
}


def read_limits(options: Mapping[str, str]) -> Limits:
    """Make limits of a corpus's options, those in `OPTIONS`.

    Raises:
        ValueError: Not a number, or out of range.
    """
    kinds = [kind for kind in words_of(options["filter"]) if kind != "none"]
    limits = Limits(kinds=tuple(kinds), languages=tuple(words_of(options["languages"])))
    for field in fields(Limits):
        if field.name in ("max_compression", "max_repeats", "min_speed", "max_speed"):
            try:
                value = type(getattr(limits, field.name))(options[field.name])
            except ValueError:
                raise ValueError(f"{field.name} is '{options[field.name]}', not a number") from None
            limits = replace(limits, **{field.name: value})
    return limits


def count_words(text: str) -> int:
    """Count words, and characters of scripts without spaces."""
    return len(_WORD.findall(text))


def compression(text: str) -> float:
    """Return how many times smaller zlib makes a text (below 1 for short ones)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def repeats(text: str) -> int:
    """Return how often a group of up to 12 words follows itself; 1 in ordinary text."""
    words = [word.casefold() for word in _WORD.findall(text)]
    most = min(len(words), 1)
    for size in range(1, min(LONGEST_LOOP, len(words) // 2) + 1):
        run = 0  # places in a row at which a word is that of `size` words before
        for place in range(size, len(words)):
            run = run + 1 if words[place] == words[place - size] else 0
            most = max(most, run // size + 1)
    return most


def label_wer(label: str, hypothesis: str, lang: str) -> float:
    """Return errors of a hypothesis by words of the label, both normalised as for scoring."""
    wanted, found = normalize(label, lang).words, normalize(hypothesis, lang).words
    if wanted == found:
        return 0.0
    return align(wanted, found).errors / max(len(wanted), 1)


@functools.lru_cache(maxsize=4)
def load_tagger(pair: str) -> "Tagger":
    """Load a tagger once; it needs the packages of the extra ``text``."""
    from espnet_plugin.text.tags import Tagger

    return Tagger.load(pair)


def wrong_language(texts: Sequence[str], limits: Limits) -> list[bool]:
    """Tell for each text whether it is in another language than those wanted.

    Raises:
        ValueError: A wanted language that the tagger has no tag for.
    """
    tagger = load_tagger(limits.pair)
    for language in limits.languages:
        if language not in tagger.tags:
            raise ValueError(f"languages: '{language}' is none of {' '.join(tagger.tags)}")
    codes, counts = tagger.tag_block(texts)
    good = [tagger.tags.index(name) for name in limits.languages]
    neutral = [tagger.tags.index(name) for name in _NEUTRAL]
    result, at = [], 0
    for count in counts.tolist():
        kinds = codes[at : at + count].tolist()
        at += count
        spoken = sum(kind not in neutral for kind in kinds)
        foreign = sum(kind not in neutral and kind not in good for kind in kinds)
        result.append(foreign > limits.max_foreign * spoken)
    return result


def find_bad(
    texts: Sequence[str], seconds: Sequence[float], limits: Limits
) -> list[tuple[str, str] | None]:
    """Judge labels by themselves.

    Args:
        texts: Their words.
        seconds: How long each one is.
        limits: What is good.

    Returns:
        For each the reason and what was found; None where it is good.
    """
    kinds = set(limits.kinds)
    found: list[tuple[str, str] | None] = []
    wrong = wrong_language(texts, limits) if "language" in kinds else [False] * len(texts)
    for text, length, other in zip(texts, seconds, wrong, strict=True):
        reason = None
        if "compression" in kinds and (ratio := compression(text)) > limits.max_compression:
            reason = "compression", f"{ratio:.2f}"
        elif "repetition" in kinds and (times := repeats(text)) > limits.max_repeats:
            reason = "repetition", f"{times} times"
        elif "speed" in kinds and length > 0:
            speed = count_words(text) / length
            if speed < limits.min_speed:
                reason = "slow speech", f"{speed:.2f} words/s"
            elif speed > limits.max_speed:
                reason = "fast speech", f"{speed:.2f} words/s"
        if reason is None and other:
            reason = "language", text[:80]
        found.append(reason)
    return found


def filtered(found: Iterable[Row | Skip], limits: Limits) -> Iterator[Row | Skip]:
    """Turn the rows of a corpus whose labels are bad into skips; the order stays.

    Args:
        found: What a corpus's `read` yields.
        limits: What is good.
    """
    block: list[Row | Skip] = []

    def judged() -> Iterator[Row | Skip]:
        rows = [row for row in block if isinstance(row, Row)]
        lengths = [row.seconds if row.end is None else row.end - (row.start or 0.0) for row in rows]
        reasons = iter(find_bad([row.text for row in rows], lengths, limits))
        for one in block:
            if isinstance(one, Row) and (reason := next(reasons)) is not None:
                yield Skip(one.name, f"pseudo-label: {reason[0]}", reason[1], one.items)
            else:
                yield one
        block.clear()

    for one in found:
        block.append(one)
        if len(block) >= BLOCK:
            yield from judged()
    yield from judged()


def relabelled(found: Iterable[Row | Skip], pair: str = "ms-en") -> Iterator[Row | Skip]:
    """Give rows the language of their words (``cs`` where mixed); the order stays.

    Rows in a language that is not of the pair, and those without a word of any, stay as they are.
    """
    tagger = load_tagger(pair)
    known = {"cs", *tagger.languages}
    block: list[Row | Skip] = []

    def named() -> Iterator[Row | Skip]:
        rows = [row for row in block if isinstance(row, Row) and row.lang in known]
        for row, lang in zip(
            rows, tagger.line_languages(*tagger.tag_block([r.text for r in rows])), strict=True
        ):
            row.lang = lang if lang in known else row.lang
        yield from block
        block.clear()

    for one in found:
        block.append(one)
        if len(block) >= BLOCK:
            yield from named()
    yield from named()
