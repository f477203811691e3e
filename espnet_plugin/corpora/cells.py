"""The audio that a row of a table has or names, as something that ``wav.scp`` can refer to.

A cell holds the bytes of an audio file, Hugging Face's ``{"bytes", "path"}`` or ``{"array",
"sampling_rate"}``, or a file name. Bytes go to files of their own: no reader takes sound out of a
parquet file.
"""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import soundfile

from espnet_plugin.corpora.archives import check_name
from espnet_plugin.corpora.corpus import AudioError, Context, Row, Skip
from espnet_plugin.corpora.hub_layout import no_audio
from espnet_plugin.corpora.sound import Audio, file_audio
from espnet_plugin.corpora.unpacked import unpack
from espnet_plugin.corpora.zip_set import ZipSet

SPEAKER = 24  # characters of the hash of an account (of 128) that speakers are named by
_PER_FOLDER = 1000  # files
_ENDINGS = {b"RIFF": "wav", b"fLaC": "flac", b"OggS": "ogg", b"ID3": "mp3", b"FORM": "aiff"}


def media_folder(path: str, media: Path) -> Path:
    """Return where the audio of a table goes; another place if the table has changed."""
    state = os.stat(path)
    key = f"{path}\0{state.st_size}\0{state.st_mtime_ns}".encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(key, digest_size=5).hexdigest()
    return media / f"{Path(path).name.partition('.')[0]}-{digest}"


def store(data: bytes, target: str) -> Audio:
    """Write the bytes of an audio file, unless they are there already from a killed run.

    Args:
        data: The file's content.
        target: Where it goes, without ending.

    Raises:
        AudioError: It is empty, truncated, damaged or no audio.
    """
    if not data:
        raise AudioError("empty: 0 bytes")
    endings = (ending for magic, ending in _ENDINGS.items() if data.startswith(magic))
    ending = next(endings, "mp3" if data[0] == 0xFF and data[1:2] >= b"\xe0" else "bin")
    return unpack(f"{target}.{ending}", len(data), lambda: data)


def cell_audio(
    cell: Any,
    context: Context,
    table: str,
    row: int,
    folders: Sequence[str | Path] = (),
    zips: ZipSet | None = None,
) -> Audio:
    """Find the audio of a row.

    Args:
        cell: The value of its audio column.
        context: Of the unit that is read.
        table: File of the table.
        row: Number of the row, which names the file that bytes are written to.
        folders: Where a relative file name may be.
        zips: Archives where it may be.

    Raises:
        AudioError: There is none, or it is truncated, damaged or no audio.
    """
    if isinstance(cell, Mapping):
        data, name = cell.get("bytes"), cell.get("path")
        if data is None and cell.get("array") is not None:
            data = _encoded(cell["array"], cell.get("sampling_rate"))
        cell = data if data is not None else name
    if isinstance(cell, bytes):
        place = f"{row // _PER_FOLDER:05d}/{row:08d}"
        return store(cell, os.path.join(media_folder(table, context.media), place))
    if not isinstance(cell, str) or not cell.strip():
        raise AudioError("no audio in the row")
    return named_audio(cell.strip(), folders, zips)


def _encoded(samples: Any, rate: Any) -> bytes:
    import numpy as np

    file = io.BytesIO()
    try:
        array = np.asarray(samples, dtype=np.float32)
        soundfile.write(file, array, int(rate), format="WAV", subtype="FLOAT")
    except (TypeError, ValueError, soundfile.LibsndfileError) as error:
        raise AudioError(f"no samples: {error}") from None
    return file.getvalue()


def named_audio(name: str, folders: Sequence[str | Path], zips: ZipSet | None = None) -> Audio:
    """Find a recording by its name, in folders and then in archives.

    Leading folders of the name may be missing where it lies: unpacking tools differ.

    Args:
        name: As a table has it; absolute, or relative to one of the folders.
        folders: Where to look.
        zips: Where else.

    Raises:
        AudioError: It is not there, would lead out of the folders, or is truncated, damaged or no
            audio.
    """
    if os.path.isabs(name):
        return file_audio(name)
    name = name.removeprefix("./")
    try:
        check_name("the table", name)
    except ValueError:
        raise AudioError(f"unsafe file name {name!r}") from None
    parts = name.split("/")
    names = ["/".join(parts[n:]) for n in range(len(parts))]
    for short in names:
        for folder in folders:
            path = os.path.join(folder, short)
            if os.path.isfile(path):
                return file_audio(os.path.abspath(path))
    if zips is not None:
        for short in names:
            if short in zips:
                return zips.audio(short)
    raise AudioError(f"no such file: {name}")


def clip_row(
    name: str, account: str, text: str, lang: str, folder: str, split: str | None
) -> Row | Skip:
    """Make the row of a clip that a table of Mozilla's names.

    Args:
        name: Its file.
        account: Hash of the account that recorded it; may be empty.
        text: What is said.
        lang: In which language.
        folder: Where the clips are.
        split: The official split.

    Returns:
        The row, or why there is none.
    """
    try:
        audio = named_audio(name, [folder])
    except AudioError as error:
        return no_audio(name, error)
    speaker = account[:SPEAKER] or None
    stem = PurePosixPath(name).stem
    return Row(stem, speaker, text, lang, audio.source, audio.seconds, split=split)
