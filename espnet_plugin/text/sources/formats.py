"""Which files are text, and how each is read: by its name."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import sha256_file
from espnet_plugin.cli import nearest

ENDINGS = (".txt", ".jsonl", ".csv", ".tsv", ".parquet")
COMPRESSIONS = (".gz", ".zst", ".xz")
KALDI = "text"  # the file's whole name
KALDI_LANGS = "utt2lang"
_BESIDE_KALDI = (KALDI_LANGS, "utt2spk", "wav.scp")  # any of these makes a folder a Kaldi directory
_ALLOWED = (
    f"{' '.join(ENDINGS)}, all but .parquet also with {' '.join(COMPRESSIONS)}, and Kaldi files "
    f"named '{KALDI}'"
)


@dataclass(frozen=True, slots=True)
class Format:
    """How a file is read.

    Attributes:
        name: `txt jsonl csv tsv parquet kaldi`.
        compression: `.gz .zst .xz`, or empty.
        stem: The file's name without its endings.
    """

    name: str
    compression: str
    stem: str


def format_of(path: str | Path) -> Format:
    """Tell how a file is read, from its name alone; capitals do not matter (`.TXT`).

    Raises:
        ValueError: The ending is not one of those allowed; names the nearest.
    """
    path = Path(path)
    stem, compression = path.name, ""
    for ending in COMPRESSIONS:
        if stem.lower().endswith(ending):
            stem, compression = stem[: -len(ending)], ending
    if stem == KALDI:
        return Format("kaldi", compression, path.absolute().parent.name)
    for ending in ENDINGS:
        if stem.lower().endswith(ending):
            if compression and ending == ".parquet":
                raise ValueError(
                    f"{path}: parquet is compressed inside; unpack it and name it {stem}"
                )
            return Format(ending[1:], compression, stem[: -len(ending)])
    ending = Path(stem).suffix
    found = (
        f"the ending '{ending}'{nearest(ending, ENDINGS)}" if ending else "a name without ending"
    )
    raise ValueError(f"{path}: {found} is not known to be text; allowed are {_ALLOWED}")


def expand(inputs: Sequence[str | Path]) -> list[Path]:
    """Find the text files that files, folders and globs name.

    Folders are searched recursively; hidden files and files with other endings are left out there
    (a warning says how many). A Kaldi directory (`text` beside `utt2lang`, `utt2spk` or `wav.scp`)
    gives its `text` alone. In globs `**` stands for any folders.

    Args:
        inputs: Files, folders, globs.

    Returns:
        Sorted by name, each file once however often it is named.

    Raises:
        FileNotFoundError: Something named is not there, or a glob matches nothing.
        ValueError: Nothing is given; a file that is not known to be text; a folder without text.
    """
    if not inputs:
        raise ValueError("no text is given: name files, folders or globs")
    found: dict[str, Path] = {}
    for given in inputs:
        path = Path(given).expanduser()
        if path.exists():
            matches = [path]
        else:
            matches = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
        if not matches:
            raise FileNotFoundError(f"{given}: {_missing(path)}")
        for match in matches:
            for file in _files(match):
                found.setdefault(os.path.realpath(file), file)
    return sorted(found.values(), key=lambda path: path.as_posix())


def _missing(path: Path) -> str:
    if glob.has_magic(str(path)):
        return "matches no file"
    names = os.listdir(path.parent) if path.parent.is_dir() else []
    return f"no such file or folder{nearest(path.name, names)}"


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        skipped: Counter[str] = Counter()
        files = list(_walk(path, skipped))
        others = ", ".join(f"{ending} ({n})" for ending, n in skipped.most_common(5))
        if not files:
            raise ValueError(
                f"{path}: no text in this folder{f', only {others}' if others else ''}; "
                f"allowed are {_ALLOWED}"
            )
        if skipped:
            logging.warning("%s: skipped %d other files: %s", path, skipped.total(), others)
        return files
    if not path.is_file():
        raise ValueError(f"{path}: neither a file nor a folder")
    format_of(path)
    return [path]


def _walk(folder: Path, skipped: Counter[str]) -> Iterator[Path]:
    """Find text below a folder; count the endings of what is not text."""
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    if any(name in _BESIDE_KALDI for name in names):
        texts = [name for name in names if name in (KALDI, *(KALDI + c for c in COMPRESSIONS))]
        if texts:
            yield folder / texts[0]
            return
    for name in names:
        path = folder / name
        if path.is_dir():
            if not path.is_symlink():  # a link may lead back up
                yield from _walk(path, skipped)
        elif path.is_file():
            try:
                format_of(path)
            except ValueError:
                skipped[path.suffix or name] += 1
            else:
                yield path


def langs_beside(path: str | Path) -> Path | None:
    """Return the `utt2lang` beside a Kaldi `text`, None where there is none."""
    langs = Path(path).with_name(KALDI_LANGS)
    return langs if langs.is_file() else None


def fingerprint(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Identify the contents of files, wherever they lie; reads all of them.

    Returns:
        `name`, `bytes` and `sha256` of each file, and of each `utt2lang` that is read with one.
    """
    facts = []
    for path in map(Path, paths):
        kaldi = format_of(path).name == "kaldi"
        langs = langs_beside(path) if kaldi else None
        for file in [path, langs] if langs else [path]:
            folder = f"{file.absolute().parent.name}/" if kaldi else ""
            size, sha256 = file.stat().st_size, sha256_file(file)
            facts.append({"name": folder + file.name, "bytes": size, "sha256": sha256})
    return facts
