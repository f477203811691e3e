"""Recordings that ESPnet's inference is given, looked at before a model hears them.

ESPnet's reader gives samples without their rate: a recording of 8 kHz is decoded as one of twice
the speed, and what is missing or too long ends the run in the middle of it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from espnet_plugin.data.source import AudioError, open_audio
from espnet_plugin.data.tables import Faults
from espnet_plugin.features import N_SAMPLES, SAMPLE_RATE, WINDOW_SECONDS

READ = ("sound", "kaldi_ark")  # ESPnet's types whose entries are audio files


def check_recordings(data: Iterable[Sequence[str]], key_file: str | None = None) -> None:
    """Check that a model can hear what it is given; headers are read, no samples.

    Args:
        data: Path, name and type of each table, as `--data_path_and_name_and_type` has them.
        key_file: Only the utterances in this table are decoded.

    Raises:
        FileNotFoundError: A table is missing.
        ValueError: Recordings are missing, damaged, not of 16 kHz, not of one channel, or too long;
            the message names file, line and recording of the first of each kind.
    """
    for table, name, kind in data:
        if name != "speech" or kind not in READ:
            continue
        chosen = _keys(key_file) if key_file else None
        faults = Faults(Path(table))
        for number, line in enumerate(_lines(table), 1):
            utterance, _, source = line.strip().partition(" ")
            source = source.strip()
            if (
                not source
                or source.endswith("|")
                or (chosen is not None and utterance not in chosen)
            ):
                continue
            if found := _fault(source):
                faults.add(found[0], number, f"utterance {utterance}: {source}: {found[1]}")
        faults.check()


def _lines(table: str) -> list[str]:
    if not Path(table).is_file():
        raise FileNotFoundError(f"{table}: no such file")
    return Path(table).read_text(encoding="utf-8").splitlines()


def _keys(table: str) -> set[str]:
    return {line.split(maxsplit=1)[0] for line in _lines(table) if line.strip()}


def _fault(source: str) -> tuple[str, str] | None:
    """Return what is wrong with a recording: its kind, and in words."""
    try:
        with open_audio(source) as audio:
            rate, channels, samples = audio.samplerate, audio.channels, audio.frames
    except AudioError as error:
        if error.kind == "not audio" and ":" in source:
            return None  # an ark of plain matrices, which have no rate
        return error.kind, str(error)
    if rate != SAMPLE_RATE:
        return "rate", f"{rate} Hz; {SAMPLE_RATE} are needed (resample it: recipe stage 3 does)"
    if channels != 1:
        return "channels", f"{channels} channels; one is needed (recipe stage 3 mixes or chooses)"
    if samples > N_SAMPLES:
        return "long", f"{samples / rate:.1f} s; at most {WINDOW_SECONDS} s are heard: cut it"
    return None
