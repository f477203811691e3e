"""Utterances out of a recording: cut, brought to 16 kHz mono, written or referred to."""

import io
import os
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from espnet_plugin.checkpoint import temporary_sibling
from espnet_plugin.data.source import AudioError, describe, oddities, open_audio, plain_file

RATE = 16000  # Hz: what Whisper hears
MAX_OVERSHOOT = 0.5  # seconds that a segment may pass the recording's end (it is cut), as in Kaldi
CHANNELS = re.compile(r"mean|\d+")
CANCELLED = 0.05  # of the channels' level: a mixture below that has lost what they hold


@dataclass(frozen=True)
class AudioOptions:
    """How recordings become utterances.

    Attributes:
        channel: Which channel of several to take: a number from 0, or ``mean``.
        copy: Copy audio that is 16 kHz mono 16 bit already, instead of referring to it.
        allow_pipes: Run the shell commands that ``wav.scp`` entries ending in ``|`` are.
    """

    channel: str = "mean"
    copy: bool = False
    allow_pipes: bool = False

    def __post_init__(self) -> None:
        if not CHANNELS.fullmatch(self.channel):
            raise ValueError(f"channel is a number from 0 or 'mean', got '{self.channel}'")


@dataclass(frozen=True)
class Cut:
    """An utterance to make: start and end in seconds (end None: all), and the file to write."""

    utt: str
    start: float
    end: float | None
    output: Path


@dataclass
class Made:
    """What became of an utterance.

    Attributes:
        utt: Its id.
        path: The audio file, made or referred to; empty where there is a fault.
        samples: Its length at 16 kHz.
        crc32: Of its samples as little-endian int16, eight hexadecimal digits.
        fault: Why it cannot be used, or None.
        kind: The same in a word or two, by which faults are counted.
        notes: Oddities that were put right (``stereo``, ``resampled``, ``clipped``, ...), and what
            was found.
    """

    utt: str
    path: str = ""
    samples: int = 0
    crc32: str = ""
    fault: str | None = None
    kind: str = ""
    notes: dict[str, str] = field(default_factory=dict)


def to_mono(samples: np.ndarray, channel: str) -> np.ndarray:
    """Choose a channel.

    Args:
        samples: ``(frames, channels)`` float32.
        channel: As in `AudioOptions`.

    Returns:
        ``(frames,)`` float32.

    Raises:
        AudioError: The channel does not exist, or the channels cancel each other out.
    """
    n = samples.shape[1]
    if n == 1:
        return samples[:, 0]
    if channel == "mean":
        mono: np.ndarray = samples.mean(axis=1)
        if np.square(mono).mean() < CANCELLED**2 * np.square(samples).mean():
            message = f"its {n} channels cancel each other out; choose with --channel 0..{n - 1}"
            raise AudioError(message, "channels")
        return mono
    if int(channel) >= n:
        message = f"has {n} channels, there is no channel {channel} (they count from 0)"
        raise AudioError(message, "channels")
    return samples[:, int(channel)]


def _range(audio: soundfile.SoundFile, cut: Cut, notes: dict[str, str]) -> tuple[int, int]:
    """Return the first frame of a cut and the one behind its last."""
    start = round(cut.start * audio.samplerate)
    end = audio.frames if cut.end is None else round(cut.end * audio.samplerate)
    if end > audio.frames:
        over = (end - audio.frames) / audio.samplerate
        if over > MAX_OVERSHOOT or start >= audio.frames:
            length = audio.frames / audio.samplerate
            raise AudioError(
                f"segment {cut.start}-{cut.end} s passes the end of the recording ({length:.2f} s)",
                "segment",
            )
        notes["cut"] = f"segment ends {over:.3f} s behind the recording"
        end = audio.frames
    if start >= end:
        raise AudioError(f"segment {cut.start}-{cut.end} s has no samples", "segment")
    return start, end


