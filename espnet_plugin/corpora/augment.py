"""What happens to a waveform after synthesis: silence, level, noise, room (float32 arrays)."""

import random
from fractions import Fraction

import numpy as np
from scipy.signal import butter, fftconvolve, resample_poly, sosfiltfilt

RATE = 16_000  # Hz, Whisper's
PEAK = 0.95  # of full scale: nothing is ever louder
_FRAME = RATE // 100  # samples in 10 ms
_SILENCE_DB = -45.0  # below the loudest 10 ms
_RUMBLE = butter(2, 50, "highpass", fs=RATE, output="sos")  # measured rooms come with an offset


def resample(wave: np.ndarray, rate: int, target: int = RATE) -> np.ndarray:
    """Change the sampling rate with scipy's polyphase filter.

    Args:
        wave: ``(samples,)`` at ``rate``.
        rate: Its sampling rate in Hz.
        target: The wanted rate in Hz.

    Returns:
        float32 ``(ceil(samples * target / rate),)``.
    """
    ratio = Fraction(target, rate)
    if ratio == 1:
        return wave.astype(np.float32)
    return resample_poly(wave, ratio.numerator, ratio.denominator).astype(np.float32)


def _active_frames(wave: np.ndarray) -> np.ndarray:
    """Tell which 10 ms frames hold sound: bool ``(samples // 160,)``."""
    frames = wave[: len(wave) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.square(frames, dtype=np.float64).mean(axis=1)
    return power > power.max(initial=0.0) * 10 ** (_SILENCE_DB / 10)


def tighten(wave: np.ndarray, edge: float = 0.1, pause: float = 0.15) -> np.ndarray:
    """Make the silence at both ends equally long, and shorten pauses inside.

    espeak-ng ends a clause, pause and all, wherever the language changes. People do not, and
    a pause at each switch would give the switches away.

    Args:
        wave: ``(samples,)`` at 16 kHz.
        edge: Silence at each end, seconds; zeros are added where there is less.
        pause: Longest silence kept inside, seconds.

    Returns:
        float32 ``(samples,)``.

    Raises:
        ValueError: Nothing but silence.
    """
    active = _active_frames(wave)
    if not active.any():
        raise ValueError("only silence")
    indices = np.flatnonzero(active)
    keep = np.zeros(len(active), dtype=bool)
    margin = round(edge * 100)
    keep[max(0, indices[0] - margin) : indices[-1] + 1 + margin] = True
    lacking = margin - indices[0], margin - (len(active) - 1 - indices[-1])
    longest = round(pause * 100)
    for left, right in zip(indices[:-1], indices[1:], strict=True):
        if right - left - 1 > longest:
            keep[left + 1 + (longest + 1) // 2 : right - longest // 2] = False
    kept = wave[: len(keep) * _FRAME].reshape(-1, _FRAME)[keep].reshape(-1)
    return np.pad(kept, [max(0, int(frames)) * _FRAME for frames in lacking]).astype(np.float32)


def rms(wave: np.ndarray) -> float:
    """Root mean square of the frames that hold sound, relative to full scale."""
    frames = wave[: len(wave) // _FRAME * _FRAME].reshape(-1, _FRAME)[_active_frames(wave)]
    return float(np.sqrt(np.square(frames, dtype=np.float64).mean())) if frames.size else 0.0


def set_level(wave: np.ndarray, decibels: float) -> np.ndarray:
    """Scale to a level, or to less where the peak would pass 0.95 of full scale.

    Args:
        wave: ``(samples,)``.
        decibels: The wanted level of its sounding frames, dB below full scale (negative).

    Returns:
        float32 ``(samples,)``.

    Raises:
        ValueError: Silence cannot be scaled to a level.
    """
    level = rms(wave)
    if level == 0.0:
        raise ValueError("only silence")
    gain = min(10 ** (decibels / 20) / level, PEAK / float(np.abs(wave).max()))
    return (wave * gain).astype(np.float32)


def add_noise(speech: np.ndarray, noise: np.ndarray, snr: float, rng: random.Random) -> np.ndarray:
    """Add a noise, repeated from a random place on, at an exact signal-to-noise ratio.

    Args:
        speech: ``(samples,)``.
        noise: ``(noise samples,)``, shorter or longer.
        snr: Power of the speech over that of the noise, each where it sounds, dB.
        rng: Draws where the noise begins.

    Returns:
        float32 ``(samples,)``.

    Raises:
        ValueError: Silent speech or noise.
    """
    offset = rng.randrange(len(noise))
    repeated = np.resize(np.roll(noise, -offset), len(speech)).astype(np.float64)
    power = rms(repeated)
    if power == 0.0 or rms(speech) == 0.0:
        raise ValueError(
            "a signal-to-noise ratio needs speech and noise, and one of them is silent"
        )
    return (speech + repeated * (rms(speech) / power * 10 ** (-snr / 20))).astype(np.float32)


def add_reverb(speech: np.ndarray, response: np.ndarray, tail: float = 0.1) -> np.ndarray:
    """Put the speech in a room, without delaying it or changing its level.

    Args:
        speech: ``(samples,)`` at 16 kHz.
        response: The room's impulse response at 16 kHz; its direct sound is its largest sample.
        tail: Reverberation kept after the speech, seconds.

    Returns:
        float32 ``(samples + tail * 16000,)``.
    """
    direct = int(np.abs(response).argmax())
    wet = sosfiltfilt(_RUMBLE, fftconvolve(speech, response))[
        direct : direct + len(speech) + round(tail * RATE)
    ]
    return (wet * (rms(speech) / max(rms(wet), 1e-9))).astype(np.float32)
