"""A folder of files, what archives have in common with it, and where their members go."""

from __future__ import annotations

import bisect
import functools
import hashlib
import os
import re
from pathlib import Path

from espnet_plugin.checkpoint import temporary_sibling
from espnet_plugin.corpora.sound import Audio, file_audio
from espnet_plugin.data.source import AudioError

MEMBER_LIMIT = 4 * 2**30  # bytes of one member


class ArchiveError(Exception):
    """An archive that cannot be read; the message names it."""


def check_name(archive: str, name: str) -> None:
    """Refuse a member name that would lead out of the folder it is unpacked to.

    Raises:
        ValueError: The name is absolute, has ``..``, a backslash, a drive or a control character.
    """
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"{archive}: unsafe member name {name!r}: it leads out of the archive")
    if not name.isprintable():
        raise ValueError(f"{archive}: unsafe member name {name!r}: it has control characters")


class Files:
    """Named files in one place; this one is a folder.

    Args:
        path: The folder.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def names(self) -> list[str]:
        """List all files below, as ``folder/file``, sorted."""
        found = []
        for folder, folders, files in os.walk(self.path, onerror=_raise):
            folders.sort()
            below = os.path.relpath(folder, self.path).replace(os.sep, "/")
            found += [name if below == "." else f"{below}/{name}" for name in files]
        return sorted(found)

    def __contains__(self, name: str) -> bool:
        return os.path.isfile(os.path.join(self.path, name))

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            FileNotFoundError: There is none of this name.
            ArchiveError: It is damaged.
        """
        check_name(self.path, name)
        return Path(self.path, name).read_bytes()

    def audio(self, name: str) -> Audio:
        """Find out how long a recording is, and how ``wav.scp`` refers to it.

        Raises:
            AudioError: It is missing, empty, truncated, damaged or no audio.
        """
        check_name(self.path, name)
        return file_audio(os.path.join(self.path, name))

    def close(self) -> None:
        """Close the archive."""


def _raise(error: OSError) -> None:
    raise error


class FolderIn(Files):
    """A folder of an archive.

    Args:
        files: The archive.
        folder: A folder in it.

    Raises:
        FileNotFoundError: It has no such folder.
    """

    def __init__(self, files: Files, folder: str) -> None:
        super().__init__(f"{files.path}/{folder}")
        self._files, self._below = files, f"{folder}/"
        if self._ends()[0] == self._ends()[1]:
            raise FileNotFoundError(f"{files.path}: has no folder {folder!r}")

    def _ends(self) -> tuple[int, int]:
        """Return the places of its first member and behind its last one."""
        names = self._files.names()
        first = bisect.bisect_left(names, self._below)
        # "0" follows "/" in the order of characters
        return first, bisect.bisect_left(names, f"{self._below[:-1]}0", first)

    def names(self) -> list[str]:
        """List all members below the folder, sorted."""
        names = self._files.names()
        first, last = self._ends()
        return [name[len(self._below) :] for name in names[first:last]]

    def __contains__(self, name: str) -> bool:
        return self._below + name in self._files

    def read(self, name: str) -> bytes:
        """See `Files.read`."""
        return self._files.read(self._below + name)

    def audio(self, name: str) -> Audio:
        """See `Files.audio`."""
        return self._files.audio(self._below + name)


def unpacked(target: Path, size: int, read: functools.partial[bytes]) -> Audio:
    """Unpack a member once; a killed run leaves no half of it."""
    if not (target.is_file() and target.stat().st_size == size):
        try:
            data = read()
        except ArchiveError as error:
            raise AudioError(str(error)) from None
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_sibling(target.with_name("unpacked"))
        try:
            temporary.write_bytes(data)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    return file_audio(os.path.abspath(target))


def media_of(path: str, media: str, file: str = "") -> Path:
    """Return where an archive is unpacked to: another place for another, or changed, archive."""
    state = os.stat(file or path)
    key = f"{path}\0{state.st_size}\0{state.st_mtime_ns}".encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(key, digest_size=5).hexdigest()
    return Path(media) / f"{Path(path).name.partition('.')[0]}-{digest}"