def read_cut(
    audio: soundfile.SoundFile, cut: Cut, channel: str
) -> tuple[np.ndarray, dict[str, str]]:
    """Read an utterance as 16 kHz mono.

    Args:
        audio: The open recording.
        cut: Where the utterance lies.
        channel: As in `AudioOptions`.

    Returns:
        ``(samples,)`` int16, and what was put right.

    Raises:
        AudioError: Truncated or corrupt audio, NaN or infinity, no samples, wrong channels.
    """
    notes: dict[str, str] = {}
    start, end = _range(audio, cut, notes)
    samples = _decode(audio, start, end, notes)
    if not np.isfinite(samples).all():
        bad = samples.size - np.count_nonzero(np.isfinite(samples))
        raise AudioError(f"has {bad} NaN or infinite samples", "NaN")
    mono = to_mono(samples, channel)
    if audio.channels > 1:
        taken = "mixed down" if channel == "mean" else f"channel {channel} taken"
        notes["stereo"] = f"{audio.channels} channels, {taken}"
    if audio.samplerate != RATE:
        mono = soxr.resample(mono, audio.samplerate, RATE, quality="HQ")
        notes["resampled"] = f"{audio.samplerate} Hz"
    if len(mono) == 0:
        raise AudioError("empty: no samples at 16 kHz", "empty")
    peak = float(np.abs(mono).max())
    if peak == 0:
        notes["silent"] = "all samples are 0"
    if peak > 1.001:  # a full-scale sample may pass 1.0 by rounding or resampling
        notes["clipped"] = f"peak {peak:.2f} of 1"
    scaled = np.rint(mono * 32768.0)
    return np.clip(scaled, -32768, 32767).astype(np.int16), notes


def _decode(audio: soundfile.SoundFile, start: int, end: int, notes: dict[str, str]) -> np.ndarray:
    """Read ``(frames, channels)`` float32, all of them."""
    try:
        audio.seek(start)
        samples: np.ndarray = audio.read(end - start, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise AudioError(f"truncated or damaged: {describe(error)}") from None
    except MemoryError:
        raise AudioError(f"damaged: its header says it has {audio.frames} samples") from None
    if len(samples) < end - start:
        if audio.format != "MP3":  # whose length can be an estimate
            message = f"truncated: {len(samples)} of {end - start} samples"
            raise AudioError(message, "truncated")
        if len(samples) < 0.95 * (end - start):
            notes["short MP3"] = f"{len(samples)} samples of {end - start} that were expected"
    return samples


def _write_flac(path: Path, samples: np.ndarray) -> None:
    """Write ``(samples,)`` int16 so that a kill leaves no half file (unlike tables, not synced)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path.with_name("audio"))  # short: the id may fill the name
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, RATE, format="FLAC", subtype="PCM_16")
    try:
        temporary.write_bytes(encoded.getvalue())  # so that a full disk is an OSError, not a fault
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def make_recording(source: str, cuts: list[Cut], whole: bool, options: AudioOptions) -> list[Made]:
    """Make all utterances of one recording; faults are returned, not raised.

    Args:
        source: The ``wav.scp`` value.
        cuts: Its utterances.
        whole: The recording is the utterance (no ``segments``): it may be referred to.
        options: Channel, copying, pipes.

    Returns:
        One result for each cut, in order.
    """
    made: list[Made] = []
    try:
        with open_audio(source, options.allow_pipes) as audio:
            odd = oddities(source, audio)
            ready = (audio.samplerate, audio.channels, audio.subtype) == (RATE, 1, "PCM_16")
            refer = whole and ready and not options.copy and plain_file(source) == source
            refer = refer and audio.format in ("WAV", "WAVEX", "FLAC") and not odd
            for cut in cuts:
                try:
                    samples, notes = read_cut(audio, cut, options.channel)
                    if not refer:
                        _write_flac(cut.output, samples)
                    path = source if refer else str(cut.output)
                    crc32 = f"{zlib.crc32(samples.astype('<i2').tobytes()):08x}"
                    made.append(Made(cut.utt, path, len(samples), crc32, notes=odd | notes))
                except AudioError as error:
                    made.append(Made(cut.utt, fault=str(error), kind=error.kind))
    except AudioError as error:
        made += [Made(cut.utt, fault=str(error), kind=error.kind) for cut in cuts[len(made) :]]
    return made
