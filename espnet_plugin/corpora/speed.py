"""Speed perturbation of a data directory: real files, played faster or slower (pitch moves too).

Kaldi's way (Ko et al., "Audio augmentation for speech recognition", Interspeech 2015): ids and
speakers of the copies are prefixed with ``sp0.9-``; factor 1 is the recordings as they are.
"""

import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from espnet_plugin.cli import progress
from espnet_plugin.corpora.data_dir import Utterance, write_data_dir, write_wav
from espnet_plugin.data import DataDir
from espnet_plugin.data.audio import Cut, read_cut
from espnet_plugin.data.source import AudioError, open_audio


def change_speed(wave: np.ndarray, factor: float) -> np.ndarray:
    """Play a waveform faster or slower by resampling.

    Args:
        wave: float ``(samples,)``.
        factor: 1.1 is a tenth faster.

    Returns:
        float32, ``samples / factor`` long, rounded up; never beyond -1..1.

    Raises:
        ValueError: A factor outside 0.5..2.
    """
    if not 0.5 <= factor <= 2:
        raise ValueError(f"speed factor {factor}, allowed is 0.5 to 2")
    ratio = 1 / Fraction(str(factor))
    changed = resample_poly(wave, ratio.numerator, ratio.denominator)
    return (changed / max(1.0, float(np.abs(changed).max(initial=0.0)))).astype(np.float32)


def parse_factors(text: str) -> list[float]:
    """Read factors such as ``"0.9 1.0 1.1"``, separated by spaces or commas.

    Raises:
        ValueError: Not numbers, none, repeated ones, or one outside 0.5..2.
    """
    try:
        factors = [float(word) for word in re.split(r"[\s,]+", text.strip()) if word]
    except ValueError:
        raise ValueError(
            f"speed factors {text!r}, expected numbers such as '0.9 1.0 1.1'"
        ) from None
    if not factors or len(set(factors)) != len(factors) or not all(0.5 <= f <= 2 for f in factors):
        raise ValueError(f"speed factors {text!r}, expected distinct numbers from 0.5 to 2")
    return factors


def perturb_speed(source: str | Path, output: str | Path, factors: Sequence[float]) -> int:
    """Write a data directory with each utterance at each speed.

    Args:
        source: A data directory, maybe with ``segments``.
        output: The directory to write.
        factors: Speeds; 1 stands for the unchanged utterances, under their own names.

    Returns:
        The number of utterances written.

    Raises:
        FileNotFoundError: A table is missing.
        ValueError: Unusable tables, recordings or factors, named by file or utterance.
    """
    source, output = Path(source), Path(output)
    if source.resolve() == output.resolve():
        raise ValueError(f"{output}: input and output are the same directory")
    factors = parse_factors(" ".join(map(str, factors)))
    data = DataDir.load(source)
    rows: list[Utterance] = []
    with progress(len(data.utterances), f"speed {output.name}", "utt") as bar:
        for name in data.utterances:
            wave = _read(data, name)
            tables = {table: lines[name] for table, lines in data.extra.items()}
            for factor in factors:
                extra = {table: at_speed(table, line, factor) for table, line in tables.items()}
                prefix = "" if factor == 1 else f"sp{factor:g}-"
                new, speaker = prefix + name, prefix + data.utt2spk[name]
                changed = wave if factor == 1 else change_speed(wave, factor)
                path = write_wav(output / "wav" / f"{new}.wav", changed)
                rows.append(
                    Utterance(new, speaker, data.text[name], data.utt2lang[name], path, extra)
                )
            bar.update()
    write_data_dir(output, rows)
    return len(rows)


def at_speed(table: str, line: str, factor: float) -> str:
    """Return an utterance's line of `utt2dur` or `utt2times` at another speed; others stay."""
    if factor == 1:
        return line
    if table == "utt2dur":
        return f"{float(line) / factor:.3f}"
    if table == "utt2times":  # START:END:WORDS ...
        spans = (span.split(":") for span in line.split())
        return " ".join(
            f"{float(start) / factor:.3f}:{float(end) / factor:.3f}:{words}"
            for start, end, words in spans
        )
    return line


def _read(data: DataDir, name: str) -> np.ndarray:
    """Read an utterance: float32 ``(samples,)`` at 16 kHz."""
    segment = data.segments[name] if data.segments is not None else None
    recording = segment.recording if segment else name
    start, end = (segment.start, segment.end) if segment else (0.0, -1.0)
    try:
        with open_audio(data.wav[recording]) as audio:
            cut = Cut(name, start, None if end < 0 else end, Path())
            samples, _ = read_cut(audio, cut, "mean")
    except AudioError as error:
        raise ValueError(f"{data.path}: utterance {name}, {data.wav[recording]}: {error}") from None
    return samples.astype(np.float32) / 32768
