"""A marked-up transcript to what is trained on: plain text, a tag for each word, the language.

`text.markup` unwraps the markup and `text.normalizer` counts words: the tags are those that scoring
will find for the same text. Normalising takes several hundred microseconds a sentence, so the words
of a token are remembered; that is exact, because the rules for Malay and mixed text look at one
token at a time, and Whisper's English ones do, except at numbers and apostrophes.
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from espnet_plugin.text.markup import Segment, unwrap
from espnet_plugin.text.normalizer import HESITATIONS, normalize
from espnet_plugin.text.whisper_rules import whisper_normalizer

LANGUAGES = ("ms", "en", "zh", "ta")  # tags that are languages
_MARKUP = re.compile(r"[<>\[\](){}#!*~|_]")
_HESITATION = re.compile(
    rf"[\[(]\s*;?\s*(?:{'|'.join(sorted(HESITATIONS))})\s*[\])]", re.IGNORECASE
)
_SPACE_BEFORE = re.compile(r" (?=[,.?;:!](?: |$))")
_PLAIN = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_LONE = re.compile(r"[/|#!~:;](?<!\S.)[/|#!~:;]*(?!\S)")  # left of broken tags
_LETTER = re.compile(r"[^\W\d_]")
_BRACKETS = re.compile(r"[<>\[\](){}]")
_REMEMBERED = 1 << 18  # tokens
_ONE_WORD = (False,)  # a token that becomes one word, which is no number


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


class _Memo[T](dict[str, T]):
    """What a function says of tokens; forgets all where there are too many.

    An `lru_cache` of this size takes twice as long: each of its look-ups touches many objects.
    """

    def __init__(self, function: Callable[[str], T]) -> None:
        super().__init__()
        self._function = function

    def __missing__(self, token: str) -> T:
        if len(self) >= _REMEMBERED:
            self.clear()
        value = self[token] = self._function(token)
        return value


@functools.lru_cache(maxsize=_REMEMBERED)
def _words(text: str, lang: str) -> tuple[str, ...]:
    return tuple(normalize(text, lang).words)


def _numeric(text: str, lang: str) -> tuple[bool, ...]:
    """Return, for each word that a text becomes, whether it is a number."""
    return tuple(word[0].isdigit() for word in _words(text, lang))


@functools.cache
def _number_words() -> frozenset[str]:
    """Words that Whisper's English rules join with their neighbours."""
    numbers = whisper_normalizer("en").standardize_numbers  # type: ignore[attr-defined]
    return frozenset(numbers.words) | {"and", "st", "nd", "rd", "th", "s"}


def _stands_alone(token: str) -> bool:
    """Tell whether Whisper's English rules surely look at a token apart from its neighbours.

    A plain word that is no number does. Anything else, and what is deleted, is left with its
    neighbours of that kind.
    """
    if _reaches_far(token) or not _PLAIN.fullmatch(token):
        return False
    if token.lower().partition("'")[0] in _number_words():
        return False
    return bool(_words(token, "en"))


@functools.cache
def _owns(lang: str) -> _Memo[tuple[bool, ...] | None]:
    return _Memo(lambda token: _own(token, lang))


def _own(token: str, lang: str) -> tuple[bool, ...] | None:
    """Return, for each word that a token becomes, whether it is a number.

    None where that depends on its neighbours.
    """
    if lang not in ("ms", "cs") and not (lang == "en" and _stands_alone(token)):
        return None
    numbers = _numeric(token, lang)
    return _ONE_WORD if numbers == _ONE_WORD else numbers


def _reaches_far(token: str) -> bool:
    """Tell whether a token changes what is far: "and a half", a leading apostrophe, a lone sign."""
    return token[0] == "'" or token.lower() == "half" or not any(map(str.isalnum, token))


def word_tags(segments: Sequence[Segment], lang: str, default: str) -> list[str]:
    """Return a tag for each normalised word.

    Args:
        segments: Unwrapped text, without brackets.
        lang: Language whose rules apply.
        default: Tag of words that the markup says nothing of.

    Returns:
        As many tags as ``normalize`` of the joined text has words.
    """
    tags: list[str] = []
    run: list[tuple[str, str]] = []
    own = _owns(lang)
    for segment in segments:
        tag = segment.tag or default
        for token in segment.text.split():
            numbers = own[token]
            if numbers is None:
                if _reaches_far(token):
                    pairs = [(t, s.tag or default) for s in segments for t in s.text.split()]
                    return _run_tags(pairs, lang, default)
                run.append((token, tag))
                continue
            if run:
                tags += _run_tags(run, lang, default)
                run = []
            if numbers is _ONE_WORD:  # nearly always
                tags.append(tag)
            else:
                tags += ["num" if number else tag for number in numbers]
    return tags + _run_tags(run, lang, default) if run else tags


def _run_tags(run: list[tuple[str, str]], lang: str, default: str) -> list[str]:
    """Return the tags of tokens that are normalised together."""
    text = " ".join([token for token, _ in run])
    kinds = {tag for _, tag in run}
    if len(kinds) == 1:
        spread = [run[0][1]] * len(_words(text, lang))
    else:
        spread = _spread(run, _words(text, lang), lang, default)
    numbers = _numeric(text, lang)
    return ["num" if n else tag for n, tag in zip(numbers, spread, strict=True)]


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
            if (text := " ".join(_LONE.sub(" ", _BRACKETS.sub(" ", segment.text)).split()))
        ]
    else:
        segments = [Segment(raw, None)]
    return _marked(segments, default)


def join_marked(parts: Iterable[Marked], default: str = "en") -> Marked:
    """Join transcripts that follow each other into one."""
    return _marked([segment for part in parts for segment in part.segments], default)


def _marked(segments: list[Segment], default: str) -> Marked:
    text = _SPACE_BEFORE.sub("", " ".join(" ".join(s.text for s in segments).split()))
    lang = language_of(segments, default)
    return Marked(text, word_tags(segments, lang, default), lang, tuple(segments))


def _is_said(token: str) -> bool:
    """Tell whether a token has letters and is no hesitation."""
    return bool(_LETTER.search(token)) and token.lower() not in HESITATIONS


_said = _Memo(_is_said)


def language_of(segments: Sequence[Segment], default: str) -> str:
    """Name an utterance's language by the languages of its words.

    ``cs`` is Malay with any other language: what a Malay-English system is for. English with a word
    of Mandarin or Tamil is English.

    Args:
        segments: Unwrapped text.
        default: Language of words that the markup says nothing of.
    """
    if not any(segment.tag in LANGUAGES for segment in segments):
        return default
    counts: dict[str, int] = {}
    for segment in segments:
        tag = segment.tag or default
        if tag in LANGUAGES:
            counts[tag] = counts.get(tag, 0) + sum(map(_said.__getitem__, segment.text.split()))
    counts = {tag: words for tag, words in counts.items() if words}
    if not counts:
        return default
    if "ms" in counts and len(counts) > 1:
        return "cs"
    return max(counts, key=lambda tag: (counts[tag], tag == default))
