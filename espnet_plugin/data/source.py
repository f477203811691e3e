"""A ``wav.scp`` entry, opened whatever it is: a file, a place in an ark, or a command's output."""

import io
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import soundfile

UNKNOWN_LENGTH = 0x7FFF0000  # bytes; programs that write to a pipe leave such sizes in the header
ARK = re.compile(r"(.+):(\d+)")


class AudioError(Exception):
    """Audio that cannot be used; the message says why, without the utterance."""


def describe(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's reason; it has none for some errors."""
    return error.error_string.strip().rstrip(".") or f"error {error.code}"


def plain_file(source: str) -> str | None:
    """Return the file that a ``wav.scp`` value reads, or None for a pipe."""
    if source.endswith("|"):
        return None
    match = ARK.fullmatch(source)
    return match[1] if match and not os.path.exists(source) else source


def _read_ark(path: str, offset: int) -> bytes:
    """Return the audio file inside an ark, in the forms that kaldiio and ESPnet write.

    kaldiio's own reader would also unpickle, and passes over a truncated entry.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        magic = file.read(8)
        if magic[:5] == b"AUDIO":  # then a byte n, and the length in n bytes
            file.seek(offset + 6)
            size = int.from_bytes(file.read(magic[5]), "little")
        elif magic[:4] == b"RIFF":
            file.seek(offset)
            size = int.from_bytes(magic[4:], "little") + 8
        elif magic[:4] == b"fLaC":
            file.seek(offset)
            return file.read()
        else:
            raise AudioError(f"no audio at byte {offset} of the ark (AUDIO, WAV or FLAC is needed)")
        data = file.read(size)
    if len(data) < size:
        raise AudioError(f"truncated: {len(data)} of {size} bytes at byte {offset} of the ark")
    return data


def _run_pipe(source: str) -> bytes:
    result = subprocess.run(
        source.removesuffix("|"), shell=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        last = result.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise AudioError(f"the command failed with {result.returncode}: {' '.join(last)}")
    return result.stdout


@contextmanager
def open_audio(source: str, allow_pipes: bool = False) -> Iterator[soundfile.SoundFile]:
    """Open the audio of a ``wav.scp`` entry and check that its file is whole.

    Args:
        source: A file of any format that libsndfile reads, ``ARK:OFFSET``, or ``COMMAND |``.
        allow_pipes: Run commands.

    Yields:
        The open audio.

    Raises:
        AudioError: It is missing, empty, truncated or no audio, or a command without permission.
    """
    path = plain_file(source)
    data: bytes | None = None
    if path is None:
        if not allow_pipes:
            raise AudioError("is a shell command; give --allow_pipes true if you trust the data")
        data = _run_pipe(source)
    elif not os.path.exists(path):
        raise AudioError("no such file")
    elif not os.path.isfile(path):
        raise AudioError("not a file")
    try:
        if path is not None and path != source:
            data = _read_ark(path, int(source.rpartition(":")[2]))
        if (len(data) if data is not None else os.path.getsize(path or "")) == 0:
            raise AudioError("empty: 0 bytes")
        with soundfile.SoundFile(source if data is None else io.BytesIO(data)) as audio:
            lengths = re.search(r"^data : (\d+) \(should be (\d+)\)", audio.extra_info, re.M)
            if lengths and int(lengths[2]) < int(lengths[1]) < UNKNOWN_LENGTH:
                raise AudioError(f"truncated: {lengths[2]} of {lengths[1]} bytes of samples")
            if audio.frames == 0:
                raise AudioError("empty: no samples")
            yield audio
    except soundfile.LibsndfileError as error:
        raise AudioError(f"corrupt or no audio: {describe(error)}") from None
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from None
