"""Folders and archives, read alike and in place where that is possible.

What a ``wav.scp`` can refer to decides: a file; a WAV that lies uncompressed in a zip or tar
(``ARCHIVE:OFFSET``, which Kaldi's readers, ESPnet's and ours know); or the output of a command.
Everything else - deflated members, MP3 or FLAC in an archive - is unpacked when it is first asked
for. Names of members are checked before anything is read: none may lead out of the folder.

A path may go on into a zip: ``a.zip/folder``, and ``a.zip/folder/b.zip`` if ``b.zip`` is stored
there uncompressed, which is what zip programs do with a zip.
"""

import functools
import os
import re

from espnet_plugin.corpora.archive_files import (
    MEMBER_LIMIT,
    ArchiveError,
    Files,
    FolderIn,
    check_name,
)
from espnet_plugin.corpora.archive_tar import TarFiles
from espnet_plugin.corpora.archive_zip import ZipFiles
from espnet_plugin.corpora.sound import Audio
from espnet_plugin.data.source import AudioError

__all__ = [
    "COMPRESSED",
    "MEMBER_LIMIT",
    "ArchiveError",
    "Audio",
    "AudioError",
    "Files",
    "TarFiles",
    "ZipFiles",
    "check_name",
    "on_disk",
    "open_files",
]

COMPRESSED = ("extract", "pipe")
_TAR = re.compile(r"\.(tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)


def open_files(path: str, media: str, compressed: str = "extract") -> Files:
    """Open a folder or an archive; the last few stay open.

    Args:
        path: A folder, ``.zip``, ``.tar``, ``.tar.gz``, ``.tar.bz2`` or ``.tar.xz``; or a folder
            or zip in a zip.
        media: Folder to unpack to what cannot be read in place.
        compressed: One of `COMPRESSED`: what to do with compressed audio in a zip.

    Raises:
        FileNotFoundError: There is none.
        ArchiveError: It is damaged.
        ValueError: Another kind of file, a member that would lead outside, or a zip that is
            compressed in another zip.
    """
    path = os.path.abspath(path)
    if os.path.isdir(path):
        return Files(path)
    file = on_disk(path)
    if file != path and not (file.lower().endswith(".zip") and os.path.isfile(file)):
        raise FileNotFoundError(f"{path}: no such folder or archive")
    stat = os.stat(file)
    state = stat.st_size, stat.st_mtime_ns
    files = _open_archive(file, media, compressed, state)
    rest = path[len(file) + 1 :]
    while rest:
        ends = (match.end() for match in re.finditer(r"\.zip(?=/|$)", rest, re.IGNORECASE))
        inner = next((rest[:end] for end in ends if rest[:end] in files), None)
        if inner is None:
            return FolderIn(files, rest)
        files = _open_stored(files.path, inner, media, compressed, state)
        rest = rest[len(inner) + 1 :]
    return files


@functools.lru_cache(maxsize=16)
def _open_stored(
    outer: str, name: str, media: str, compressed: str, state: tuple[int, int]
) -> Files:
    """Open a zip that lies in another one."""
    files = open_files(outer, media, compressed)
    assert isinstance(files, ZipFiles)
    return ZipFiles(f"{outer}/{name}", media, compressed, files.stretch(name))


def on_disk(path: str) -> str:
    """Return the file that a path leads to, which may go on in an archive.

    Args:
        path: An existing file or folder; or one in an archive.
    """
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path


@functools.lru_cache(maxsize=16)
def _open_archive(path: str, media: str, compressed: str, state: tuple[int, int]) -> Files:
    """Open an archive; `state` makes a changed file another one for the cache."""
    if path.lower().endswith(".zip"):
        return ZipFiles(path, media, compressed)
    if _TAR.search(path):
        return TarFiles(path, media)
    raise ValueError(f"{path}: neither a folder nor a .zip or .tar archive")
