"""Synthetic utterances: how a row of a Kaldi data directory is kept and written."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from espnet_plugin.corpora.augment import RATE
from espnet_plugin.data import DataDir


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
    """Write ``wav.scp text utt2spk spk2utt utt2lang`` and the further tables, sorted.

    Args:
        output: The directory.
        utterances: In any order.

    Raises:
        ValueError: No utterance, a repeated id, an id that does not begin with its speaker, a
            value with a line break, or a table that some utterances lack.
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
        if set(row.extra) != extra:
            raise ValueError(
                f"{output}: utterance {row.name} has {sorted(row.extra)}, others {sorted(extra)}"
            )
    DataDir(
        path=output,
        wav={row.name: str(row.wav) for row in rows},
        text={row.name: row.text for row in rows},
        utt2spk={row.name: row.speaker for row in rows},
        utt2lang={row.name: row.lang for row in rows},
        extra={table: {row.name: row.extra[table] for row in rows} for table in sorted(extra)},
    ).write(output)
