"""Utterances that cannot be used at training time: skipped in the loader, counted and listed.

They are found where ESPnet's dataset reads them, often in a worker process. `TolerantDataset` puts
a `Fault` in place of the data, `TolerantCollate` makes the batch of what is left, and the batch's
ids (`BatchIds`) carry the faults to the process that trains.
"""

import logging
import platform
import re
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet2.train.dataset import AbsDataset

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.features import SAMPLE_RATE
from espnet_plugin.monitor.options import TrainingError

FILE = "bad_utterances.tsv"
RATES = re.compile(rf"Sampling rates are mismatched: {SAMPLE_RATE} != (\d+)")  # ESPnet's words
UNOPENED = re.compile(r"Error opening '(.+)': Format not recognised\.")  # libsndfile's
LEAST_SEEN = 200  # utterances that the share is of, at least
SHOWN = 5  # utterances named in a message

# What reading a file or checking an utterance raises: ValueError from our preprocessing, OSError
# from files, RuntimeError from soundfile, KeyError where a table lacks it, others from archives.
READ_ERRORS = (ValueError, OSError, RuntimeError, LookupError, EOFError, struct.error)


@dataclass(frozen=True)
class Fault:
    """Why an utterance cannot be used."""

    utt: str
    reason: str


class BatchIds(list[str]):
    """The utterance ids of a batch, and the faults of those that were left out of it."""

    faults: tuple[Fault, ...] = ()


class TolerantDataset(AbsDataset):
    """ESPnet's dataset, with faults in place of errors."""

    def __init__(self, dataset: Any) -> None:
        """Wrap a dataset."""
        self.dataset = dataset
        logging.root.addFilter(_is_not_espnets)
        # ESPnet's reader of audio takes the rate of its first file for that of all.
        for reader in getattr(dataset, "loader_dict", {}).values():
            if hasattr(reader, "rate"):
                reader.rate = SAMPLE_RATE

    def has_name(self, name: str) -> bool:
        """Tell whether the data have an entry of this name."""
        return bool(self.dataset.has_name(name))

    def names(self) -> tuple[str, ...]:
        """Return the names of the data."""
        return tuple(self.dataset.names())

    def __repr__(self) -> str:
        """Show the wrapped dataset."""
        return repr(self.dataset)

    def __getitem__(self, uid: Any) -> tuple[Any, Any]:
        """Return the id and the data, or the id and a `Fault`."""
        try:
            item: tuple[Any, Any] = self.dataset[uid]
        except READ_ERRORS as error:
            words = " ".join((str(error) or type(error).__name__).split())
            if isinstance(error, KeyError):
                words = f"not in all of {', '.join(self.names())}"
            if rates := RATES.fullmatch(words):
                words = f"sampled at {rates[1]} Hz, needed are {SAMPLE_RATE} Hz (stage 3 resamples)"
            if (unopened := UNOPENED.fullmatch(words)) and _is_empty(unopened[1]):
                words = f"{unopened[1]} is empty: 0 bytes"
            # what libsndfile says where a file is missing
            words = words.replace("System error.", "no such file, or it may not be read")
            return uid, Fault(str(uid), words.removeprefix(f"utterance {uid}: "))
        return item


def _is_empty(path: str) -> bool:
    return Path(path).is_file() and not Path(path).stat().st_size


def _is_not_espnets(record: logging.LogRecord) -> bool:
    """Drop ESPnet's line about each failed reading, in every pass: `Ledger` tells it once."""
    return not str(record.msg).startswith("Error happened with path=")


class TolerantCollate:
    """Makes a batch of what could be read; where nothing could, its data are empty."""

    def __init__(self, collate: Callable[[Any], tuple[list[str], dict[str, Any]]]) -> None:
        """Wrap a collate function."""
        self.collate = collate

    def __call__(self, data: Collection[tuple[str, Any]]) -> tuple[list[str], dict[str, Any]]:
        """Collate `(id, data or Fault)` pairs."""
        good = [pair for pair in data if not isinstance(pair[1], Fault)]
        ids, batch = self.collate(good) if good else ([], {})
        found = BatchIds(ids)
        found.faults = tuple(value for _, value in data if isinstance(value, Fault))
        return found, batch


