"""Many zips seen as one folder.

Large sets come as some hundred zips with millions of small files, and nobody says which zip has
which. Here a member takes 40 bytes of memory; that it is the right one is checked when it is read.
"""

import functools
import hashlib
import os
import struct
import zlib
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_plugin.corpora.corpus import AudioError
from espnet_plugin.corpora.sound import HEAD, Audio, wav_seconds
from espnet_plugin.corpora.unpacked import unpack
from espnet_plugin.corpora.zip_volumes import Archive, Entry, Volumes, decoded


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class ZipSet:
    """The files of zips, by name; the first zip that has a name counts.

    Args:
        zips: As `find_zips` lists them.
        media: Folder that compressed audio is unpacked to.

    Raises:
        ArchiveError: One is damaged or truncated.
        ValueError: A member's name would lead outside, or it is encrypted or a link.
    """

    def __init__(self, zips: Sequence[Volumes], media: str | Path) -> None:
        self._archives = [Archive(volumes) for volumes in zips]
        self._media = [_media_of(volumes, Path(media)) for volumes in zips]
        columns = [
            array(code) for code in "QQQQHIH"
        ]  # hash, offset, packed, size, method, crc, zip
        for number, archive in enumerate(self._archives):
            for e in archive.entries():
                values = (_hash(e.name), e.offset, e.packed, e.size, e.method, e.crc, number)
                for column, value in zip(columns, values, strict=True):
                    column.append(value)
        arrays = [np.frombuffer(c, c.typecode) if c else np.empty(0, c.typecode) for c in columns]
        order = np.argsort(arrays[0], kind="stable")
        self._hashes, *self._values = (values[order] for values in arrays)

    def __len__(self) -> int:
        return len(self._hashes)

    def _find(self, name: str) -> tuple[Entry, int] | None:
        key = _hash(name)
        place = int(np.searchsorted(self._hashes, np.uint64(key)))
        if place == len(self._hashes) or int(self._hashes[place]) != key:
            return None
        offset, packed, size, method, crc, number = (int(values[place]) for values in self._values)
        return Entry(name, offset, packed, size, method, crc), number

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def _start(self, entry: Entry, archive: Archive) -> int:
        """Return where a member's bytes begin: behind its own header, which repeats its name."""
        head = archive.read(entry.offset, 30)
        if len(head) < 30 or head[:4] != b"PK\x03\x04":
            raise AudioError(f"damaged in the archive {archive.volumes[-1]}: no header")
        name_size, extra_size = struct.unpack_from("<HH", head, 26)
        if decoded(archive.read(entry.offset + 30, name_size)) != entry.name:
            raise AudioError(f"damaged in the archive {archive.volumes[-1]}: another name")
        return entry.offset + 30 + name_size + extra_size

    def audio(self, name: str) -> Audio:
        """Find out how long a recording is, and how ``wav.scp`` refers to it.

        Raises:
            AudioError: It is missing, empty, truncated, damaged or no audio.
        """
        found = self._find(name)
        if found is None:
            raise AudioError("no such file in the archives")
        entry, number = found
        archive = self._archives[number]
        start = self._start(entry, archive)
        if entry.method == 0:
            seconds = wav_seconds(archive.read(start, min(HEAD, entry.size)), entry.size)
            if seconds is not None and (place := archive.place(start, entry.size)):
                return Audio(place, seconds)
        read = functools.partial(self._unpacked, entry, archive, start)
        return unpack(os.path.join(self._media[number], name), entry.size, read)

    def _unpacked(self, entry: Entry, archive: Archive, start: int) -> bytes:
        data = archive.read(start, entry.packed)
        try:
            if entry.method == 8:
                data = zlib.decompressobj(-15).decompress(data, entry.size)
            elif entry.method:
                raise AudioError(f"compressed by method {entry.method}; unpack the archive first")
        except zlib.error as error:
            raise AudioError(f"damaged in the archive: {error}") from None
        if len(data) != entry.size or zlib.crc32(data) != entry.crc:
            raise AudioError(f"damaged in the archive {archive.volumes[-1]}: wrong checksum")
        return data


def _media_of(volumes: Volumes, media: Path) -> Path:
    """Return where a zip is unpacked to: another place for another, or changed, zip."""
    state = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in volumes]
    digest = hashlib.blake2b(repr(state).encode("utf-8", "surrogateescape"), digest_size=5)
    return media / f"{Path(volumes[0]).name.partition('.')[0]}-{digest.hexdigest()}"


def open_zips(zips: Sequence[Volumes], media: str | Path) -> ZipSet:
    """Open zips; the last set stays open, as long as none of its files changes."""
    state = tuple((os.stat(p).st_size, os.stat(p).st_mtime_ns) for v in zips for p in v)
    return _open(tuple(zips), str(media), state)


@functools.lru_cache(maxsize=2)
def _open(zips: tuple[Volumes, ...], media: str, state: tuple[tuple[int, int], ...]) -> ZipSet:
    return ZipSet(zips, media)
