"""Where the parts of the National Speech Corpus lie, and which recording has which transcript.

Names are compared without case and with underscores as spaces, because copies of the corpus differ.
A folder of parts 3 to 6 may still be a zip, or several; so may a whole part, or the whole corpus,
and zips may lie in zips.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.archives import open_files
from espnet_plugin.corpora.zip_tree import Place, zip_tree

_PART = re.compile(r"part ?([1-6])")
_WHOLE = re.compile(r"(?:part ?(?P<part>[1-6])(?!\d)|imda|nsc|national speech corpus).*\.zip")
_CHANNEL = re.compile(r"channel ?([0-9])")
_SCRIPT = re.compile(r"(?P<channel>\d)(?P<speaker>\d{4})(?P<session>\d)\.txt", re.IGNORECASE)
_SPEAKER = re.compile(r"speaker ?(?P<speaker>\d{4})(?P<zip>\.zip)?")
_COPY = r"(?: ?\(?\d+\)?)?(?:\.zip)?"  # `Audio 2.zip`, `Audio (2).zip`
# part, microphone, folder of the audio, folder of the scripts
_PLACES = [
    (3, "close", r"audio same close ?mic", r"scripts? same"),
    (3, "boundary", r"audio same boundary ?mic", r"scripts? same"),
    (3, "standing", r"audio separate standing ?mic", r"scripts? separate"),
    (3, "ivr", r"audio separate ivr", r"scripts? separate"),
    (4, "", r"same room audio", r"same room scripts?"),
    (4, "", r"diff room audio", r"diff room scripts?"),
    (5, "", r"debate audio", r"debate scripts?"),
    (5, "", r"finance ?\+ ?emotions? audio", r"finance ?\+ ?emotions? scripts?"),
    *(
        (6, "", rf"call centre design {n}/audio", rf"call centre design {n}/scripts?")
        for n in "123"
    ),
]
_NAMES = (
    re.compile(r"(?P<session>\d{3,5})-(?P<speaker>\d)"),
    re.compile(r"(?P<session>conf_\d+_\d+)_(?P<speaker>\d+)"),
    re.compile(
        r"(?P<session>[a-z]{3}_\d+)_(?P<speaker>\d+)_phn[ds]_"
        r"(?P<style>cs-[a-z]{3}|cc-[a-z]{3}|deb-\d|fin|neg|pos)(?P<rest>(?:_.*)?)"
    ),
)


@dataclass(frozen=True)
class Prompted:
    """A speaker of parts 1 and 2 at one microphone.

    Attributes:
        part: 1 or 2.
        channel: ``0``, ``1`` or ``2``.
        speaker: Four digits.
        scripts: Transcripts, one a session.
        audio: A folder or zip; None where it is missing.
    """

    part: int
    channel: str
    speaker: str
    scripts: tuple[str, ...]
    audio: str | None


@dataclass(frozen=True)
class Spoken:
    """A recording of parts 3 to 6 and its transcript; each is a place and a name in it.

    Attributes:
        part: 3 to 6.
        microphone: Of part 3; else empty.
        stem: Name without ending; of the transcript where there is one.
        session: Whose speakers were recorded together.
        speaker: Who speaks, unique in the part.
        style: ``cs-mly``, ``deb-1``, ``cc-hol`` ...; empty in part 3.
        script: The TextGrid; None where it is missing.
        audio: The WAV; None where it is missing.
    """

    part: int
    microphone: str
    stem: str
    session: str
    speaker: str
    style: str
    script: tuple[str, str] | None
    audio: tuple[str, str] | None


def plain(name: str) -> str:
    """Return a name as it is compared: lower case, underscores and runs of spaces are one space."""
    return re.sub(r"[_\s]+", " ", name.lower())


def _entries(folder: Place) -> list[Place]:
    """List a folder, which may lie in a zip, without hidden files; sorted by name."""
    found: list[Place] = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.name)


def find_parts(root: Place, depth: int = 4) -> list[tuple[int, Place]]:
    """Find ``PART1`` to ``PART6`` at the root or a few folders below; the root may be one.

    A part, or all of them, may be a zip whose name says so.

    Raises:
        ArchiveError: Such a zip is damaged.
        ValueError: A member of it would lead outside.
    """
    name = root.absolute().name if isinstance(root, Path) else root.name
    if match := _PART.fullmatch(plain(name)):
        return [(int(match[1]), root)]
    found: list[tuple[int, Place]] = []
    for path in _entries(root) if depth else []:
        if path.is_dir():
            found += find_parts(path, depth - 1)
        elif match := _WHOLE.fullmatch(plain(path.name)):
            top = zip_tree(str(path))
            within = find_parts(top, depth)
            if match["part"] and not within:  # the folders below PART1, without itself
                within = [(int(match["part"]), top)]
            found += within
    return found


def _channels(folder: Place, depth: int = 2) -> Iterator[tuple[str, Place]]:
    for path in _entries(folder):
        if path.is_dir():
            if match := _CHANNEL.fullmatch(plain(path.name)):
                yield match[1], path
            elif depth:
                yield from _channels(path, depth - 1)


def prompted(part: int, folder: Place, channels: set[str]) -> Iterator[Prompted]:
    """List the speakers of part 1 or 2.

    Args:
        part: 1 or 2.
        folder: ``PART1`` or ``PART2``.
        channels: Those to take.
    """
    for channel, place in _channels(folder):
        if channel not in channels:
            continue
        scripts: dict[str, list[str]] = {}
        audio: dict[str, str] = {}
        for below in _entries(place):
            kind = plain(below.name)
            for path in _entries(below) if below.is_dir() else []:
                if kind in ("script", "scripts") and (match := _SCRIPT.fullmatch(path.name)):
                    scripts.setdefault(match["speaker"], []).append(str(path))
                elif kind in ("wave", "waves") and (match := _SPEAKER.fullmatch(plain(path.name))):
                    audio.setdefault(match["speaker"], str(path))  # unpacked, if both: sorts first
        for speaker in sorted(scripts.keys() | audio.keys()):
            texts = tuple(scripts.get(speaker, ()))
            yield Prompted(part, channel, speaker, texts, audio.get(speaker))


def _places(folder: Place, depth: int = 2) -> Iterator[tuple[str, Place]]:
    """Yield folders and zips below a part, with their plain path."""
    for path in _entries(folder):
        if path.is_dir() or path.suffix.lower() == ".zip":
            yield plain(path.name), path
        if path.is_dir() and depth > 1:
            yield from ((f"{plain(path.name)}/{name}", p) for name, p in _places(path, depth - 1))


def spoken(part: int, folder: Place, microphones: set[str]) -> Iterator[Spoken]:
    """List the recordings of part 3, 4, 5 or 6.

    Args:
        part: 3 to 6.
        folder: ``PART3`` ...
        microphones: Those of part 3 to take.
    """
    places = list(_places(folder))

    def files(pattern: str, ending: str) -> dict[str, tuple[str, str]]:
        regex = re.compile(rf"(?:.*/)?{pattern}{_COPY}")
        found: dict[str, tuple[str, str]] = {}
        for name, path in places:
            if not regex.fullmatch(name):
                continue
            for file in open_files(str(path), "").names():
                parts = file.split("/")
                stem, _, end = parts[-1].rpartition(".")
                if end.lower() == ending and not stem.startswith("."):
                    if len(parts) > 1 and stem.isdigit() and parts[-2].startswith("conf"):
                        stem = f"{parts[-2]}_{stem}"  # IVR: conf_1_2/3.wav
                    found.setdefault(stem.lower(), (str(path), file))
        return found

    for of_part, microphone, audio, scripts in _PLACES:
        if of_part == part and (not microphone or microphone in microphones):
            texts, sounds = files(scripts, "textgrid"), files(audio, "wav")
            if microphone == "boundary":  # one recording of both speakers
                pairs = {stem: sounds.get(stem.rpartition("-")[0]) for stem in sorted(texts)}
                used = {stem.rpartition("-")[0] for stem in texts}
                yield from _matched(part, microphone, texts, pairs, set(sounds) - used, sounds)
            elif texts or sounds:
                left = dict(sounds)
                pairs = {stem: left.pop(stem, None) for stem in sorted(texts)}
                bases = {_base(stem): stem for stem in sorted(left)}
                for stem in sorted(texts):
                    if pairs[stem] is None and (other := bases.pop(_base(stem), None)):
                        pairs[stem] = left.pop(other)
                yield from _matched(part, microphone, texts, pairs, set(left), sounds)


def _matched(
    part: int,
    microphone: str,
    texts: dict[str, tuple[str, str]],
    pairs: dict[str, tuple[str, str] | None],
    left: set[str],
    sounds: dict[str, tuple[str, str]],
) -> Iterator[Spoken]:
    for stem in sorted(texts):
        session, speaker, style, _ = _parts_of(stem)
        yield Spoken(part, microphone, stem, session, speaker, style, texts[stem], pairs[stem])
    for stem in sorted(left):
        session, speaker, style, _ = _parts_of(stem)
        yield Spoken(part, microphone, stem, session, speaker, style, None, sounds[stem])


def _base(stem: str) -> str:
    """Return a name without ``_edited__1`` and the like."""
    rest = _parts_of(stem)[3]
    return stem.removesuffix(rest) if rest else stem


def _parts_of(stem: str) -> tuple[str, str, str, str]:
    """Return session, speaker, style and rest of a name; one of unknown form is its own speaker."""
    for regex in _NAMES:
        if match := regex.fullmatch(stem):
            parts = match.groupdict(default="")
            session, speaker = parts["session"], parts["speaker"]
            if "style" not in parts:  # part 3: speakers are numbered within their session
                speaker = f"{session}_{speaker}"
            return session, speaker, parts.get("style", ""), parts.get("rest", "")
    return stem, stem, "", ""
