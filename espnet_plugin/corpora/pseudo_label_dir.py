"""A data directory without its bad pseudo-labels, all tables read in step.

    python -m espnet_plugin.bin.filter_labels --input data/x_train --output data/x_train_good

Memory does not grow with the directory, except 8 bytes a recording.
"""

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from pathlib import Path

import numpy as np

from espnet_plugin.checkpoint import atomic_dir, atomic_write, write_json
from espnet_plugin.cli import progress
from espnet_plugin.corpora.pseudo_labels import BLOCK, Limits, find_bad, label_wer

NEEDED = ("wav.scp", "text", "utt2spk", "utt2lang", "utt2dur")
DROPPED = "dropped.tsv"
REPORT = "filtered.json"
Line = tuple[str, str]


@dataclass
class Filtered:
    """What became of a directory's labels: `total` = `kept` + the dropped, each counted once."""

    path: str
    total: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        reasons = "".join(f"; {reason}: {n}" for reason, n in self.dropped.items())
        return f"{self.path}: {self.kept} of {self.total} pseudo-labels kept{reasons}"


def _table(path: Path) -> Iterator[Line]:
    """Yield id and value of a sorted table.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It is not sorted by id, or not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such table")
    previous = ""
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            key, _, value = line.rstrip("\n").partition(" ")
            if key <= previous:
                raise ValueError(
                    f"{path}:{number}: '{key}' after '{previous}': sort it, no id twice"
                )
            previous = key
            yield key, value


def _beside(path: Path, keys: Iterator[Line], optional: bool) -> Iterator[str | None]:
    """Yield the value that a table has for each of some sorted ids.

    Raises:
        ValueError: It has none for one, and may not lack it.
    """
    rows = _table(path)
    key, value = next(rows, ("", ""))
    for wanted, _ in keys:
        while key and key < wanted:
            key, value = next(rows, ("", ""))
        if key == wanted:
            yield value
        elif optional:
            yield None
        else:
            raise ValueError(f"{path}: '{wanted}' is missing")


def _judged(
    source: Path, limits: Limits, hypotheses: Path | None
) -> Iterator[tuple[str, tuple[str, str] | None]]:
    """Yield each utterance, and why it is dropped or None."""

    def column(name: str) -> Iterator[str | None]:
        return _beside(source / name, _table(source / "text"), optional=False)

    heard: Iterator[str | None] = iter(lambda: None, 0)
    if hypotheses is not None:
        heard = _beside(hypotheses, _table(source / "text"), optional=True)
    rows = zip(_table(source / "text"), column("utt2dur"), column("utt2lang"), heard, strict=False)
    while block := list(islice(rows, BLOCK)):
        texts = [text for (_, text), _, _, _ in block]
        reasons = find_bad(texts, [float(length or 0) for _, length, _, _ in block], limits)
        for ((utt, text), _, lang, hypothesis), reason in zip(block, reasons, strict=True):
            if reason is None and hypotheses is not None:
                if hypothesis is None:
                    reason = "no hypothesis", ""
                elif (wer := label_wer(text, hypothesis, lang or "")) > limits.max_wer:
                    reason = "disagreement", f"WER {100 * wer:.1f} %"
            yield utt, reason


def filter_data_dir(
    source: str | Path,
    output: str | Path,
    limits: Limits | None = None,
    hypotheses: str | Path | None = None,
) -> Filtered:
    """Write a data directory again without its bad pseudo-labels.

    Beside the tables it gets ``dropped.tsv`` (utterance, reason, what was found) and
    ``filtered.json``.

    Args:
        source: A sorted data directory with ``utt2dur`` and ``utt2lang``.
        output: The directory to make.
        limits: What is good.
        hypotheses: What the model heard, as a sorted ``text``; those who disagree are dropped.

    Returns:
        Counts.

    Raises:
        FileNotFoundError: A table or the hypotheses are missing.
        ValueError: A table is not sorted or lacks an utterance; the output exists; nothing is left.
    """
    source, output = Path(source), Path(output)
    limits = limits or Limits()
    for name in NEEDED:
        if not (source / name).is_file():
            raise FileNotFoundError(f"{source / name}: no such table; it is needed")
    result, dropped = Filtered(str(output)), Counter[str]()
    with atomic_dir(output) as folder:
        with (
            atomic_write(folder / DROPPED, "w") as lost,
            open(folder / "utt2spk", "w", encoding="utf-8", newline="\n") as kept,
            progress(None, "judge pseudo-labels", "utt") as bar,
        ):
            judged = _judged(source, limits, None if hypotheses is None else Path(hypotheses))
            for (utt, reason), (same, speaker) in zip(
                judged, _table(source / "utt2spk"), strict=True
            ):
                if utt != same:
                    raise ValueError(f"{source}: text has '{utt}' where utt2spk has '{same}'")
                result.total += 1
                bar.update()
                if reason is None:
                    result.kept += 1
                    kept.write(f"{utt} {speaker}\n")
                else:
                    dropped[reason[0]] += 1
                    lost.write(f"{utt}\t{reason[0]}\t{reason[1]}\n")
        result.dropped = dict(dropped.most_common())
        if not result.kept:
            raise ValueError(f"{source}: no pseudo-label is good{result.dropped}")
        _copy_tables(source, folder)
        write_json(folder / REPORT, asdict(result) | {"limits": asdict(limits)})
    return result


def _copy_tables(source: Path, folder: Path) -> None:
    """Copy what the kept utterances have; ``utt2spk`` in `folder` says which those are."""
    segments = (source / "segments").is_file()
    tables = ["text", *sorted(p.name for p in source.glob("utt2*") if p.name != "utt2spk")]
    if segments:
        tables.append("segments")
    else:
        tables += ["wav.scp", *(["reco2dur"] if (source / "reco2dur").is_file() else [])]
    for name in tables:
        values = _beside(source / name, _table(folder / "utt2spk"), optional=False)
        _write(folder / name, zip((u for u, _ in _table(folder / "utt2spk")), values, strict=True))
    with open(folder / "spk2utt", "w", encoding="utf-8", newline="\n") as file:
        for speaker, rows in groupby(_table(folder / "utt2spk"), key=lambda row: row[1]):
            file.write(f"{speaker} {' '.join(utt for utt, _ in rows)}\n")
    if segments:
        used = _hashes([value.partition(" ")[0] for _, value in block] for block in _blocks(folder))
        for name in ("wav.scp", "reco2dur"):
            if (source / name).is_file():
                rows = (row for row in _table(source / name) if _has(used, row[0]))
                _write(folder / name, rows)


def _write(path: Path, rows: Iterator[tuple[str, str | None]]) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{key} {value}".rstrip() + "\n" for key, value in rows)


def _blocks(folder: Path) -> Iterator[list[Line]]:
    rows = _table(folder / "segments")
    while block := list(islice(rows, BLOCK)):
        yield block


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def _hashes(blocks: Iterator[Sequence[str]]) -> np.ndarray:
    values = array("Q")
    for block in blocks:
        values.extend(map(_hash, dict.fromkeys(block)))
    return np.unique(np.frombuffer(values, np.uint64))


def _has(hashes: np.ndarray, name: str) -> bool:
    place = int(np.searchsorted(hashes, np.uint64(_hash(name))))
    return place < len(hashes) and int(hashes[place]) == _hash(name)
