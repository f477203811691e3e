"""Mending of a data directory's tables: order, lines given twice, and ``spk2utt``."""

import contextlib
import heapq
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write

RUN = 500_000  # lines sorted in memory at a time
_TABLE = re.compile(r"wav\.scp|text|segments|reco2dur|utt2[a-z0-9_]+")
Key = Callable[[bytes], tuple[bytes, ...]]


def _first(line: bytes) -> tuple[bytes, ...]:
    return tuple(line.split(maxsplit=1)[:1])


def _first_two(line: bytes) -> tuple[bytes, ...]:
    return tuple(line.split(maxsplit=2)[:2])


def external_sort(
    lines: Iterable[bytes], key: Key, folder: Path, run: int = RUN
) -> Iterator[bytes]:
    """Sort lines that may not fit into memory; lines of equal keys keep their order.

    Args:
        lines: Each ending with a newline.
        key: What to sort by.
        folder: Where the sorted runs go meanwhile.
        run: Lines in memory at a time.
    """
    source = iter(lines)
    with contextlib.ExitStack() as stack:
        runs = []
        while part := sorted(islice(source, run), key=key):
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            file.writelines(part)
            file.seek(0)
            runs.append(file)
        yield from heapq.merge(*runs, key=key)


def _lines(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        for line in file:
            if line.strip():
                yield line if line.endswith(b"\n") else line + b"\n"


def _in_order(path: Path) -> bool:
    previous: tuple[bytes, ...] = ()
    for line in _lines(path):
        key = _first(line)
        if key <= previous:
            return False
        previous = key
    return True


def mend_data_dir(path: str | Path, run: int = RUN) -> list[str]:
    """Sort tables by the bytes of their ids and keep the first of lines with the same id.

    ``spk2utt`` is written anew from ``utt2spk``. Nothing else is changed; `validate_data_dir` says
    what is left to do by hand.

    Args:
        path: The directory.
        run: Lines sorted in memory at a time.

    Returns:
        What was changed, a line each.

    Raises:
        FileNotFoundError: There is no such directory.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such data directory")
    changes: list[str] = []
    for table in sorted(p for p in path.iterdir() if p.is_file() and _TABLE.fullmatch(p.name)):
        if _in_order(table):
            continue
        same = other = 0
        previous = b""
        with atomic_write(table) as file:
            for line in external_sort(_lines(table), _first, path, run):
                if previous and _first(line) == _first(previous):
                    same, other = same + (line == previous), other + (line != previous)
                    continue
                file.write(line)
                previous = line
        changes.append(
            f"{table}: sorted; dropped {same} lines given twice and {other} with the id of an "
            "earlier line and another value"
        )
    if (path / "utt2spk").is_file() and _write_spk2utt(path, run):
        changes.append(f"{path / 'spk2utt'}: written anew")
    return changes


def _write_spk2utt(path: Path, run: int) -> bool:
    """Write ``spk2utt`` from ``utt2spk``; False where it was right."""
    turned = (
        b"%s %s\n" % (fields[1], fields[0])
        for line in _lines(path / "utt2spk")
        if len(fields := line.split()) == 2
    )
    target = path / "spk2utt"
    with tempfile.NamedTemporaryFile(dir=path) as file:
        previous = b""
        for line in external_sort(turned, _first_two, path, run):
            speaker, utt = line.split()
            if speaker != previous:
                file.write((b"\n" if previous else b"") + speaker)
                previous = speaker
            file.write(b" " + utt)
        file.write(b"\n" if previous else b"")
        file.seek(0)
        if target.is_file() and _equal(file, target):
            return False
        file.seek(0)
        with atomic_write(target) as out:
            while block := file.read(1 << 20):
                out.write(block)
    return True


def _equal(file: "tempfile._TemporaryFileWrapper[bytes]", target: Path) -> bool:
    with open(target, "rb") as other:
        while True:
            block, same = file.read(1 << 20), other.read(1 << 20)
            if block != same:
                return False
            if not block:
                return True
