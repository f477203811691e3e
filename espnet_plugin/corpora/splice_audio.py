"""Pieces of recordings to one: cut in pauses, brought to one level, cross-faded.

At each joint

- **pause**: half of the pause that either phrase had on that side in its own utterance is kept with
  it, at most 0.15 s each, so the pause is the mean of both, and it is room sound, not silence;
- **place**: the cut is where the sound is weakest within 15 ms of there;
- **level**: each piece is scaled to the level (of its sounding frames) of the longest one, by 12 dB
  at most;
- **energy**: over the last and first 60 ms both are led to the same energy, by 6 dB at most, so
  that the background does not jump;
- **cross-fade**: they overlap by 10 ms, with constant power.

The backgrounds of different recordings stay what they are, so a phrase of a noisier one can be told
by ear; where that matters, ask for the same speaker, who mostly is in the same room.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_plugin.corpora.augment import PEAK, RATE, rms
from espnet_plugin.corpora.splice_plan import Piece

FADE = RATE // 100  # samples of overlap
HALF_PAUSE = 0.15  # seconds of a pause that go with the piece on one side of it
EDGE = 0.1  # seconds kept before the first and behind the last piece
SNAP = 0.015  # seconds to either side in which a cut looks for the weakest place
FRAME = RATE // 200  # samples whose energy is compared
MOST_GAIN = 12.0  # dB
RAMP = RATE * 60 // 1000  # samples over which energies meet at a joint
LOCAL = RATE * 30 // 1000  # samples whose energy is meant there
MOST_RAMP = 6.0  # dB


@dataclass(frozen=True, slots=True)
class Joined:
    """Pieces as one waveform.

    Attributes:
        wave: float32 ``(samples,)`` at 16 kHz.
        starts: Sample at which each piece begins.
        cuts: Where each piece was cut out, seconds of its utterance.
        gains: Of each piece, dB.
    """

    wave: np.ndarray
    starts: list[int]
    cuts: list[tuple[float, float]]
    gains: list[float]


def quietest(wave: np.ndarray, low: int, high: int) -> int:
    """Return the sample, from `low` to `high`, round which 5 ms have least energy.

    Args:
        wave: float ``(samples,)``.
        low: First sample that may be chosen.
        high: Last one.
    """
    low, high = max(0, low), min(len(wave), high)
    if high <= low:
        return max(0, min(low, len(wave)))
    start = max(0, low - FRAME // 2)
    squares = np.square(wave[start : high + FRAME // 2], dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    places = np.arange(low, high + 1)
    first = np.clip(places - FRAME // 2 - start, 0, len(squares))
    last = np.clip(places + FRAME // 2 - start, 0, len(squares))
    energy = (sums[last] - sums[first]) / np.maximum(last - first, 1)
    return int(places[energy.argmin()])


def cut(wave: np.ndarray, piece: Piece, first: bool, last: bool) -> tuple[int, int]:
    """Choose where a piece is cut out of its utterance.

    Args:
        wave: The utterance, ``(samples,)`` at 16 kHz.
        piece: What is wanted of it.
        first: It is the first of its line: what is before it is an edge, not a joint.
        last: It is the last.

    Returns:
        First sample, and one past the last.

    Raises:
        ValueError: Its times are not in the utterance.
    """
    start, end = round(piece.start * RATE), min(round(piece.end * RATE), len(wave))
    if not 0 <= start < end:
        raise ValueError(
            f"{piece.source.utt} has no {piece.start:.2f} to {piece.end:.2f} s; it lasts "
            f"{len(wave) / RATE:.2f} s"
        )
    # the pause there is in the utterance itself; before its first word, all there is
    room = start if piece.before is None else round(piece.before * RATE)
    left = start - _margin(room, first)
    room = len(wave) - end if piece.after is None else round(piece.after * RATE)
    right = end + _margin(room, last)
    near = round(SNAP * RATE)
    begin = quietest(wave, max(0, left - near), min(left + near, start))
    stop = quietest(wave, max(right - near, end), min(right + near, len(wave)))
    return begin, max(stop, begin + 1)


def _margin(room: int, edge: bool) -> int:
    if edge:
        return min(room, round(EDGE * RATE))
    return min(room // 2, round(HALF_PAUSE * RATE))


def join(waves: Sequence[np.ndarray], pieces: Sequence[Piece]) -> Joined:
    """Join pieces of utterances.

    Args:
        waves: The utterance of each piece, float32 ``(samples,)`` at 16 kHz.
        pieces: What is wanted of each.

    Returns:
        One waveform, nowhere louder than 0.95 of full scale.

    Raises:
        ValueError: Times outside of an utterance, or a piece of silence.
    """
    total = len(pieces)
    places = [
        cut(wave, piece, n == 0, n == total - 1)
        for n, (wave, piece) in enumerate(zip(waves, pieces, strict=True))
    ]
    parts = [
        wave[start:stop].astype(np.float64) - float(np.mean(wave))
        for wave, (start, stop) in zip(waves, places, strict=True)
    ]
    levels = [rms(part) for part in parts]
    for piece, level in zip(pieces, levels, strict=True):
        if level <= 1e-5:
            where = f"{piece.start:.2f} to {piece.end:.2f} s"
            raise ValueError(f"{piece.source.utt} is silent from {where}")
    longest = max(range(total), key=lambda n: pieces[n].end - pieces[n].start)
    gains = []
    for n, part in enumerate(parts):
        decibels = 20 * np.log10(levels[longest] / levels[n])
        decibels = float(np.clip(decibels, -MOST_GAIN, MOST_GAIN))
        gains.append(decibels)
        part *= 10 ** (decibels / 20)
    for one, two in zip(parts, parts[1:], strict=False):
        meet(one, two)
    starts = [0]
    whole = parts[0]
    for part in parts[1:]:
        overlap = min(FADE, len(whole), len(part))
        starts.append(len(whole) - overlap)
        whole = crossfade(whole, part, overlap)
    peak = float(np.abs(whole).max())
    if peak > PEAK:
        whole = whole * (PEAK / peak)
        gains = [gain + 20 * float(np.log10(PEAK / peak)) for gain in gains]
    cuts = [(start / RATE, stop / RATE) for start, stop in places]
    return Joined(whole.astype(np.float32), starts, cuts, gains)


def meet(one: np.ndarray, two: np.ndarray) -> None:
    """Lead the end of one piece and the start of the next to the same energy, in place.

    Args:
        one: float64 ``(samples,)``.
        two: float64 ``(samples,)``.
    """
    tail, head = (
        float(np.sqrt(np.mean(np.square(part)))) + 1e-9 for part in (one[-LOCAL:], two[:LOCAL])
    )
    middle = np.sqrt(tail * head)
    for part, level, at_end in ((one, tail, True), (two, head, False)):
        decibels = float(np.clip(20 * np.log10(middle / level), -MOST_RAMP, MOST_RAMP))
        length = min(RAMP, len(part) // 2)
        ramp = 10 ** (np.linspace(0.0, decibels, length) / 20)
        if at_end:
            part[len(part) - length :] *= ramp
        else:
            part[:length] *= ramp[::-1]


def crossfade(one: np.ndarray, two: np.ndarray, overlap: int) -> np.ndarray:
    """Join two pieces that overlap, with constant power for sounds that have nothing in common.

    Args:
        one: ``(n,)``.
        two: ``(m,)``.
        overlap: Samples, at most n and m.

    Returns:
        ``(n + m - overlap,)``.
    """
    if not overlap:
        return np.concatenate([one, two])
    angle = (np.arange(overlap) + 0.5) / overlap * (np.pi / 2)
    mixed = one[len(one) - overlap :] * np.cos(angle) + two[:overlap] * np.sin(angle)
    return np.concatenate([one[: len(one) - overlap], mixed, two[overlap:]])
