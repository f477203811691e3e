"""A data directory of synthetic speech: made batch by batch, taken up after a kill, accounted for.

    wav.scp text utt2spk spk2utt utt2lang utt2dur reco2dur utt2tags [utt2times]
    metadata.jsonl    how each utterance was made
    failed.tsv        every line that gave none: where, reason, what was found
    synthetic.json    counts that add up, and the options
    wav/              the recordings

Each batch is one journal file in `.synth/`, written when its recordings are; a run that is taken up
goes on behind the last. About 1 kB an utterance is held when the tables are written.
"""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import atomic_write, read_json, write_json
from espnet_plugin.corpora.data_dir import Utterance, write_data_dir
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import write_table

REPORT = "synthetic.json"
LONGEST = 30.0  # seconds, Whisper's window
EXCLUDED = "excluded"  # reason of a line that must not be spoken: no failure
FEW = 20  # lines from which on the share of failures is looked at


@dataclass(frozen=True, slots=True)
class Spoken:
    """An utterance that was made.

    Attributes:
        utt: Its id; begins with the speaker and a hyphen.
        speaker: Speaker id.
        text: As written.
        lang: ``cs`` or a language.
        tags: A tag for each normalised word.
        times: ``START:END:WORDS`` of timed stretches, in seconds; None where not known.
        wav: Its file below the directory.
        seconds: Its length.
        how: For ``metadata.jsonl``.
    """

    utt: str
    speaker: str
    text: str
    lang: str
    tags: str
    times: str | None
    wav: str
    seconds: float
    how: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """A line that gave no utterance: where it stands, why (few words), what was found."""

    where: str
    reason: str
    detail: str = ""


@dataclass
class Batch:
    """What became of some lines."""

    spoken: list[Spoken] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)


