"""Sets of `dump/raw` as the decoder reads them: what there is, and the audio of an utterance."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from espnet_plugin.features import N_SAMPLES, SAMPLE_RATE, WINDOW_SECONDS
from espnet_plugin.samples import as_samples

SHOWN = 5  # utterances that an error names


@dataclass(frozen=True)
class Utterance:
    """One utterance of a formatted set.

    Attributes:
        set_name: Its set.
        utt: Its id.
        source: Audio file, or `ARK:OFFSET`.
        samples: Its length at 16 kHz.
        lang: Its language.
        crc32: Of its samples, where that is known.
    """

    set_name: str
    utt: str
    source: str
    samples: int
    lang: str
    crc32: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples / SAMPLE_RATE

    def read(self) -> torch.Tensor:
        """Read the audio, `(samples,)` float32 within -1..1.

        Raises:
            ValueError: If it is missing, corrupt, not 16 kHz mono, not finite, or of another length
                than `utt2num_samples` says; names the utterance.
        """
        from espnet_plugin.data.source import AudioError, open_audio

        where = f"{self.set_name}: utterance {self.utt}: {self.source}"
        try:
            with open_audio(self.source) as audio:
                if audio.samplerate != SAMPLE_RATE or audio.channels != 1:
                    raise ValueError(
                        f"{where} has {audio.samplerate} Hz and {audio.channels} channel(s), not "
                        "16 kHz mono: format (recipe stage 3) makes that"
                    )
                samples = audio.read(dtype="float32")
        except AudioError as error:
            raise ValueError(f"{where}: {error}") from None
        if len(samples) != self.samples:
            raise ValueError(
                f"{where} has {len(samples)} samples, utt2num_samples says {self.samples}: "
                "format the set again (recipe stage 3)"
            )
        return torch.from_numpy(as_samples(samples, where))


def load_set(dumpdir: str | Path, name: str) -> list[Utterance]:
    """Read the tables of a formatted set.

    Args:
        dumpdir: `dump/raw`.
        name: The set.

    Returns:
        Its utterances, sorted by id.

    Raises:
        FileNotFoundError: If the set has not been formatted.
        ValueError: If a table is malformed, or an utterance is longer than 30 s.
    """
    from espnet_plugin.data.datadir import CHECKSUMS, DataDir

    path = Path(dumpdir) / name
    if not (path / "utt2num_samples").is_file():
        raise FileNotFoundError(f"{path}: not a formatted set; format (recipe stage 3) makes it")
    data = DataDir.load(path)
    counts = data.num_samples
    assert counts is not None  # the file exists
    if data.segments is not None:
        raise ValueError(f"{path} has segments: format (recipe stage 3) cuts them")
    known = data.extra.get(CHECKSUMS, {})
    found = [
        Utterance(name, u, data.wav[u], counts[u], data.utt2lang[u], known.get(u, ""))
        for u in data.utterances
    ]
    if long := [u for u in found if u.samples > N_SAMPLES]:
        names = ", ".join(f"{u.utt} ({u.seconds:.1f} s)" for u in long[:SHOWN])
        more = f", ... ({len(long)} in all)" if len(long) > SHOWN else ""
        raise ValueError(
            f"{path}: longer than {WINDOW_SECONDS} s, Whisper's window: {names}{more}; cut them "
            "into segments"
        )
    return found


def set_hash(utterances: Iterable[Utterance]) -> str:
    """Return a SHA-256 over a set's ids, lengths, languages and audio: its checksums, or files."""
    digest = hashlib.sha256()
    for u in utterances:
        digest.update(f"{u.utt} {u.samples} {u.lang} {u.crc32 or u.source}\n".encode())
    return digest.hexdigest()


def batches(
    utterances: Iterable[Utterance],
    batch_size: int,
    batch_seconds: float,
    pad: str,
    tail: float = 0.0,
) -> list[list[Utterance]]:
    """Sort by length and cut into batches, so that little is padding.

    Args:
        utterances: Of one set.
        batch_size: At most so many utterances in a batch.
        batch_seconds: And at most so much audio with its padding, but at least one utterance.
        pad: `batch` or `30s`.
        tail: Seconds of silence after each utterance.

    Raises:
        ValueError: If a bound is not positive.
    """
    if batch_size < 1 or batch_seconds <= 0:
        raise ValueError(
            f"a batch has at least 1 utterance and some audio, got batch_size {batch_size}, "
            f"batch_seconds {batch_seconds}"
        )
    cut: list[list[Utterance]] = []
    for utterance in sorted(utterances, key=lambda u: (u.samples, u.utt)):
        longest = padded_seconds(utterance, pad, tail)  # so far: they are sorted
        if not cut or len(cut[-1]) == batch_size or (len(cut[-1]) + 1) * longest > batch_seconds:
            cut.append([])
        cut[-1].append(utterance)
    return cut


def padded_seconds(longest: Utterance, pad: str, tail: float) -> float:
    """Return the seconds that each utterance of a batch takes."""
    if pad == "30s":
        return float(WINDOW_SECONDS)
    return min(float(WINDOW_SECONDS), longest.seconds + tail)
