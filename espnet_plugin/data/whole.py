"""Is a sound file whole, and is it sound at all? What libsndfile passes over is found here."""

import re
from typing import IO

import soundfile

UNKNOWN_LENGTH = 0x7FFF0000  # bytes; programs that write to a pipe leave such sizes in the header
# libsndfile's log: the chunk of samples in WAV, AIFF, AU, and the whole file in W64, RF64
SIZES = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
SPHERE_COUNT = re.compile(rb"^sample_count -i (\d+)$", re.MULTILINE)  # in the first 1 024 bytes
HEADER_SLACK = 64  # bytes; some programs count the header as samples
_PAGE = 65536  # bytes that a page of Ogg has at most, about
_FIRST_FRAME = 8192  # bytes in which the first frame of an MP3 is looked for
# What a name says, and libsndfile's names of what is inside
LABELS = {
    "wav": ("WAV", "WAVEX", "RF64"),
    "flac": ("FLAC",),
    "mp3": ("MP3",),
    "ogg": ("OGG",),
    "oga": ("OGG",),
    "opus": ("OGG",),
    "aif": ("AIFF",),
    "aiff": ("AIFF",),
    "au": ("AU",),
    "caf": ("CAF",),
    "w64": ("W64",),
}
# What is no sound, or sound that libsndfile does not read: offset, bytes there, what it is
_OTHERS = (
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (4, b"ftyp", "MP4 or M4A"),
    (0, b"\x30\x26\xb2\x75", "WMA or ASF"),
    (0, b"#!AMR", "AMR"),
    (0, b"\xff\xf1", "AAC"),
    (0, b"\xff\xf9", "AAC"),
    (0, b"PK\x03\x04", "a zip"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"version https://git-lfs", "a Git LFS pointer: fetch the file itself"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"<?xml", "XML"),
    (0, b"{", "JSON"),
)


def kind_of_content(head: bytes) -> str | None:
    """Say what a file is that libsndfile cannot open, by its first bytes; None if nobody knows."""
    start = head.lstrip()[:16] if head[:1].isspace() else head
    for offset, magic, name in _OTHERS:
        if start[offset : offset + len(magic)].lower() == magic.lower():
            return name
    return None


def cut_off(head: bytes, file: IO[bytes], size: int) -> str | None:
    """Say what is missing of a file that is cut so early that libsndfile cannot open it."""
    if head[:4] == b"OggS":
        return _ogg_missing(file, size)
    if head[:4] == b"RIFF" and len(head) >= 8 and b"WAVE".startswith(head[8:12]):
        said = int.from_bytes(head[4:8], "little") + 8
        if size + HEADER_SLACK < said < UNKNOWN_LENGTH:
            return f"{size} of {said} bytes"
    return None


def mislabelled(path: str, audio: soundfile.SoundFile) -> str | None:
    """Say how a file's name differs from its content; None where it does not."""
    label = path.rpartition("/")[2].rpartition(".")[2].lower()
    if audio.format in LABELS.get(label, (audio.format,)):
        return None
    return f"named .{label}, is {audio.format}"


def missing_part(audio: soundfile.SoundFile, file: IO[bytes], size: int) -> str | None:
    """Compare what a file's headers say with what is there.

    Args:
        audio: The file, opened by libsndfile.
        file: The same, to read its bytes; its position changes.
        size: Bytes of it.

    Returns:
        What is missing, or None.
    """
    if audio.format == "MP3":
        return _mp3_missing(file, size)
    if audio.format == "OGG":
        return _ogg_missing(file, size)
    lengths = SIZES.search(audio.extra_info)
    if lengths and int(lengths[2]) + HEADER_SLACK < int(lengths[1]) < UNKNOWN_LENGTH:
        return f"{lengths[2]} of {lengths[1]} bytes"
    if audio.format == "NIST":
        file.seek(0)
        count = SPHERE_COUNT.search(file.read(1024))
        if count and audio.frames < int(count[1]):
            return f"{audio.frames} of {int(count[1])} samples"
    return None


def xing_bytes(file: IO[bytes]) -> tuple[int, int] | None:
    """Read how long an MP3 says it is, which encoders write into the first frame.

    Returns:
        Where that frame begins, and the bytes from there on; None where the file does not say.
    """
    file.seek(0)
    tag = file.read(10)
    start = 0
    if tag[:3] == b"ID3" and len(tag) == 10:
        size = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(reversed(tag[6:])))
        start = 10 + size + (10 if tag[5] & 0x10 else 0)
    file.seek(start)
    data = file.read(_FIRST_FRAME)
    for match in re.finditer(rb"Xing|Info", data):
        # the header of the frame stands before it, and side information by version and channels
        for distance in (13, 21, 36):
            frame = match.start() - distance
            if frame >= 0 and data[frame] == 0xFF and data[frame + 1] & 0xE0 == 0xE0:
                flags = int.from_bytes(data[match.end() : match.end() + 4], "big")
                place = match.end() + 4 + (4 if flags & 1 else 0)
                length = int.from_bytes(data[place : place + 4], "big") if flags & 2 else 0
                return (start + frame, length) if length else None
    return None


def _mp3_missing(file: IO[bytes], size: int) -> str | None:
    said = xing_bytes(file)
    if said is None or size - said[0] + HEADER_SLACK >= said[1]:
        return None
    return f"{size - said[0]} of {said[1]} bytes"


def _last_page(file: IO[bytes], size: int) -> tuple[int, int, int] | None:
    """Return the last Ogg page's place, its length as its header says it, and its flags."""
    start = max(0, size - _PAGE - 512)
    file.seek(start)
    tail = file.read(size - start)
    place = tail.rfind(b"OggS")
    if place < 0:
        return None
    header = tail[place : place + 27]
    if len(header) < 27:
        return start + place, 27, 0
    lacing = tail[place + 27 : place + 27 + header[26]]
    return start + place, 27 + header[26] + sum(lacing), header[5]


def _ogg_missing(file: IO[bytes], size: int) -> str | None:
    page = _last_page(file, size)
    if page is not None and page[0] + page[1] > size:
        return f"{size - page[0]} of {page[1]} bytes of its last page"
    return None


def has_end_mark(audio: soundfile.SoundFile, file: IO[bytes], size: int) -> bool:
    """Tell whether a stream says that it ends where it ends; True where its format says nothing."""
    if audio.format != "OGG":
        return True
    page = _last_page(file, size)
    return page is not None and bool(page[2] & 4)
