"""A ``wav.scp`` entry, opened whatever it is: a file, a place in an ark, or a command's output."""

import io
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import soundfile

UNKNOWN_LENGTH = 0x7FFF0000  # bytes; programs that write to a pipe leave such sizes in the header
# libsndfile's log: the chunk of samples in WAV, AIFF, AU, and the whole file in W64, RF64
SIZES = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
SPHERE_COUNT = re.compile(rb"^sample_count -i (\d+)$", re.MULTILINE)  # in the first 1 024 bytes
HEADER_SLACK = 64  # bytes; some programs count the header as samples
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


def _head(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1024)


def _check_whole(audio: soundfile.SoundFile, head: bytes) -> None:
    """Compare the header's length with the file's: libsndfile itself passes over a cut file."""
    lengths = SIZES.search(audio.extra_info)
    if lengths and int(lengths[2]) + HEADER_SLACK < int(lengths[1]) < UNKNOWN_LENGTH:
        raise AudioError(f"truncated: {lengths[2]} of {lengths[1]} bytes")
    count = SPHERE_COUNT.search(head) if audio.format == "NIST" else None
    if count and audio.frames < int(count[1]):
        raise AudioError(f"truncated: {audio.frames} of {int(count[1])} samples")


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
        head = data[:1024] if data is not None else _head(source)
        if not head:
            raise AudioError("empty: 0 bytes")
        audio = soundfile.SoundFile(source if data is None else io.BytesIO(data))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"corrupt or no audio: {describe(error)}") from None
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}") from None
    with audio:  # outside of the handlers above: what the caller's block raises is not ours
        _check_whole(audio, head)
        if audio.frames == 0:
            raise AudioError("empty: no samples")
        yield audio
