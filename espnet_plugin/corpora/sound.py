"""How long a recording is, and what ``wav.scp`` says of it: fast, and strict about cut files."""

import io
import os
import struct
from dataclasses import dataclass
from typing import IO

import soundfile

from espnet_plugin.data.source import HEADER_SLACK, UNKNOWN_LENGTH, AudioError, describe

HEAD = 512  # bytes that hold the header of an ordinary WAV


@dataclass(frozen=True, slots=True)
class Audio:
    """A recording.

    Attributes:
        source: Its ``wav.scp`` value.
        seconds: Its length.
    """

    source: str
    seconds: float


def wav_seconds(head: bytes, size: int) -> float | None:
    """Read the length of a PCM WAV from its header (a few times faster than opening it).

    Args:
        head: The first bytes.
        size: Bytes of the whole file.

    Returns:
        Seconds; None where this is no ordinary PCM WAV or `head` does not reach its samples.

    Raises:
        AudioError: The file is shorter than its header says, or has no samples.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    position, rate = 12, 0
    while position + 8 <= len(head):
        kind, length = struct.unpack_from("<4sI", head, position)
        position += 8
        if kind == b"fmt " and position + 16 <= len(head):
            form, _, _, rate = struct.unpack_from("<HHII", head, position)
            if form not in (1, 0xFFFE) or not rate:
                return None
        elif kind == b"data":
            if not rate:
                return None
            there = size - position
            if length < UNKNOWN_LENGTH and there + HEADER_SLACK < length:
                raise AudioError(f"truncated: {there} of {length} bytes")
            length = min(length, there)
            if length <= 0:
                raise AudioError("empty: no samples")
            return length / rate
        position += length + length % 2
    return None


def _seconds(head: bytes, size: int, whole: "str | IO[bytes]") -> float:
    """Return the length of audio of any format."""
    if size == 0:
        raise AudioError("empty: 0 bytes")
    if (seconds := wav_seconds(head, size)) is not None:
        return seconds
    try:
        with soundfile.SoundFile(whole) as audio:
            if audio.frames <= 0:
                raise AudioError("empty: no samples")
            return audio.frames / audio.samplerate
    except soundfile.LibsndfileError as error:
        raise AudioError(f"corrupt or no audio: {describe(error)}") from None


def file_audio(path: str) -> Audio:
    """Find out how long a file of sound is.

    Raises:
        AudioError: It is missing, empty, truncated, damaged or no audio.
        PermissionError: It may not be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            head, size = file.read(HEAD), os.fstat(file.fileno()).st_size
    except (FileNotFoundError, NotADirectoryError):
        raise AudioError("no such file") from None
    except IsADirectoryError:
        raise AudioError("not a file") from None
    return Audio(path, _seconds(head, size, path))


def audio_bytes_seconds(data: bytes) -> float:
    """Return the length, in seconds, of audio held in memory (a parquet cell).

    Raises:
        AudioError: It is empty, truncated, damaged or no audio.
    """
    return _seconds(data[:HEAD], len(data), io.BytesIO(data))
