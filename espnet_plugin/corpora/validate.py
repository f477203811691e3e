"""Is a data directory valid? Which line breaks which rule; and mending of what can be mended.

The rules are those of Kaldi's ``validate_data_dir.sh``, which ESPnet's recipes require, and those
of our own tables. A directory of 10 M utterances needs no more memory than a small one: tables are
read in step, in their order; a table that is not in order is compared with others only once it is
mended.

| file | rule |
| --- | --- |
| all | UTF-8 without byte order mark, Unix line ends, ``ID VALUE``, sorted by bytes, unique ids |
| ``wav.scp text utt2spk spk2utt utt2lang`` | exist |
| ``text segments utt2*`` | the same utterances, which without ``segments`` are ``wav.scp``'s |
| ``text`` | not empty |
| ``utt2spk`` | one speaker, which begins the utterance's id, and the same order by speaker |
| ``spk2utt`` | ``utt2spk`` turned round |
| ``utt2lang`` | one code |
| ``segments`` | ``RECORDING START END``, 0 <= START < END; all recordings of ``wav.scp`` |
| ``reco2dur utt2dur`` | seconds above 0; segments lie in their recording, ``utt2dur`` long |
| ``utt2tags`` | known tags, one for each word of the normalised text; no value: not known |
| ``utt2times`` | ``START:END:WORDS``, in order, within the utterance, its words; or no value |
"""

import hashlib
import re
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_plugin.corpora.marked import word_tags
from espnet_plugin.text.markup import Segment

REQUIRED = ("wav.scp", "text", "utt2spk", "spk2utt", "utt2lang")
TAGS = frozenset(["ms", "en", "zh", "ta", "other", "num", "name", "shared"])
_UTT = re.compile(r"text|segments|utt2[a-z0-9_]+")
_TABLE = re.compile(r"wav\.scp|text|segments|spk2utt|reco2dur|utt2[a-z0-9_]+")
_LANG = re.compile(r"[A-Za-z0-9_-]+")
OVERSHOOT = 0.5  # seconds that a segment may pass the end of its recording, as in stage 3


@dataclass
class Fault:
    """A rule that is broken.

    Attributes:
        file: Path of the file.
        line: Of the first such line, from 1; 0 where it is the file as a whole.
        rule: What is required.
        found: What is there.
        count: How many lines break it.
    """

    file: str
    line: int
    rule: str
    found: str
    count: int = 1

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        more = f" (so in {self.count} lines)" if self.count > 1 else ""
        return f"{place}: {self.found}; {self.rule}{more}"


class _Faults:
    """Faults by file and rule, so that a million alike are one."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], Fault] = {}

    def add(self, file: Path, line: int, rule: str, found: str) -> None:
        fault = self.found.get((str(file), rule))
        if fault is None:
            self.found[str(file), rule] = Fault(str(file), line, rule, found)
        else:
            fault.count += 1


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, id and value as they are, of lines that have an id."""
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            fields = raw.decode("utf-8", "replace").rstrip().split(maxsplit=1)
            if fields:
                yield number, fields[0], fields[1] if len(fields) == 2 else ""


def _check_lines(path: Path, faults: _Faults) -> bool:
    """Check a table by itself; True if it is in order, with no id twice."""
    previous, ordered, lines = b"", True, 0
    free = path.name in ("utt2tags", "utt2times") or path.name not in _KNOWN
    with open(path, "rb") as file:
        for number, raw in enumerate(file, 1):
            lines = number
            if number == 1 and raw.startswith(b"\xef\xbb\xbf"):
                faults.add(path, 1, "no byte order mark is allowed", "starts with one")
                raw = raw[3:]
            if b"\r" in raw or b"\0" in raw:
                faults.add(path, number, "Unix line ends and no NUL", "has a \\r or NUL")
            try:
                raw.decode("utf-8")
            except UnicodeDecodeError as error:
                faults.add(
                    path, number, "UTF-8 is needed", f"is not UTF-8 at byte {error.start + 1}"
                )
            if not raw.endswith(b"\n"):
                faults.add(path, number, "every line ends with \\n", "ends without")
            fields = raw.split(maxsplit=1)
            if not fields or raw[:1].isspace():
                faults.add(path, number, "'ID VALUE' a line", "is empty or starts with white space")
                continue
            key = fields[0]
            shown = key.decode("utf-8", "replace")
            if len(fields) < 2 and not free:
                faults.add(path, number, "'ID VALUE' a line", f"'{shown}' has no value")
            if key == previous:
                faults.add(path, number, "every id once", f"'{shown}' stands there again")
                ordered = False
            elif key < previous:
                before = previous.decode("utf-8", "replace")
                rule = "sorted by bytes (LC_ALL=C sort; --mend true does it)"
                faults.add(path, number, rule, f"'{shown}' after '{before}'")
                ordered = False
            previous = key
    if not lines:
        faults.add(path, 0, "at least one line", "is empty")
    return ordered


