"""Several data directories as one, for a recipe that trains on more than one corpus."""

import heapq
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write, read_json, temporary_sibling, write_json
from espnet_plugin.corpora.mend import mend_data_dir
from espnet_plugin.corpora.set_writer import MADE_BY

REQUIRED = ("wav.scp", "text", "utt2spk", "utt2lang")
OPTIONAL = ("utt2dur", "reco2dur")  # where all of the sets have them
PARTLY = ("utt2tags", "utt2times")  # where any of them has: no value is "not known"
PARTS = "combined_from"  # the directories, a line each: local/data.sh compares them with db.sh


def _lines(path: Path) -> Iterator[tuple[bytes, bytes]]:
    with open(path, "rb") as file:
        for line in file:
            yield line.split(maxsplit=1)[0], line


def _values(folder: Path, name: str) -> Iterator[tuple[bytes, bytes]]:
    """Yield the lines of a set's table; where it has none, its utterances without a value."""
    if (folder / name).is_file():
        yield from _lines(folder / name)
        return
    for utt, _ in _lines(folder / "text"):
        yield utt, utt + b"\n"


def _segments(folder: Path) -> Iterator[tuple[bytes, bytes]]:
    """Yield a set's segments; where it has none, each recording is one."""
    if (folder / "segments").is_file():
        yield from _lines(folder / "segments")
        return
    for utt, line in _lines(folder / "reco2dur"):
        seconds = int(float(line.split()[1]) * 1000) / 1000
        yield utt, b"%s %s 0.000 %.3f\n" % (utt, utt, seconds)


def combined(inputs: Sequence[str | Path], output: str | Path) -> int | None:
    """Return how many utterances a directory has that was made of these, as they are now.

    Returns:
        None where it has to be made, or made again.
    """
    mark = Path(output) / MADE_BY
    if not mark.is_file() or not (Path(output) / "wav.scp").is_file():
        return None
    found = read_json(mark)
    if "tables" not in found or found["tables"] != _state([Path(path) for path in inputs]):
        return None
    return int(found["utterances"])


def _state(folders: Sequence[Path]) -> list[list[object]]:
    """Return name, size and time of each table of some directories."""
    tables = [p for folder in folders for p in sorted(folder.glob("*")) if p.is_file()]
    return [[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in tables]


def combine(inputs: Sequence[str | Path], output: str | Path) -> int:
    """Merge sorted data directories into one; memory does not grow with their size.

    ``utt2tags`` and ``utt2times`` of the sets that have them are kept; the utterances of the others
    have no value there, which says that nothing is known.

    Args:
        inputs: Directories as `prepare` makes them, whose ids are all different.
        output: The directory to make; one made by an earlier call is replaced.

    Returns:
        How many utterances it has.

    Raises:
        FileNotFoundError: A directory or one of its tables is missing.
        ValueError: An id is in two of them, or `output` was not made by this function.
    """
    folders, output = [Path(path) for path in inputs], Path(output)
    if not folders:
        raise ValueError(f"{output}: no data directories to combine")
    if output.exists() and not (output / MADE_BY).is_file():
        raise ValueError(f"{output}: exists, and was not made by combining; remove it first")
    have = {path: {p.name for p in path.iterdir()} if path.is_dir() else set() for path in folders}
    for path in folders:
        if missing := [name for name in REQUIRED if name not in have[path]]:
            raise FileNotFoundError(f"{path}: has no {', '.join(missing)}")
    segments = any("segments" in names for names in have.values())
    for path in folders:
        if segments and not have[path] & {"segments", "reco2dur"}:
            raise FileNotFoundError(f"{path}: has neither segments nor reco2dur")
    names = [*REQUIRED, *(n for n in OPTIONAL if all(n in have[path] for path in folders))]
    temporary = temporary_sibling(output)
    temporary.mkdir(parents=True)
    try:
        counts = {
            name: _merge([_lines(p / name) for p in folders], temporary / name) for name in names
        }
        for name in PARTLY:
            if any(name in found for found in have.values()):
                _merge([_values(p, name) for p in folders], temporary / name)
        if segments:
            _merge([_segments(p) for p in folders], temporary / "segments")
        mend_data_dir(temporary)  # spk2utt
        about = {"combined": [str(path) for path in folders], "utterances": counts["text"]}
        write_json(temporary / MADE_BY, {**about, "tables": _state(folders)})
        with atomic_write(temporary / PARTS, "w") as file:
            file.writelines(f"{path}\n" for path in folders)
        if output.exists():
            shutil.rmtree(output)
        temporary.rename(output)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return counts["text"]


def _merge(readers: Sequence[Iterator[tuple[bytes, bytes]]], target: Path) -> int:
    previous, count = b"", 0
    with open(target, "wb") as file:
        for key, line in heapq.merge(*readers):
            if key <= previous:
                what = "is in two of the sets, or" if key == previous else "shows that a set"
                raise ValueError(f"{target.name}: id '{key.decode()}' {what} is not in order")
            file.write(line)
            previous, count = key, count + 1
    return count
