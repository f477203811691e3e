"""Markup of transcripts (IMDA National Speech Corpus, Whisper) turned into plain segments.

Whisper's own normalisers delete whatever stands in `<>`, `[]` and `()`, so Malay words in
`<malay>..</malay>` would be lost: markup has to be unwrapped first. The transcripts are hand-made;
the broken forms below all occur.

| markup | becomes | tag |
| --- | --- | --- |
| `<malay>w</malay>`, mandarin, tamil | its words; of `surface:gloss` the surface | ms, zh, ta |
| any other `<name>w</name>` pair | its words | other |
| `#Feng-Shao-Feng#` | its words | name |
| `[lah]`, `[;ah]`, `!wah!` | the word | shared |
| `G_L_D` | one word, `gld` | that of the text |
| `<UNK>`, `**`, `<S>`, `<Z>`, `(ppb)`, `wor~`, `<|ms|>` | nothing | |

An opened language that is never closed lasts to the next language tag or the end; a closing tag
that nothing opened covers the one word before it.
"""

from typing import NamedTuple

import regex as re

LANGUAGE_TAGS = {"malay": "ms", "mandarin": "zh", "chinese": "zh", "tamil": "ta", "english": "en"}
_PARTICLES = "lah la ah sia sial lor lo leh lei a'ah ha hah hor mah meh liao one what wah eh oh bah"
PARTICLES = frozenset(_PARTICLES.split())

_WHISPER_TOKEN = re.compile(r"<\|[^|<>]*\|>")
_LANGUAGES = "|".join(LANGUAGE_TAGS)
# In this order: `</malay>`, `</malay`, `<>/malay>`, `/malay>`; then `<malay>`, `<malay`; then a
# bare `malay>`.
_LANGUAGE_TAG = re.compile(
    rf"(?P<close><\s*>?\s*/\s*(?P<c>{_LANGUAGES})\b\s*>?|/(?P<c2>{_LANGUAGES})>)"
    rf"|(?P<open><\s*(?P<o>{_LANGUAGES})\b\s*>?)"
    rf"|(?P<bare>\b(?P<b>{_LANGUAGES})\s*>)",
    re.IGNORECASE,
)
_OTHER_PAIR = re.compile(r"<\s*([a-z]\w*)\s*>([^<>]*)<\s*/\s*\1\s*>", re.IGNORECASE)
_OTHER_TAG = re.compile(r"<\s*/?\s*[a-z]\w*\s*/?\s*>", re.IGNORECASE)
_SOUND = re.compile(r"\(\s*p[pb][a-z]\s*\)", re.IGNORECASE)
_UNKNOWN = re.compile(r"\*\*+")
_CUT_WORD = re.compile(r"(?<!\S)[\w'-]*\w~(?!\w)")
_ACRONYM = re.compile(r"(?<![^\W_])[a-z](?:_[a-z])+(?![^\W_])", re.IGNORECASE)
_MARKED_WORDS = re.compile(
    r"#(?P<name>\S(?:[^#<>]*\S)?)#"
    r"|\[\s*;?\s*(?P<particle>[a-z']+)\s*[\])]"
    r"|!(?P<interjection>[a-z']+)!",
    re.IGNORECASE,
)
# What stands in every match of a pattern: looking for it first takes a tenth of the time.
_NOISE = (("<", _OTHER_TAG), ("(", _SOUND), ("**", _UNKNOWN), ("~", _CUT_WORD))
_SIGN = re.compile(r"[<(*~_#\[!]")
# All that is left of a language's passage: a gloss may have several words, as the surface may.
_GLOSS = re.compile(r"(?<=[\p{L}\p{M}]):\s*[\p{L}\p{M}][^:]*")


class Segment(NamedTuple):
    """A run of plain text.

    Attributes:
        text: plain text without markup.
        tag: language or kind from the markup; None where the markup says nothing.
    """

    text: str
    tag: str | None


def unwrap(text: str) -> list[Segment]:
    """Split marked-up text into plain segments.

    Args:
        text: a transcript or a recogniser's output, with or without markup.

    Returns:
        The segments in order. Plain text gives segments whose tags are all None.
    """
    if "<|" in text:
        text = _WHISPER_TOKEN.sub(" ", text)
    segments: list[Segment] = []
    for segment in _split_languages(text):
        segments += _split_marked_words(segment)
    return [segment for segment in segments if segment.text.strip()]


def _split_languages(text: str) -> list[Segment]:
    """Resolve language tags, complete or broken."""
    if "<" not in text and ">" not in text:
        return [Segment(text, None)]
    segments: list[Segment] = []
    matches = list(_LANGUAGE_TAG.finditer(text))
    language: str | None = None
    position = 0
    for index, match in enumerate(matches):
        name = (match["c"] or match["c2"] or match["o"] or match["b"]).lower()
        before = text[position : match.start()]
        position = match.end()
        segments.append(_language_segment(before, language))
        if match["close"]:
            if language is None:
                _tag_last_word(segments, LANGUAGE_TAGS[name])
            language = None
        elif language != LANGUAGE_TAGS[name]:
            language = LANGUAGE_TAGS[name]
        else:
            # `<malay>punya<malay>` or `<malay>punya malay>`: a close, unless a real close follows.
            closes_next = index + 1 < len(matches) and matches[index + 1]["close"]
            language = language if closes_next else None
    segments.append(_language_segment(text[position:], language))
    return segments


def _language_segment(text: str, language: str | None) -> Segment:
    return Segment(_GLOSS.sub(" ", text) if language and ":" in text else text, language)


def _tag_last_word(segments: list[Segment], tag: str) -> None:
    last = segments.pop()
    head, _, word = last.text.rstrip().rpartition(" ")
    segments += [Segment(head, last.tag), _language_segment(word, tag)]


def _split_marked_words(segment: Segment) -> list[Segment]:
    """Resolve the marks inside one language segment."""
    if not _SIGN.search(segment.text):
        return [segment]
    pieces: list[Segment] = []
    position = 0
    for match in _OTHER_PAIR.finditer(segment.text) if "<" in segment.text else ():
        pieces.append(Segment(segment.text[position : match.start()], segment.tag))
        # <P1>..</P1> and the like mark a passage, not a language, and keep what surrounds them.
        kind = segment.tag if len(match[1]) <= 3 else "other"
        pieces.append(Segment(match[2], kind))
        position = match.end()
    pieces.append(Segment(segment.text[position:], segment.tag))

    segments: list[Segment] = []
    for piece in pieces:
        text = piece.text
        for sign, noise in _NOISE:
            if sign in text:
                text = noise.sub(" ", text)
        if "_" in text:
            text = _ACRONYM.sub(lambda match: match[0].replace("_", ""), text)
        position = 0
        for match in _MARKED_WORDS.finditer(text):
            word = match["name"] or match["particle"] or match["interjection"]
            if match["particle"] and word.lower() not in PARTICLES:
                continue
            segments.append(Segment(text[position : match.start()], piece.tag))
            segments.append(Segment(word, "name" if match["name"] else "shared"))
            position = match.end()
        segments.append(Segment(text[position:], piece.tag))
    return segments