_KNOWN = frozenset((*REQUIRED, "segments", "reco2dur", "utt2dur", "utt2tags", "utt2times"))


def validate_data_dir(path: str | Path, count_tags: bool = True) -> list[Fault]:
    """Check a data directory.

    Args:
        path: The directory.
        count_tags: Also normalise every text, to count what ``utt2tags`` must have.

    Returns:
        The first fault of each kind in each file, with its line, and how many there are; an empty
        list where it is valid.

    Raises:
        FileNotFoundError: There is no such directory.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such data directory")
    faults = _Faults()
    for name in REQUIRED:
        if not (path / name).is_file():
            faults.add(path / name, 0, "required in a data directory", "does not exist")
    names = sorted(p.name for p in path.iterdir() if p.is_file() and _TABLE.fullmatch(p.name))
    ordered = {name for name in names if _check_lines(path / name, faults)}
    first = "segments" if "segments" in names else "wav.scp"
    tables = [name for name in names if _UTT.fullmatch(name) or name == first]
    tables = [name for name in tables if name in ordered]
    if first in tables:
        _check_utterances(path, first, tables, faults, count_tags)
    if {"utt2spk", "spk2utt"} <= ordered:
        _check_speakers(path, faults)
    if "segments" in names and "wav.scp" in names:
        _check_recordings(path, faults)
    return sorted(faults.found.values(), key=lambda fault: (fault.file, fault.line))


def _check_utterances(
    path: Path, first: str, names: list[str], faults: _Faults, count_tags: bool
) -> None:
    """Read tables in step, which are in order, and compare them."""
    readers = {name: _rows(path / name) for name in names}
    heads = {name: next(reader, None) for name, reader in readers.items()}
    previous = ""
    while any(heads.values()):
        utt = min(head[1] for head in heads.values() if head)
        here = {name: head for name, head in heads.items() if head and head[1] == utt}
        if first not in here:
            for name, (line, _, _) in here.items():
                rule = f"the same utterances as in {first}"
                faults.add(path / name, line, rule, f"'{utt}' is not in {first}")
        else:
            for name in names:
                if name not in here:
                    rule = f"all utterances of {first}"
                    faults.add(path / name, 0, rule, f"'{utt}' is missing")
            values = {name: value for name, (_, _, value) in here.items()}
            for name, rule, found in _judge(utt, values, previous, count_tags):
                faults.add(path / name, here[name][0], rule, found)
            previous = values.get("utt2spk", previous)
        for name in here:
            heads[name] = next(readers[name], None)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if 0 <= number < 1e9 else None


def _judge(
    utt: str, values: dict[str, str], previous: str, count_tags: bool
) -> Iterator[tuple[str, str, str]]:
    """Yield table, rule and what was found for one utterance."""
    speaker, length = values.get("utt2spk", ""), None
    if speaker and (" " in speaker or not utt.startswith(speaker)):
        yield (
            "utt2spk",
            "the utterance's id begins with its one speaker",
            f"'{utt}' has '{speaker}'",
        )
    elif speaker and speaker < previous:
        rule = "the same order by speaker as by utterance (end speakers with '-' in the ids)"
        yield "utt2spk", rule, f"speaker '{speaker}' after '{previous}'"
    if (lang := values.get("utt2lang")) and not _LANG.fullmatch(lang):
        yield "utt2lang", "one language code", f"'{utt}' has '{lang}'"
    if "segments" in values:
        fields = values["segments"].split()
        times = [_number(field) for field in fields[1:]]
        start, end = times if len(times) == 2 else (None, None)
        if start is None or (end is None and fields[2:] != ["-1"]) or (end or 1e9) <= start:
            found = f"'{utt}' has '{values['segments']}'"
            yield "segments", "RECORDING START END with 0 <= START < END", found
        elif end is not None:
            length = end - start
    if "utt2dur" in values:
        seconds = _number(values["utt2dur"])
        if not seconds:
            yield "utt2dur", "seconds above 0", f"'{utt}' has '{values['utt2dur']}'"
        elif length is not None and abs(seconds - length) > 0.01:
            yield "utt2dur", "as long as its segment", f"'{utt}' has {seconds}, not {length:.3f}"
        length = length or seconds
    if values.get("utt2tags"):
        yield from _judge_tags(utt, values, count_tags)
    if values.get("utt2times"):
        yield from _judge_times(utt, values, length)


def _judge_tags(
    utt: str, values: dict[str, str], count_tags: bool
) -> Iterator[tuple[str, str, str]]:
    tags = values["utt2tags"].split()
    if wrong := set(tags) - TAGS:
        yield "utt2tags", f"tags of {' '.join(sorted(TAGS))}", f"'{utt}' has '{min(wrong)}'"
    lang = values.get("utt2lang", "")
    if count_tags and "text" in values and re.fullmatch(r"[a-z]{2,3}", lang):
        words = len(word_tags([Segment(values["text"], None)], lang, "other"))
        if len(tags) != words:
            found = f"'{utt}' has {len(tags)} tags for {words} words"
            yield "utt2tags", "a tag for each normalised word", found


def _judge_times(
    utt: str, values: dict[str, str], length: float | None
) -> Iterator[tuple[str, str, str]]:
    last, words = 0.0, 0
    for part in values["utt2times"].split():
        start, end, count = (_number(field) for field in [*part.split(":"), "", ""][:3])
        if start is None or end is None or count is None or part.count(":") != 2 or end < start:
            yield "utt2times", "START:END:WORDS", f"'{utt}' has '{part}'"
            return
        if start < last - 0.021 or (length is not None and end > length + 0.011):
            yield "utt2times", "in order and within the utterance", f"'{utt}' has '{part}'"
        last, words = start, words + int(count)
    if "text" in values and words != len(values["text"].split()):
        found = f"'{utt}' has times for {words} words of {len(values['text'].split())}"
        yield "utt2times", "as many words as the text", found


def _check_speakers(path: Path, faults: _Faults) -> None:
    """Compare ``spk2utt`` with ``utt2spk``, both in order."""
    listed = (
        (utt, speaker, line)
        for line, speaker, utts in _rows(path / "spk2utt")
        for utt in utts.split()
    )
    for _, utt, speaker in _rows(path / "utt2spk"):
        found = next(listed, ("nothing", "nobody", 0))
        if found[:2] != (utt, speaker):
            rule = "the same as utt2spk, turned round (--mend true writes it anew)"
            text = f"lists {found[0]} of {found[1]} where utt2spk has {utt} of {speaker}"
            faults.add(path / "spk2utt", found[2], rule, text)
            return
    if extra := next(listed, None):
        rule = "the same as utt2spk, turned round (--mend true writes it anew)"
        faults.add(path / "spk2utt", extra[2], rule, f"lists {extra[0]}, which utt2spk lacks")


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _unlike(
    path: Path, column: Callable[[str, str], str], known: np.ndarray
) -> Iterator[tuple[int, str]]:
    """Yield lines whose recording is not among the hashes."""
    for line, key, value in _rows(path):
        name = column(key, value)
        place = int(np.searchsorted(known, _hash(name)))
        if place == len(known) or known[place] != _hash(name):
            yield line, name


def _check_recordings(path: Path, faults: _Faults) -> None:
    """Compare the recordings of segments, wav.scp and reco2dur; as hashes, 8 bytes each."""

    def named(key: str, value: str) -> str:
        return key

    def used(key: str, value: str) -> str:
        return value.partition(" ")[0]

    tables = {"wav.scp": named, "segments": used}
    if (path / "reco2dur").is_file():
        tables["reco2dur"] = named
    hashes = {}
    for name, column in tables.items():
        values = array("Q", (_hash(column(key, value)) for _, key, value in _rows(path / name)))
        hashes[name] = np.unique(np.frombuffer(values, dtype=np.uint64) if values else [])
    for name, column in tables.items():
        others = ["segments"] if name == "wav.scp" else ["wav.scp"]
        for other in others:
            if not np.array_equal(hashes[name], hashes[other]):
                for line, recording in _unlike(path / name, column, hashes[other]):
                    rule = f"the recordings of {other}"
                    faults.add(path / name, line, rule, f"'{recording}' is not in {other}")
    if "reco2dur" in tables:
        _check_ends(path, faults)


def _check_ends(path: Path, faults: _Faults) -> None:
    """See that segments lie within their recordings, with 16 bytes a recording."""
    keys, lengths = array("Q"), array("d")
    for line, recording, value in _rows(path / "reco2dur"):
        seconds = _number(value)
        if not seconds:
            found = f"'{recording}' has '{value}'"
            faults.add(path / "reco2dur", line, "seconds above 0", found)
        keys.append(_hash(recording))
        lengths.append(seconds or 0.0)
    order = np.argsort(np.frombuffer(keys, dtype=np.uint64))
    ids = np.frombuffer(keys, dtype=np.uint64)[order]
    ends = np.frombuffer(lengths)[order]
    for line, utt, value in _rows(path / "segments"):
        fields = value.split()
        end = _number(fields[2]) if len(fields) == 3 else None
        place = int(np.searchsorted(ids, _hash(fields[0]))) if fields else len(ids)
        known = end is not None and place < len(ids) and ids[place] == _hash(fields[0])
        if known and end is not None and end > ends[place] + OVERSHOOT:
            found = f"'{utt}' ends at {end} of {ends[place]:.3f} s"
            faults.add(path / "segments", line, "within the recording", found)
