"""Transcripts with Whisper's tokens, taken apart: words, times of segments, language.

    <|startoftranscript|><|ms|><|transcribe|><|0.00|> Apa khabar?<|1.42|><|2.00|> Baik.<|2.80|>

Timestamps stand before and after each segment (or word); at least one of a pair may be missing, and
those of a hallucination run backwards or past the end of the audio.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from espnet_plugin.corpora.hub_layout import plain

SLACK = 1.0  # seconds that a timestamp may pass the end of the audio; it is cut
_TOKEN = re.compile(r"<\|([^|<>]{1,40})\|>")
_BROKEN = re.compile(r"<\|[^|<>\s]*\|?>?")  # cut in the middle
_TIME = re.compile(r"\d+(?:\.\d+)?")
_LANGUAGE = re.compile(r"[a-z]{2,3}")
Times = list[tuple[float, float, int]]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of text and its timestamps, in seconds; None where there is none."""

    start: float | None
    end: float | None
    text: str


@dataclass(frozen=True, slots=True)
class WhisperText:
    """A transcript.

    Attributes:
        pieces: Its segments, in order, each with words.
        lang: Whisper's language token; None where there is none.
        task: ``transcribe``, ``translate``, ``transcribeprecise`` ...; None likewise.
        tokens: Whether there were any of Whisper's tokens.
    """

    pieces: Sequence[Piece]
    lang: str | None
    task: str | None
    tokens: bool

    @property
    def text(self) -> str:
        """All words."""
        return " ".join(piece.text for piece in self.pieces)

    def times(self, seconds: float) -> Times | None:
        """Return start, end and number of words of each segment.

        Args:
            seconds: Length of the audio, where the last segment ends if nothing says so.

        Returns:
            None where segments lack times, overlap, run backwards or lie past the end.
        """
        times: Times = []
        last = 0.0
        for n, piece in enumerate(self.pieces):
            end = seconds if piece.end is None and n == len(self.pieces) - 1 else piece.end
            start = piece.start
            if start is None or end is None or not last <= start <= end <= seconds + SLACK:
                return None
            if start >= seconds:
                return None
            last = end
            times.append((start, min(end, seconds), len(piece.text.split())))
        return times or None


def read_whisper(text: str) -> WhisperText:
    """Take a transcript apart; plain text is one piece without times."""
    head, mark, rest = text.rpartition("<|startofprev|>")
    if mark:  # the prompt is no part of the transcript
        text = head + (rest.partition("<|startoftranscript|>")[2])
    pieces: list[Piece] = []
    lang = task = None
    parts = _TOKEN.split(text)
    time: float | None = None  # the last timestamp, while no words have followed it
    for n, part in enumerate(parts):
        if n % 2 == 0:
            if words := plain(_BROKEN.sub(" ", part)):
                pieces.append(Piece(time, None, words))
                time = None
        elif _TIME.fullmatch(part):
            value = float(part)
            if pieces and pieces[-1].end is None and time is None:
                pieces[-1] = Piece(pieces[-1].start, value, pieces[-1].text)
            time = value
        elif part.startswith(("transcribe", "translate")):
            task = part
        elif lang is None and _LANGUAGE.fullmatch(part):
            lang = part
    return WhisperText(pieces, lang, task, len(parts) > 1)