class LengthCheck:
    """Finds truncated audio: libsndfile returns what is left of a cut WAV without an error."""

    def __init__(self, preprocess: Callable[..., Any], samples: Mapping[str, int]) -> None:
        """Wrap a preprocessor.

        Args:
            preprocess: ESPnet's `(uid, data) -> data`.
            samples: How many samples each utterance had when it was formatted.
        """
        self.preprocess, self.samples = preprocess, samples

    def __call__(self, uid: str, data: dict[str, Any]) -> Any:
        """Check, then preprocess.

        Raises:
            ValueError: If there are fewer samples than there were.
        """
        expected, speech = self.samples.get(uid), data.get("speech")
        if expected is not None and speech is not None and len(speech) < expected:
            raise ValueError(f"utterance {uid}: truncated: {len(speech)} of {expected} samples")
        return self.preprocess(uid, data)


def read_lengths(path: str | Path, wanted: Collection[str] | None = None) -> dict[str, int]:
    """Read `utt2num_samples`, of the wanted utterances only."""
    lengths = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            utt, _, number = line.partition(" ")
            if wanted is None or utt in wanted:
                lengths[utt] = int(number)
    return lengths


def too_many(allowed: float, seen: int, bad: int) -> bool:
    """Tell whether more than the allowed share of the utterances seen (by all ranks) is bad.

    At the start it is judged as if `LEAST_SEEN` had been seen: one of the first ten says little.
    """
    return bad > allowed * max(seen, LEAST_SEEN)


@dataclass
class Ledger:
    """What was seen and what was bad.

    Attributes:
        seen: Utterances that this rank drew for training so far, the bad ones included.
        bad: Those of them that were left out.
        reasons: Utterance -> (data set, epoch when first met, reason).
        news: Faults since `take_news`.
        unread: Utterances of this rank that could not be read, in a row.
    """

    seen: int = 0
    bad: int = 0
    reasons: dict[str, tuple[str, int, str]] = field(default_factory=dict)
    news: list[tuple[str, Fault]] = field(default_factory=list)
    unread: int = 0

    def add(self, part: str, faults: Iterable[Fault]) -> None:
        """Note faults of the `train` or `valid` set that this rank found."""
        self.news += [(part, fault) for fault in faults]

    def take_news(self) -> list[tuple[str, Fault]]:
        """Return what was noted since the last call."""
        news, self.news = self.news, []
        return news

    def enter(self, epoch: int, found: Iterable[tuple[str, Fault]]) -> list[tuple[str, Fault]]:
        """List faults; return those whose utterance is new."""
        new = []
        for part, fault in found:
            if fault.utt not in self.reasons:
                self.reasons[fault.utt] = (part, epoch, fault.reason)
                new.append((part, fault))
        return new

    def check_readable(self, good: int, bad: int, allowed: float) -> None:
        """Count what a batch of this rank held; the other ranks wait while it finds nothing.

        Raises:
            TrainingError: If nothing could be read for `LEAST_SEEN` utterances.
        """
        self.unread = 0 if good else self.unread + bad
        if self.unread >= LEAST_SEEN and allowed < 1:
            self.enter(0, self.take_news())
            raise TrainingError(
                f"{self.unread} utterances in a row could not be read on {platform.node()}: "
                f"{self.examples()}. Are the data there?"
            )

    def fault(self, allowed: float, seen: int, bad: int) -> TrainingError:
        """Return the error for too many bad utterances among those seen."""
        return TrainingError(
            f"{bad} of {seen} utterances ({100 * bad / seen:.2f} %) cannot be used, allowed are "
            f"{100 * allowed:g} % (--max_bad_share {allowed:g}): {self.examples()}. "
            f"All are listed in {FILE}; recipe stages 3 and 4 find them beforehand."
        )

    def examples(self) -> str:
        """Name some of them."""
        shown = [f"{utt} ({reason})" for utt, (_, _, reason) in self.reasons.items()]
        more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
        return "; ".join(shown[:SHOWN]) + more

    def write(self, directory: Path) -> None:
        """Write the list: utterance, data set, epoch when first met, reason."""
        with atomic_write(directory / FILE, "w") as file:
            file.write("utterance\tset\tepoch\treason\n")
            for utt, (part, epoch, reason) in sorted(self.reasons.items()):
                file.write(f"{utt}\t{part}\t{epoch}\t{reason}\n")

    def read(self, directory: Path) -> None:
        """Go on with the list of a run that is resumed."""
        path = directory / FILE
        for line in path.read_text(encoding="utf-8").splitlines()[1:] if path.is_file() else ():
            utt, part, epoch, reason = line.split("\t", 3)
            self.reasons[utt] = (part, int(epoch), reason)
