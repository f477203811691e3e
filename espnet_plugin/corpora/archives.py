"""Folders and archives, read alike and in place where that is possible.

What a ``wav.scp`` can refer to decides: a file; a WAV that lies uncompressed in a zip or tar
(``ARCHIVE:OFFSET``, which Kaldi's readers, ESPnet's and ours know); or the output of a command.
Everything else - deflated members, MP3 or FLAC in an archive - is unpacked when it is first asked
for. Names of members are checked before anything is read: none may lead out of the folder.
"""

import functools
import hashlib
import os
import re
import shlex
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from espnet_plugin.checkpoint import temporary_sibling
from espnet_plugin.corpora.sound import HEAD, Audio, file_audio, wav_seconds
from espnet_plugin.data.source import AudioError

COMPRESSED = ("extract", "pipe")
MEMBER_LIMIT = 4 * 2**30  # bytes of one member
_TAR = re.compile(r"\.(tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)


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


class ZipFiles(Files):
    """The files of a zip.

    Args:
        path: The archive.
        media: Folder that compressed audio is unpacked to.
        compressed: ``extract`` it, or refer to it by a ``pipe`` through ``unzip``.

    Raises:
        ArchiveError: It is damaged.
        ValueError: A member's name would lead outside, or it is encrypted or a link.
    """

    def __init__(self, path: str, media: str, compressed: str) -> None:
        super().__init__(path)
        self._media = _media_of(path, media)
        self._compressed = compressed
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, EOFError) as error:
            raise ArchiveError(f"{path}: damaged zip: {error}") from None
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in self._zip.infolist():
            check_name(path, info.filename)
            if info.is_dir():
                continue
            if info.flag_bits & 1:
                raise ValueError(f"{path}: {info.filename!r} is encrypted; unpack it first")
            if (info.external_attr >> 28) == 0o12:
                raise ValueError(f"{path}: {info.filename!r} is a symbolic link")
            if info.file_size > MEMBER_LIMIT:
                raise ValueError(f"{path}: {info.filename!r} has {info.file_size} bytes")
            self._members[info.filename] = info

    def names(self) -> list[str]:
        """List all members, sorted."""
        return sorted(self._members)

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def read(self, name: str) -> bytes:
        """Return the content of a member; errors as in `Files`."""
        if name not in self._members:
            raise FileNotFoundError(f"{self.path}: has no member {name!r}")
        try:
            return self._zip.read(name)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError) as error:
            raise ArchiveError(f"{self.path}: {name!r} is damaged: {error}") from None

    def audio(self, name: str) -> Audio:
        """See `Files.audio`."""
        info = self._members.get(name)
        if info is None:
            raise AudioError("no such file in the archive")
        try:
            with self._zip.open(info) as file:
                head = file.read(HEAD)
            seconds = wav_seconds(head, info.file_size)
            if seconds is not None and info.compress_type == zipfile.ZIP_STORED:
                return Audio(f"{self.path}:{self._offset(info)}", seconds)
            if seconds is not None and self._compressed == "pipe":
                member = re.sub(r"([\[\]*?\\])", r"\\\1", name)  # unzip takes these for wildcards
                command = ["unzip", "-p", self.path, member]
                return Audio(f"{shlex.join(command)} |", seconds)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise AudioError(f"damaged in the archive: {error}") from None
        return _unpacked(self._media / name, info.file_size, functools.partial(self.read, name))

    def _offset(self, info: zipfile.ZipInfo) -> int:
        """Return where a stored member's bytes begin: behind its own header."""
        file = self._zip.fp
        assert file is not None
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))
        return info.header_offset + 30 + name + extra

    def close(self) -> None:
        """Close the archive."""
        self._zip.close()


def _unpacked(target: Path, size: int, read: "functools.partial[bytes]") -> Audio:
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
        self._media = _media_of(path, media)
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
        return _unpacked(self._media / name, size, functools.partial(self.read, name))

    def close(self) -> None:
        """Close the archive."""
        if self._file is not None:
            self._file.close()


def _media_of(path: str, media: str) -> Path:
    """Return where an archive is unpacked to: another place for another, or changed, archive."""
    state = os.stat(path)
    key = f"{path}\0{state.st_size}\0{state.st_mtime_ns}".encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(key, digest_size=5).hexdigest()
    return Path(media) / f"{Path(path).name.partition('.')[0]}-{digest}"


def _normal(name: str) -> str:
    return str(PurePosixPath(name))


def open_files(path: str, media: str, compressed: str = "extract") -> Files:
    """Open a folder or an archive; the last few stay open.

    Args:
        path: A folder, ``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2`` or ``.tar.xz``.
        media: Folder to unpack to what cannot be read in place.
        compressed: One of `COMPRESSED`: what to do with compressed audio in a zip.

    Raises:
        FileNotFoundError: There is none.
        ArchiveError: It is damaged.
        ValueError: Another kind of file, or a member that would lead outside.
    """
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return Files(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"{path}: no such folder or archive")
    state = os.stat(path)
    return _open_archive(path, media, compressed, (state.st_size, state.st_mtime_ns))


@functools.lru_cache(maxsize=16)
def _open_archive(path: str, media: str, compressed: str, state: tuple[int, int]) -> Files:
    """Open an archive; `state` makes a changed file another one for the cache."""
    if path.lower().endswith(".zip"):
        return ZipFiles(path, media, compressed)
    if _TAR.search(path):
        return TarFiles(path, media)
    raise ValueError(f"{path}: neither a folder nor a .zip or .tar archive")
