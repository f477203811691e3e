"""Tars: an uncompressed one is read in place."""

from __future__ import annotations

import functools
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO

from espnet_plugin.corpora.archive_files import (
    ArchiveError,
    Files,
    check_name,
    media_of,
    unpacked,
)
from espnet_plugin.corpora.sound import HEAD, Audio, file_audio, wav_seconds
from espnet_plugin.data.source import AudioError


class TarFiles(Files):
    """The files of a tar: an uncompressed one in place, a compressed one unpacked as a whole.

    Args:
        path: The archive.
        media: Folder to unpack to.

    Raises:
        ArchiveError: It is damaged.
        ValueError: A member's name would lead outside, or it is a link or a device.
    """

    def __init__(self, path: str, media: str) -> None:
        super().__init__(path)
        self._media = media_of(path, media)
        self._members: dict[str, tuple[int, int]] = {}  # offset of the samples, bytes
        self._file: IO[bytes] | None = None
        try:
            with tarfile.open(path, "r:") as archive:
                for member in self._checked(archive):
                    self._members[_normal(member.name)] = member.offset_data, member.size
            self._file = open(path, "rb")  # noqa: SIM115 - closed by close()
            size = os.fstat(self._file.fileno()).st_size
            if any(offset + length > size for offset, length in self._members.values()):
                raise ArchiveError(f"{path}: damaged tar: it is truncated")
        except tarfile.ReadError:
            self._unpack()

    def _checked(self, archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in archive:
            check_name(self.path, member.name)
            if member.isdir():
                continue
            if not member.isfile():
                raise ValueError(f"{self.path}: {member.name!r} is a link or a device")
            yield member

    def _unpack(self) -> None:
        """Unpack everything: a compressed tar can only be read from its start."""
        done = self._media / ".unpacked"
        if not done.is_file():
            try:
                with tarfile.open(self.path, "r|*") as archive:
                    for member in self._checked(archive):
                        target = self._media / _normal(member.name)
                        content = archive.extractfile(member)
                        assert content is not None
                        target.parent.mkdir(parents=True, exist_ok=True)
                        target.write_bytes(content.read())
            except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # a full disk, no permission
                raise ArchiveError(f"{self.path}: damaged tar: {error}") from None
            self._media.mkdir(parents=True, exist_ok=True)
            done.touch()
        names = [name for name in Files(str(self._media)).names() if name != ".unpacked"]
        self._members = dict.fromkeys(names, (-1, 0))

    def names(self) -> list[str]:
        """List all members, sorted."""
        return sorted(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """Return the content of a member; errors as in `Files`."""
        if name not in self._members:
            raise FileNotFoundError(f"{self.path}: has no member {name!r}")
        offset, size = self._members[name]
        if self._file is None:
            return (self._media / name).read_bytes()
        self._file.seek(offset)
        return self._file.read(size)

    def audio(self, name: str) -> Audio:
        """See `Files.audio`."""
        if name not in self._members:
            raise AudioError("no such file in the archive")
        offset, size = self._members[name]
        if self._file is None:
            return file_audio(os.path.abspath(self._media / name))
        self._file.seek(offset)
        seconds = wav_seconds(self._file.read(min(HEAD, size)), size)
        if seconds is not None:
            return Audio(f"{self.path}:{offset}", seconds)
        return unpacked(self._media / name, size, functools.partial(self.read, name))

    def close(self) -> None:
        """Close the archive."""
        if self._file is not None:
            self._file.close()


def _normal(name: str) -> str:
    return str(PurePosixPath(name))
