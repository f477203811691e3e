"""How data sets on the Hugging Face hub are laid out: parquet files by split, parts numbered."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from espnet_plugin.corpora.corpus import Skip

SPLITS = {
    "train": "train",
    "training": "train",
    "validation": "valid",
    "valid": "valid",
    "val": "valid",
    "dev": "dev",
    "test": "test",
}
_PART = re.compile(r"(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]+)?\.parquet")
_CODES = {"cmn": "zh", "zho": "zh", "msa": "ms", "zsm": "ms", "zlm": "ms", "malay": "ms"}
_CODES |= {"english": "en", "eng": "en", "mandarin": "zh", "chinese": "zh", "tamil": "ta"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ufeff]")


def parquet_files(folder: Path, depth: int = 3) -> list[Path]:
    """List the parquet files of a data set, which may lie some folders below.

    Raises:
        FileNotFoundError: A file ``train-00000-of-00002.parquet`` without its neighbour: the
            download is not complete.
    """
    found: list[Path] = []
    for level in range(depth):
        found += sorted(folder.glob("*/" * level + "*.parquet"))
    groups: dict[tuple[Path, str, int], set[int]] = defaultdict(set)
    for path in found:
        if match := _PART.fullmatch(path.name):
            groups[path.parent, match["split"], int(match["count"])].add(int(match["index"]))
    for (parent, split, count), there in groups.items():
        if missing := sorted(set(range(count)) - there):
            name = f"{split}-{missing[0]:05d}-of-{count:05d}.parquet"
            raise FileNotFoundError(
                f"{parent}: {len(missing)} of {count} parquet files of '{split}' are missing, the "
                f"first is {name}; download them"
            )
    return found


def split_word(path: Path) -> str:
    """Return what a file calls its split: ``test.x`` of ``test.x-00000-of-00001.parquet``."""
    match = _PART.fullmatch(path.name)
    word = match["split"] if match else path.stem
    return path.parent.name if word.isdigit() else word


def split_of(path: Path) -> str | None:
    """Return the official split of a file; None where its name says none."""
    return SPLITS.get(re.split(r"[-_.]", split_word(path).lower())[0])


def shard_name(path: Path) -> str:
    """Return what tells a file from the others of its split: ``00001`` of ``x-00001-of-00002``."""
    match = _PART.fullmatch(path.name)
    return match["index"] if match else path.stem


def language_code(locale: str) -> str:
    """Return a language's code: ``ms`` of ``ms_my`` or ``Malay``, ``zh`` of ``cmn_hans_cn``."""
    code = re.split(r"[-_]", locale.lower())[0]
    return _CODES.get(code, code)


def is_code(lang: str) -> bool:
    """Tell whether a language is a code of two or three letters."""
    return re.fullmatch(r"[a-z]{2,3}", lang) is not None


def words_of(value: str) -> list[str]:
    """Split the value of an option at spaces and commas."""
    return value.replace(",", " ").split()


def plain(text: object) -> str:
    """Return a text on one line, with single spaces and no control characters; None gives none."""
    return "" if text is None else " ".join(_CONTROL.sub(" ", str(text)).split())


def first_of(record: dict[str, object], keys: Iterable[str]) -> tuple[str, object]:
    """Return the first key under which a record has anything, and its value.

    Returns:
        An empty key and None where it has nothing under any of them.
    """
    for key in keys:
        value = record.get(key)
        if value is not None and not (isinstance(value, str) and not value.strip()):
            return key, value
    return "", None


def no_audio(item: str, error: Exception) -> Skip:
    """Make the skip for a row whose audio cannot be used."""
    missing = str(error).startswith(("no such file", "no audio"))
    return Skip(item, "missing audio" if missing else "unusable audio", str(error))