class SpeechSet:
    """A directory in the making.

    Args:
        output: The directory.
        key: Hash of all that decides the outcome; with another one everything is made anew.
        max_failed: Largest share of lines that may fail.

    Raises:
        ValueError: The directory holds something else.
    """

    def __init__(self, output: str | Path, key: str, max_failed: float) -> None:
        if not 0 <= max_failed <= 1:
            raise ValueError(f"max_failed is {max_failed}; allowed is 0 to 1")
        self.path, self._key, self._max_failed = Path(output), key, max_failed
        self._work = self.path / ".synth"
        self._lines = self._failures = 0
        self._first: list[str] = []
        there = {p.name for p in self.path.iterdir()} if self.path.is_dir() else set()
        if there and not there & {REPORT, ".synth"}:
            raise ValueError(
                f"{self.path}: exists, and was not made by synthesis (it has no {REPORT}); remove "
                "it or choose another output"
            )

    def finished(self) -> dict[str, Any] | None:
        """Return the report, where an earlier run has made all of this."""
        path = self.path / REPORT
        if not path.is_file():
            return None
        report: dict[str, Any] = read_json(path)
        return report if report["key"] == self._key else None

    def begin(self) -> int:
        """Take up an earlier run, or start anew.

        Returns:
            How many batches are there.
        """
        mark = self._work / "key"
        if not mark.is_file() or mark.read_text(encoding="utf-8") != self._key:
            (self.path / REPORT).unlink(missing_ok=True)
            for folder in (self._work, self.path / "wav"):
                shutil.rmtree(folder, ignore_errors=True)
            with atomic_write(mark, "w") as file:
                file.write(self._key)
        batches = 0
        while (self._work / f"batch-{batches:06d}.jsonl").is_file():
            self._count(self._read(batches))
            batches += 1
        return batches

    @property
    def work(self) -> Path:
        """Folder for what else has to outlast a kill; gone in the end."""
        return self._work

    def add(self, number: int, batch: Batch) -> None:
        """Journal a batch whose recordings are written.

        Raises:
            ValueError: Too many lines have failed; names the first.
        """
        self._count(batch)
        if self._lines >= FEW:
            self._check()  # before it is journalled: the next run tries this batch again
        with atomic_write(self._work / f"batch-{number:06d}.jsonl", "w") as file:
            for kind, entries in (("spoken", batch.spoken), ("failed", batch.failed)):
                for entry in entries:
                    line = json.dumps([kind, asdict(entry)], ensure_ascii=False)  # type: ignore[call-overload]
                    file.write(line + "\n")

    def _count(self, batch: Batch) -> None:
        self._lines += len(batch.spoken) + len(batch.failed)
        failed = [entry for entry in batch.failed if entry.reason != EXCLUDED]
        self._failures += len(failed)
        for entry in failed[: 3 - len(self._first)]:
            self._first.append(f"{entry.where}: {entry.reason}: {entry.detail}")

    def _check(self) -> None:
        if self._failures > self._max_failed * self._lines:
            examples = "\n  ".join(self._first)
            raise ValueError(
                f"{self.path}: {self._failures} of {self._lines} lines gave no utterance, more "
                f"than --max_failed {self._max_failed:g}. To try them again, remove {self._work}. "
                f"The first:\n  {examples}"
            )

    def _read(self, number: int) -> Batch:
        batch = Batch()
        with open(self._work / f"batch-{number:06d}.jsonl", encoding="utf-8") as file:
            for line in file:
                kind, entry = json.loads(line)
                if kind == "spoken":
                    batch.spoken.append(Spoken(**entry))
                else:
                    batch.failed.append(Failed(**entry))
        return batch

    def _batches(self) -> Iterator[Batch]:
        number = 0
        while (self._work / f"batch-{number:06d}.jsonl").is_file():
            yield self._read(number)
            number += 1

    def finish(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write the tables and the report, and check the directory.

        Args:
            about: What else the report says.

        Returns:
            The report.

        Raises:
            ValueError: No line gave an utterance, or too many did not.
            RuntimeError: The directory is not valid; a defect of this program.
        """
        rows: list[Spoken] = []
        failed: list[Failed] = []
        for batch in self._batches():
            rows += batch.spoken
            failed += batch.failed
        self._check()
        if not rows:
            raise ValueError(
                f"{self.path}: none of {len(failed)} lines gave an utterance: "
                f"{'; '.join(self._first) or 'there was none'}"
            )
        timed = all(row.times is not None for row in rows)
        write_data_dir(self.path, (self._utterance(row, timed) for row in rows))
        if not timed:
            (self.path / "utt2times").unlink(missing_ok=True)
        write_table(self.path / "reco2dur", {row.utt: f"{row.seconds:.6f}" for row in rows})
        rows.sort(key=lambda row: row.utt.encode())
        _write_lines(
            self.path / "metadata.jsonl",
            (json.dumps({"utt": row.utt} | row.how, ensure_ascii=False) for row in rows),
        )
        _write_lines(
            self.path / "failed.tsv",
            (
                "\t".join(" ".join(part.split()) for part in (f.where, f.reason, f.detail))
                for f in failed
            ),
        )
        if faults := validate_data_dir(self.path):
            raise RuntimeError(f"{self.path}: not valid: {'; '.join(map(str, faults[:5]))}")
        speakers = Counter(row.speaker for row in rows)
        report = {
            "key": self._key,
            "lines": len(rows) + len(failed),
            "utterances": len(rows),
            "failed": dict(Counter(entry.reason for entry in failed).most_common()),
            "seconds": round(sum(row.seconds for row in rows), 3),
            "languages": dict(sorted(Counter(row.lang for row in rows).items())),
            "tags": dict(sorted(Counter(tag for row in rows for tag in row.tags.split()).items())),
            "speakers": dict(sorted(speakers.items())),
            "timed": timed,
        } | about
        write_json(self.path / REPORT, report)
        shutil.rmtree(self._work)
        return report

    def _utterance(self, row: Spoken, timed: bool) -> Utterance:
        extra = {"utt2tags": row.tags, "utt2dur": f"{row.seconds:.3f}"}
        if timed:
            extra["utt2times"] = row.times or ""
        wav = (self.path / row.wav).resolve()
        return Utterance(row.utt, row.speaker, row.text, row.lang, wav, extra)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with atomic_write(path, "w") as file:
        file.writelines(line + "\n" for line in lines)


def wav_name(utt: str) -> str:
    """Return an utterance's file below the directory: at most some thousand in a folder."""
    return f"wav/{utt[-8:-3]}/{utt}.wav"


def describe(report: dict[str, Any], output: str | Path) -> str:
    """Put a report in some lines of text."""
    counts = report["speakers"].values()
    lines = [
        f"{'unchanged: ' if report.get('unchanged') else ''}{output}: {report['utterances']} "
        f"utterances of {report['lines']} lines, {report['seconds'] / 3600:.2f} h, "
        f"{len(counts)} speakers with {min(counts)} to {max(counts)} utterances"
    ]
    lines += [f"  failed: {reason}: {count}" for reason, count in report["failed"].items()]
    return "\n".join(lines)
