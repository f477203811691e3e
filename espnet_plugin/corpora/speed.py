"""Speed perturbation of a data directory: real files, played faster or slower (pitch moves too).

Kaldi's way (Ko et al., "Audio augmentation for speech recognition", Interspeech 2015): ids and
speakers of the copies are prefixed with ``sp0.9-``; factor 1 is the recordings as they are.
"""

import math
import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from espnet_plugin.cli import progress
from espnet_plugin.corpora.data_dir import Utterance, read_table, write_data_dir, write_wav

TABLES = ("wav.scp", "text", "utt2spk", "utt2lang")
CARRIED = ("utt2tags", "utt2topic", "utt2cond")  # per utterance; what else lies there is not copied


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
        source: A data directory; with ``segments``, the copies are cut and factor 1 is too.
        output: The directory to write.
        factors: Speeds; 1 stands for the unchanged utterances, under their own names.

    Returns:
        The number of utterances written.

    Raises:
        FileNotFoundError: A table or a recording is missing.
        ValueError: Unusable tables, recordings or factors, named by file or utterance.
    """
    source, output = Path(source), Path(output)
    if source.resolve() == output.resolve():
        raise ValueError(f"{output}: input and output are the same directory")
    factors = parse_factors(" ".join(map(str, factors)))
    tables = {name: read_table(source / name) for name in TABLES}
    tables |= {name: read_table(source / name) for name in CARRIED if (source / name).is_file()}
    names = list(tables["text"])
    for table, lines in tables.items():
        if lacking := [name for name in names if name not in lines and table != "wav.scp"]:
            raise ValueError(f"{source / table}: no line for utterance {lacking[0]}")
    rows: list[Utterance] = []
    with progress(len(names), f"speed {output.name}", "utt") as bar:
        for name, path, wave, rate in _recordings(source, names, tables["wav.scp"]):
            extra = {table: tables[table][name] for table in CARRIED if table in tables}
            for factor in factors:
                prefix = "" if factor == 1 else f"sp{factor:g}-"
                speaker = prefix + tables["utt2spk"][name]
                written = path
                if factor != 1 or path is None:
                    changed = wave if factor == 1 else change_speed(wave, factor)
                    written = write_wav(output / "wav" / f"{prefix}{name}.wav", changed, rate)
                assert written is not None
                rows.append(
                    Utterance(
                        prefix + name,
                        speaker,
                        tables["text"][name],
                        tables["utt2lang"][name],
                        written,
                        extra,
                    )
                )
            bar.update()
    write_data_dir(output, rows)
    return len(rows)


def _recordings(
    source: Path, names: Sequence[str], wav_scp: dict[str, str]
) -> Iterator[tuple[str, Path | None, np.ndarray, int]]:
    """Yield utterances: id, own file (None for a segment), samples ``(samples,)``, rate in Hz."""
    segments = read_table(source / "segments") if (source / "segments").is_file() else {}
    for name in names:
        recording, *times = segments[name].split() if segments else [name]
        if recording not in wav_scp:
            raise ValueError(
                f"{source / 'wav.scp'}: no recording for utterance {name} ({recording})"
            )
        wave, rate, path = _read(wav_scp[recording], name)
        if not times:
            yield name, path, wave, rate
            continue
        start, end = (float(time) for time in times)
        if not 0 <= start < end or not math.isfinite(end) or start * rate >= len(wave):
            raise ValueError(
                f"{source / 'segments'}: utterance {name} is {start}..{end} s, "
                f"the recording {len(wave) / rate:.2f} s"
            )
        yield name, None, wave[round(start * rate) : round(end * rate)], rate


def _read(location: str, name: str) -> tuple[np.ndarray, int, Path | None]:
    """Read a mono recording: an audio file or a place in a Kaldi archive (``x.ark:17``)."""
    if location.endswith("|"):
        raise ValueError(
            f"utterance {name}: wav.scp has a command ({location}); format the data first (stage 3)"
        )
    if re.search(r"\.ark:\d+$", location):
        import kaldiio

        rate, wave = kaldiio.load_mat(location)
        path = None
        if wave.dtype == np.int16:
            wave = wave.astype(np.float32) / 32768
    else:
        path = Path(location)
        if not path.is_file():
            raise FileNotFoundError(f"utterance {name}: {path} is missing")
        try:
            wave, rate = soundfile.read(path, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise ValueError(f"utterance {name}: {path} is not readable audio: {error}") from error
    if wave.ndim != 1 or not len(wave):
        raise ValueError(
            f"utterance {name}: {location} is not mono or is empty, shape {wave.shape}"
        )
    return wave, int(rate), path
