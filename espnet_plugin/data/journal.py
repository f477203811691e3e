"""What a formatted set was made from: a journal of utterances, and a stamp over all inputs."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from espnet_plugin.data.audio import AudioOptions, Made
from espnet_plugin.data.datadir import DataDir
from espnet_plugin.data.source import plain_file

VERSION = 3  # part of every signature: raise it when the output changes
PASSING = ("unreadable", "command")  # faults that another run may not have


def signatures_of(data: DataDir, options: AudioOptions) -> dict[str, list[Any]]:
    """Return what each utterance is made from; where it differs, the utterance is made anew."""
    files: dict[str, list[Any]] = {}
    for recording, source in data.wav.items():
        path = plain_file(source)
        state: list[Any] = [VERSION, source, options.channel, options.copy]
        if path is not None and os.path.exists(path):
            stat = os.stat(path)
            state += [stat.st_size, stat.st_mtime_ns]
        files[recording] = state
    if data.segments is None:
        return files
    return {u: [*files[s.recording], s.start, s.end] for u, s in data.segments.items()}


def stamp_of(data: DataDir, signatures: dict[str, list[Any]]) -> str:
    """Return a hash over all tables and all signatures: the same one means nothing to do."""
    tables = [data.text, data.utt2spk, data.utt2lang, data.extra, signatures]
    return hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()


def read_journal(path: Path, signatures: dict[str, list[Any]]) -> dict[str, Made]:
    """Return what is known of utterances whose inputs are the present ones.

    That is those that were made and still exist, and those whose audio has a fault.

    Raises:
        ValueError: A line other than the last is no JSON.
    """
    made: dict[str, Made] = {}
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except ValueError:
            if number < len(lines):  # only the last line can be half written
                raise ValueError(f"{path}:{number}: damaged; remove this file") from None
            break
        utt = entry["utt"]
        made.pop(utt, None)
        if signatures.get(utt) != entry["from"]:
            continue
        if "fault" in entry:
            made[utt] = Made(utt, fault=entry["fault"], kind=entry["kind"])
        elif os.path.isfile(entry["path"]) and os.path.getsize(entry["path"]) == entry["size"]:
            known = {name: entry[name] for name in ("path", "samples", "crc32", "notes")}
            made[utt] = Made(utt, **known)
    return made


def lasts(made: Made) -> bool:
    """Tell whether the same input would give the same result: not where it could not be read."""
    return made.fault is None or made.kind not in PASSING


def entry_of(made: Made, signature: list[Any]) -> str:
    """Return the journal's line about an utterance that was made, or has a fault that lasts."""
    entry: dict[str, Any] = {"utt": made.utt}
    if made.fault is not None:
        entry |= {"fault": made.fault, "kind": made.kind}
    else:
        entry |= {"path": made.path, "samples": made.samples, "notes": made.notes}
        entry["crc32"] = made.crc32
        entry["size"] = os.path.getsize(made.path)
    return json.dumps(entry | {"from": signature}) + "\n"  # ASCII: half a line is still text
