"""Zips, read in place; also those that lie in another zip."""

from __future__ import annotations

import functools
import io
import os
import re
import shlex
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from espnet_plugin.corpora.archive_files import (
    MEMBER_LIMIT,
    ArchiveError,
    Files,
    check_name,
    media_of,
    unpacked,
)
from espnet_plugin.corpora.sound import HEAD, Audio, wav_seconds
from espnet_plugin.data.source import AudioError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


class Stretch(io.RawIOBase):
    """A part of a file, as a file of its own.

    Args:
        path: The file.
        start: First byte.
        size: Bytes.
    """

    def __init__(self, path: str, start: int, size: int) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - closed by close()
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell that it can be read anywhere."""
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Fill a buffer, as far as there is anything left."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._at))
        data = os.pread(self._file.fileno(), wanted, self._start + self._at)
        view[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte, counted from the start of the part, the present one or the end."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, origin + offset)
        return self._at

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class ZipFiles(Files):
    """The files of a zip.

    Args:
        path: The archive.
        media: Folder that compressed audio is unpacked to.
        compressed: ``extract`` it, or refer to it by a ``pipe`` through ``unzip``.
        inside: Where it lies in another zip: that file, the first byte, and how many.

    Raises:
        ArchiveError: It is damaged.
        ValueError: A member's name would lead outside, or it is encrypted or a link.
    """

    def __init__(
        self, path: str, media: str, compressed: str, inside: tuple[str, int, int] | None = None
    ) -> None:
        super().__init__(path)
        self._file, self._base, _ = inside or (path, 0, 0)
        self._media = media_of(path, media, self._file)
        self._compressed = "extract" if inside else compressed
        self._sorted: list[str] | None = None
        try:
            file = path if inside is None else io.BufferedReader(Stretch(*inside))
            self._zip = zipfile.ZipFile(file)
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
            is_zip = info.filename.lower().endswith(".zip")  # which is read in place
            if info.file_size > MEMBER_LIMIT and not is_zip:
                raise ValueError(f"{path}: {info.filename!r} has {info.file_size} bytes")
            self._members[info.filename] = info

    def names(self) -> list[str]:
        """List all members, sorted."""
        if self._sorted is None:
            self._sorted = sorted(self._members)
        return self._sorted

    def __contains__(self, name: str) -> bool:
        return name in self._members

    def stretch(self, name: str) -> tuple[str, int, int]:
        """Return the file, the first byte and the size of a zip that is stored in this one.

        Raises:
            ValueError: It is compressed, or the outer zip is cut.
        """
        info = self._members[name]
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(
                f"{self.path}: {name!r} is a zip compressed once more; unpack the outer one first: "
                f"unzip {shlex.quote(self._file)}"
            )
        return self._file, self._base + self._offset(info), info.file_size

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
        if (audio := self._stored_audio(info)) is not None:
            return audio
        try:
            with self._zip.open(info) as file:
                head = file.read(HEAD)
            seconds = wav_seconds(head, info.file_size)
            if seconds is not None and info.compress_type == zipfile.ZIP_STORED:
                return Audio(f"{self._file}:{self._base + self._offset(info)}", seconds)
            if seconds is not None and self._compressed == "pipe":
                member = re.sub(r"([\[\]*?\\])", r"\\\1", name)  # unzip takes these for wildcards
                command = ["unzip", "-p", self.path, member]
                return Audio(f"{shlex.join(command)} |", seconds)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise AudioError(f"damaged in the archive: {error}") from None
        return unpacked(self._media / name, info.file_size, functools.partial(self.read, name))

    def _stored_audio(self, info: zipfile.ZipInfo) -> Audio | None:
        """Measure a stored WAV by one short read; None where anything about it is unusual."""
        file = self._zip.fp
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 0x60 or file is None:
            return None
        file.seek(info.header_offset)
        data = file.read(2 * HEAD)
        if data[:4] != b"PK\3\4" or len(data) < 30:
            return None
        name, extra = struct.unpack_from("<HH", data, 26)
        start = 30 + name + extra
        head = data[start : start + min(HEAD, info.file_size)]
        if data[30 : 30 + name].decode("ascii", "replace") != info.orig_filename:
            return None
        if len(head) == info.file_size and zlib.crc32(head) != info.CRC:
            return None
        seconds = wav_seconds(head, info.file_size)
        if seconds is None:
            return None
        return Audio(f"{self._file}:{self._base + info.header_offset + start}", seconds)

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
