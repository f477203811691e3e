"""A ``wav.scp`` entry, opened whatever it is: a file, a place in an ark, or a command's output."""

import io
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, TYPE_CHECKING

import soundfile

from espnet_plugin.data.whole import (
    HEADER_SLACK,
    UNKNOWN_LENGTH,
    cut_off,
    has_end_mark,
    kind_of_content,
    mislabelled,
    missing_part,
)

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["HEADER_SLACK", "UNKNOWN_LENGTH", "AudioError", "describe", "oddities", "open_audio"]

ARK = re.compile(r"(.+):(\d+)")


class AudioError(Exception):
    """Audio that cannot be used; the message says why, without the utterance.

    Attributes:
        kind: The fault in a word or two, the same for all such audio: it is counted by that.

    Args:
        message: What was found.
        kind: As above.
    """

    def __init__(self, message: str, kind: str = "damaged") -> None:
        super().__init__(message)
        self.kind = kind


def describe(error: soundfile.LibsndfileError) -> str:
    """Return libsndfile's reason; it has none for some errors."""
    return error.error_string.strip().rstrip(".") or f"error {error.code}"


def plain_file(source: str) -> str | None:
    """Return the file that a ``wav.scp`` value reads, or None for a pipe."""
    if source.endswith("|"):
        return None
    match = ARK.fullmatch(source)
    return match[1] if match and not os.path.exists(source) else source


class _Rest(io.RawIOBase):
    """A file from some byte on, as a file of its own: an ark does not say how long a FLAC is."""

    def __init__(self, path: str, offset: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._offset = offset
        self._file.seek(offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        return self._file.readinto(buffer)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = self._offset if whence == os.SEEK_SET else 0
        return self._file.seek(offset + start, whence) - self._offset

    def close(self) -> None:
        self._file.close()
        super().close()


def _open_ark(path: str, offset: int) -> IO[bytes]:
    """Open the audio file inside an ark, in the forms that kaldiio and ESPnet write.

    kaldiio's own reader would also unpickle, and passes over a truncated entry.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        magic = file.read(8)
        if not magic:
            raise AudioError(f"truncated: the ark ends before byte {offset}", "truncated")
        if magic[:5] == b"AUDIO":  # then a byte n, and the length in n bytes
            file.seek(offset + 6)
            size = int.from_bytes(file.read(magic[5] if len(magic) > 5 else 0), "little")
        elif magic[:4] == b"RIFF":
            file.seek(offset)
            size = int.from_bytes(magic[4:], "little") + 8
        elif magic[:4] == b"fLaC":
            return io.BufferedReader(_Rest(path, offset))
        else:
            raise AudioError(
                f"no audio at byte {offset} of the ark (AUDIO, WAV or FLAC is needed)", "not audio"
            )
        data = file.read(min(size, os.path.getsize(path)))  # a size may be damaged
    if len(data) < size:
        raise AudioError(
            f"truncated: {len(data)} of {size} bytes at byte {offset} of the ark", "truncated"
        )
    return io.BytesIO(data)


def _run_pipe(source: str) -> IO[bytes]:
    result = subprocess.run(
        source.removesuffix("|"), shell=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    if result.returncode:
        last = result.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        message = f"the command failed with {result.returncode}: {' '.join(last)}"
        raise AudioError(message, "command")
    return io.BytesIO(result.stdout)


def _open_bytes(source: str, allow_pipes: bool) -> IO[bytes]:
    """Open the bytes of an entry."""
    path = plain_file(source)
    if path is None:
        if not allow_pipes:
            message = "is a shell command; give --allow_pipes true if you trust the data"
            raise AudioError(message, "command")
        return _run_pipe(source)
    if not os.path.exists(path):
        raise AudioError("no such file", "missing")
    if not os.path.isfile(path):
        raise AudioError("not a file", "missing")
    try:
        if path != source:
            return _open_ark(path, int(source.rpartition(":")[2]))
        return open(path, "rb")
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}", "unreadable") from None


def _open_sound(file: IO[bytes], name: str | None) -> soundfile.SoundFile:
    """Open bytes as sound; by its name where it has one, which is quicker."""
    try:
        head = file.read(1024)
    except OSError as error:
        raise AudioError(f"cannot be read: {error.strerror}", "unreadable") from None
    if not head:
        raise AudioError("empty: 0 bytes", "empty")
    file.seek(0)
    try:
        audio = soundfile.SoundFile(file if name is None else name)
    except soundfile.LibsndfileError as error:
        if missing := cut_off(head, file, _size(file)):
            raise AudioError(f"truncated: {missing}", "truncated") from None
        if content := kind_of_content(head):
            raise AudioError(f"not audio that can be read: is {content}", "not audio") from None
        raise AudioError(f"corrupt or no audio: {describe(error)}", "not audio") from None
    except TypeError:  # soundfile wants to be told what a file called .raw holds
        raise AudioError("named .raw: has no header that says what it is", "not audio") from None
    if audio.format == "RAW":  # libsndfile takes anything called .vox or .gsm for that
        audio.close()
        raise AudioError("has no header that says what it is", "not audio")
    return audio


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
    with ExitStack() as stack:
        file = stack.enter_context(_open_bytes(source, allow_pipes))
        audio = stack.enter_context(
            _open_sound(file, source if plain_file(source) == source else None)
        )
        place = file.tell()  # libsndfile may be reading the same file
        missing = missing_part(audio, file, _size(file))
        file.seek(place)
        if missing:
            raise AudioError(f"truncated: {missing}", "truncated")
        if audio.frames <= 0:
            raise AudioError("empty: no samples", "empty")
        yield audio


def _size(file: IO[bytes]) -> int:
    return file.seek(0, os.SEEK_END)


def oddities(source: str, audio: soundfile.SoundFile) -> dict[str, str]:
    """Say what is odd about a file that can be used all the same.

    Args:
        source: Its ``wav.scp`` value.
        audio: The same, open.

    Returns:
        What was found, by kind: ``mislabelled``, ``no end mark``.
    """
    if plain_file(source) != source:
        return {}
    found = {}
    if label := mislabelled(source, audio):
        found["mislabelled"] = label
    with open(source, "rb") as file:
        if not has_end_mark(audio, file, _size(file)):
            found["no end mark"] = "may be truncated"
    return found
