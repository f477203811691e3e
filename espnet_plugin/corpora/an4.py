"""Real sound from ESPnet's wheel: eight English recordings (an4), noises, room responses.

The archive is read in memory, after its member names are checked. an4 is far too small to train on
or to measure with; the recordings are shown as examples.
"""

import importlib.util
import io
import posixpath
import re
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np
import soundfile

from espnet_plugin.corpora.augment import RATE
from espnet_plugin.corpora.data_dir import Utterance, write_data_dir, write_wav

ARCHIVE = Path("egs3/mini_an4/esp2_asr/downloads.tar.gz")
MEMBER_LIMIT = 16 * 2**20  # bytes; the largest real one has 94 kB
NOISES = ("downloads/noise/noise-free-sound-0043.wav", "downloads/noise/noise-sound-bible-0001.wav")
ROOMS = ("downloads/rirs/rir1.wav", "downloads/rirs/rir2.wav")
_TRANSCRIPT = re.compile(r"(?:<s>)?\s*(.+?)\s*(?:</s>)?\s*\((\S+)\)")


def find_archive() -> Path:
    """Locate the archive beside the installed espnet2, which is not imported (that takes seconds).

    Raises:
        FileNotFoundError: ESPnet is not installed, or its wheel has no such archive.
    """
    spec = importlib.util.find_spec("espnet2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("ESPnet is not installed: run make env, or pip install espnet")
    path = Path(spec.submodule_search_locations[0]).parent / ARCHIVE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; reinstall ESPnet 202611, whose wheel carries it")
    return path


def read_members(path: Path) -> dict[str, bytes]:
    """Read a tar archive into memory.

    Args:
        path: A ``.tar.gz`` file.

    Returns:
        The content of each regular file by its name.

    Raises:
        ValueError: Not a tar archive, or a member that is absolute, climbs out with ``..``, is a
            link or device, or is larger than 16 MiB.
    """
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name
                if (
                    PurePosixPath(name).is_absolute()
                    or ".." in PurePosixPath(name).parts
                    or "\\" in name
                ):
                    raise ValueError(f"{path}: unsafe member name {name!r}")
                if member.isdir():
                    continue
                if not member.isfile():
                    raise ValueError(f"{path}: {name!r} is neither a file nor a directory")
                if member.size > MEMBER_LIMIT:
                    raise ValueError(
                        f"{path}: {name!r} has {member.size} bytes, at most {MEMBER_LIMIT} expected"
                    )
                stream = archive.extractfile(member)
                assert stream is not None
                members[posixpath.normpath(name)] = stream.read()
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{path}: not a readable tar.gz archive: {error}") from error
    return members


def read_sound(members: dict[str, bytes], name: str) -> np.ndarray:
    """Decode one member (WAV or NIST SPHERE).

    Returns:
        float32 ``(samples,)`` at 16 kHz.

    Raises:
        ValueError: No such member, not audio, or not 16 kHz mono.
    """
    if name not in members:
        raise ValueError(f"{ARCHIVE.name}: no member {name!r}; it has {' '.join(sorted(members))}")
    try:
        wave, rate = soundfile.read(io.BytesIO(members[name]), dtype="float32")
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{ARCHIVE.name}: {name!r} is not audio: {error}") from error
    if rate != RATE or wave.ndim != 1:
        raise ValueError(
            f"{ARCHIVE.name}: {name!r} has {rate} Hz, {wave.ndim} channels; expected {RATE} Hz mono"
        )
    return wave


def noises_and_rooms(
    members: dict[str, bytes], held_out: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Choose noises and room responses so that test conditions are not those of training.

    Args:
        members: The archive's files.
        held_out: True for test sets: each noise's second half and the second room; False for all
            other sets: the first halves and the first room.

    Returns:
        Noises and room responses, float32 ``(samples,)`` at 16 kHz.
    """
    noises = [read_sound(members, name) for name in NOISES]
    halves = [n[len(n) // 2 :] if held_out else n[: len(n) // 2] for n in noises]
    return halves, [read_sound(members, ROOMS[1] if held_out else ROOMS[0])]


def write_examples(members: dict[str, bytes], output: Path) -> int:
    """Write the recordings as a data directory, the one without a transcript beside it.

    Args:
        members: The archive's files.
        output: The directory; gets the corpus's licence too, and ``untranscribed.scp``.

    Returns:
        How many recordings have a transcript.
    """
    texts: dict[str, str] = {}
    for name, content in members.items():
        if name.endswith(".transcription"):
            for line in content.decode().splitlines():
                if match := _TRANSCRIPT.fullmatch(line.strip()):
                    texts[match.group(2)] = match.group(1).lower()
    rows, rest = [], []
    for name in sorted(n for n in members if n.endswith(".sph")):
        recording, speaker = PurePosixPath(name).stem, PurePosixPath(name).parent.name
        path = write_wav(output / "wav" / f"{speaker}-{recording}.wav", read_sound(members, name))
        if recording in texts:
            row = Utterance(f"{speaker}-{recording}", speaker, texts[recording], "en", path)
            rows.append(row)
        else:
            rest.append(f"{speaker}-{recording} {path}\n")
    write_data_dir(output, rows)
    (output / "untranscribed.scp").write_text("".join(sorted(rest)), encoding="utf-8")
    (output / "LICENSE").write_bytes(members["downloads/an4/LICENSE"])
    return len(rows)
