"""A marked-up transcript to what is trained on: plain text, a tag for each word, the language.

`text.markup` unwraps the markup and `text.normalizer` counts words: the tags are those that scoring
will find for the same text. Normalising takes several hundred microseconds a sentence, so the words
of a token are remembered; that is exact, because the rules for Malay and mixed text look at one
token at a time, and Whisper's English ones do, except at numbers and apostrophes.
"""

import difflib
import functools
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from espnet_plugin.text.markup import Segment, unwrap
from espnet_plugin.text.normalizer import HESITATIONS, normalize
from espnet_plugin.text.whisper_rules import whisper_normalizer

LANGUAGES = ("ms", "en", "zh", "ta")  # tags that are languages
_MARKUP = re.compile(r"[<>\[\](){}#!*~|_]")
_HESITATION = re.compile(rf"\(\s*(?:{'|'.join(sorted(HESITATIONS))})\s*\)", re.IGNORECASE)
_SPACE_BEFORE = re.compile(r"\s+(?=[,.?;:!](?:\s|$))")
_PLAIN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_BRACKETS = str.maketrans(dict.fromkeys("<>[](){}", " "))


@dataclass(frozen=True)
class Marked:
    """A transcript without its markup.

    Attributes:
        text: Words as written; hesitations in brackets, cut and unknown words are gone.
        tags: One for each word of ``normalize(text, lang)``: ``ms en zh ta other num name shared``.
        lang: ``cs`` where Malay is mixed with another language, else the language of most words.
        segments: What it was made of, for `join_marked`.
    """

    text: str
    tags: list[str]
    lang: str
    segments: tuple[Segment, ...] = field(repr=False)


@functools.lru_cache(maxsize=1 << 18)
def _words(text: str, lang: str) -> tuple[str, ...]:
    return tuple(normalize(text, lang).words)


@functools.cache
def _number_words() -> frozenset[str]:
    """Words that Whisper's English rules join with their neighbours."""
    numbers = whisper_normalizer("en").standardize_numbers  # type: ignore[attr-defined]
    return frozenset(numbers.words) | {"and", "st", "nd", "rd", "th", "s"}


def _english_runs(tokens: Sequence[str]) -> Iterator[list[int]]:
    """Split English where Whisper's rules surely look at the sides apart; yields places of tokens.

    A plain word that is no number stands alone. All else stays with its neighbours of that kind.
    """
    numbers = _number_words()
    if any(token[0] == "'" or token == "half" for token in tokens):  # join with what is before
        yield list(range(len(tokens)))
        return
    run: list[int] = []
    for place, token in enumerate(tokens):
        if _PLAIN.fullmatch(token) and token.lower().partition("'")[0] not in numbers:
            if run:
                yield run
            yield [place]
            run = []
        else:
            run.append(place)
    if run:
        yield run


def word_tags(segments: Sequence[Segment], lang: str, default: str) -> list[str]:
    """Return a tag for each normalised word.

    Args:
        segments: Unwrapped text, without brackets.
        lang: Language whose rules apply.
        default: Tag of words that the markup says nothing of.

    Returns:
        As many tags as ``normalize`` of the joined text has words.
    """
    pairs = [(token, s.tag or default) for s in segments for token in s.text.split()]
    tokens = [token for token, _ in pairs]
    if lang in ("ms", "cs"):
        runs: Iterable[list[int]] = ([place] for place in range(len(tokens)))
    elif lang == "en":
        runs = _english_runs(tokens)
    else:
        runs = [list(range(len(tokens)))]
    tags: list[str] = []
    for run in runs:
        words = _words(" ".join(tokens[place] for place in run), lang)
        kinds = {pairs[place][1] for place in run}
        if len(kinds) == 1:
            spread = [pairs[run[0]][1]] * len(words)
        else:
            spread = _spread([pairs[place] for place in run], words, lang, default)
        tags += ["num" if w[0].isdigit() else tag for w, tag in zip(words, spread, strict=True)]
    return tags


def _spread(
    pairs: Iterable[tuple[str, str]], whole: Sequence[str], lang: str, default: str
) -> list[str]:
    """Carry tags over to words that were normalised together, by aligning with those apart."""
    apart = [(word, tag) for token, tag in pairs for word in _words(token, lang)]
    tags = [default] * len(whole)
    matcher = difflib.SequenceMatcher(None, [word for word, _ in apart], whole, autojunk=False)
    for start, here, length in matcher.get_matching_blocks():
        tags[here : here + length] = [tag for _, tag in apart[start : start + length]]
    return tags


def read_marked(raw: str, default: str = "en") -> Marked:
    """Read a transcript with the National Speech Corpus's markup.

    Args:
        raw: The transcript.
        default: Language of words that the markup says nothing of.

    Returns:
        Its text, tags and language. The text is empty where there is nothing but noise.
    """
    if _MARKUP.search(raw):
        segments = [
            Segment(text, segment.tag)
            for segment in unwrap(_HESITATION.sub(" ", raw))
            if (text := " ".join(segment.text.translate(_BRACKETS).split()))
        ]
    else:
        segments = [Segment(raw, None)]
    return _marked(segments, default)


def join_marked(parts: Iterable[Marked], default: str = "en") -> Marked:
    """Join transcripts that follow each other into one."""
    return _marked([segment for part in parts for segment in part.segments], default)


def _marked(segments: list[Segment], default: str) -> Marked:
    text = _SPACE_BEFORE.sub("", " ".join(" ".join(s.text for s in segments).split()))
    tags = word_tags(segments, "cs", default)
    lang = language_of(tags, default)
    if lang != "cs":
        tags = word_tags(segments, lang, default)
    return Marked(text, tags, lang, tuple(segments))


def language_of(tags: list[str], default: str) -> str:
    """Name an utterance's language by the tags of its words.

    ``cs`` is Malay with any other language: what a Malay-English system is for. English with a word
    of Mandarin or Tamil is English.
    """
    counts = Counter(tag for tag in tags if tag in LANGUAGES)
    if not counts:
        return default
    if "ms" in counts and len(counts) > 1:
        return "cs"
    return max(counts, key=lambda tag: (counts[tag], tag == default))
