"""Write a Kaldi data directory: ``wav.scp text utt2spk spk2utt utt2lang`` and other tables."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.corpora.augment import RATE


@dataclass(frozen=True)
class Utterance:
    """One line of each table.

    Attributes:
        name: Utterance id; begins with the speaker and a hyphen.
        speaker: Speaker id.
        text: As written, no markup.
        lang: ``cs``, ``ms``, ``en`` ...
        wav: The recording.
        extra: Further tables, e.g. ``{"utt2topic": "food"}``.
    """

    name: str
    speaker: str
    text: str
    lang: str
    wav: Path
    extra: Mapping[str, str] = field(default_factory=dict)


def write_wav(path: Path, wave: np.ndarray, rate: int = RATE) -> Path:
    """Write 16-bit mono PCM.

    Args:
        path: The file; its folder is made.
        wave: float ``(samples,)`` within -1..1.
        rate: Hz.

    Returns:
        The absolute path.

    Raises:
        ValueError: Samples that are not finite or beyond full scale.
    """
    if not np.isfinite(wave).all() or np.abs(wave).max(initial=0.0) > 1.0:
        raise ValueError(f"{path}: samples are not within -1..1")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, subtype="PCM_16", format="WAV")
    return path.resolve()


def write_data_dir(output: Path, utterances: Iterable[Utterance]) -> None:
    """Write the tables, sorted as LC_ALL=C sorts.

    Args:
        output: The directory.
        utterances: In any order.

    Raises:
        ValueError: No utterance, a repeated id, an id that does not begin with its speaker, an
            empty or many-line text, or a table that some utterances lack.
    """
    rows = sorted(utterances, key=lambda u: u.name.encode())
    if not rows:
        raise ValueError(f"{output}: no utterances")
    extra = set(rows[0].extra)
    for previous, row in zip([None, *rows], rows, strict=False):
        if previous is not None and previous.name == row.name:
            raise ValueError(f"{output}: utterance id {row.name} occurs twice")
        if not row.name.startswith(row.speaker + "-"):
            raise ValueError(
                f"{output}: utterance {row.name} does not begin with its speaker {row.speaker}-"
            )
        if not row.text.strip() or len(row.text.splitlines()) != 1:
            raise ValueError(
                f"{output}: utterance {row.name} has an empty text or several lines: {row.text!r}"
            )
        if set(row.extra) != extra:
            raise ValueError(
                f"{output}: utterance {row.name} has {sorted(row.extra)}, others {sorted(extra)}"
            )
    spoken: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        spoken[row.speaker].append(row.name)
    tables = {
        "wav.scp": [(u.name, str(u.wav)) for u in rows],
        "text": [(u.name, u.text) for u in rows],
        "utt2spk": [(u.name, u.speaker) for u in rows],
        "utt2lang": [(u.name, u.lang) for u in rows],
        "spk2utt": [(s, " ".join(spoken[s])) for s in sorted(spoken, key=str.encode)],
        **{table: [(u.name, u.extra[table]) for u in rows] for table in sorted(extra)},
    }
    output.mkdir(parents=True, exist_ok=True)
    for table, lines in tables.items():
        with atomic_write(output / table) as file:
            file.write("".join(f"{key} {value}\n" for key, value in lines).encode())


def read_table(path: Path) -> dict[str, str]:
    """Read a two-column table of a data directory; values may hold spaces.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A line without a value, or a repeated key, named by line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing")
    table: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        key, _, value = line.partition(" ")
        if not key or not value.strip():
            raise ValueError(f"{path}:{number}: expected a key and a value, found {line!r}")
        if key in table:
            raise ValueError(f"{path}:{number}: {key} occurs twice")
        table[key] = value.strip()
    return table
