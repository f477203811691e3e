"""Sorted rows to ``data/<set>/``: every table written as the rows pass, none held in memory."""

import os
import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from espnet_plugin.checkpoint import temporary_sibling, write_json
from espnet_plugin.corpora.spool import COLUMNS, Spool

OPTIONAL = ("utt2tags", "utt2times")  # in a set where any utterance has them; the others: no value
MADE_BY = "corpus.json"  # marks a directory that this frame made and may replace


@dataclass
class SetFacts:
    """What a set holds.

    Attributes:
        split: The set's split, which says its role.
        utterances: How many.
        items: Of how many of the corpus's items they are made.
        seconds: Their duration.
        speakers: How many; 0 where none is known.
        languages: Utterances by language.
        tags: Words by tag.
        partly: Optional tables that only some utterances have, and how many.
    """

    split: str
    utterances: int = 0
    items: int = 0
    seconds: float = 0.0
    speakers: int = 0
    languages: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)
    partly: dict[str, int] = field(default_factory=dict)


class SetWriter:
    """Writes one set; rows come sorted by utterance.

    Args:
        path: The directory to make. It appears when the set is complete; one that an earlier run
            made is replaced.
        spool: For the recordings of sets with segments.
        split: Its split.
        segments: Whether utterances are parts of recordings.

    Raises:
        ValueError: The directory exists and was not made by this program.
    """

    def __init__(self, path: Path, spool: Spool, split: str, segments: bool) -> None:
        if path.exists() and any(path.iterdir()) and not (path / MADE_BY).is_file():
            raise ValueError(
                f"{path}: exists, and was not made from a corpus (it has no {MADE_BY}); remove it "
                "or choose another --datadir"
            )
        self.facts = SetFacts(split)
        self._path, self._spool, self._segments = path, spool, segments
        for left in path.parent.glob(f".{path.name}.*.tmp"):  # by a killed run
            shutil.rmtree(left)
        self._folder = temporary_sibling(path)
        self._folder.mkdir(parents=True)
        self._stack = ExitStack()
        names = ["text", "utt2spk", "spk2utt", "utt2lang", "utt2dur", *OPTIONAL]
        names += ["segments"] if segments else ["wav.scp", "reco2dur"]
        self._files = {name: self._create(name) for name in names}
        self._have = dict.fromkeys(OPTIONAL, 0)
        self._tags: list[str] = []  # of rows whose tags are not counted yet
        self._speaker = ""
        self._recording = "", ""

    def _create(self, name: str) -> IO[str]:
        file = open(self._folder / name, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
        return self._stack.enter_context(file)

    def add(self, row: dict[str, Any]) -> bool:
        """Write a row; False where its recording's name is taken by another file.

        Raises:
            ValueError: Speakers are not in the order of the utterances (a corpus's mistake).
        """
        utt, speaker, files = row["utt"], row["spk"], self._files
        start, end, length = row["start"], row["end"], row["recdur"]
        if self._segments:
            recording = row["rec"] or utt
            if not self._record(recording, row["source"], length):
                return False
            if start is None:
                start, end = 0.0, int(length * 1000) / 1000
            files["segments"].write(f"{utt} {recording} {start:.3f} {end:.3f}\n")
            length = end - start
        else:
            files["wav.scp"].write(f"{utt} {row['source']}\n")
            files["reco2dur"].write(f"{utt} {length:.6f}\n")
        if speaker != self._speaker:
            if speaker < self._speaker:
                raise ValueError(f"{utt}: speaker {speaker} after {self._speaker}")
            files["spk2utt"].write(("\n" if self._speaker else "") + speaker)
            self._speaker = speaker
            self.facts.speakers += row["known"]
        files["spk2utt"].write(f" {utt}")
        files["text"].write(f"{utt} {row['text']}\n")
        files["utt2spk"].write(f"{utt} {speaker}\n")
        files["utt2lang"].write(f"{utt} {row['lang']}\n")
        files["utt2dur"].write(f"{utt} {length:.3f}\n")
        for name, value in (("utt2tags", row["tags"]), ("utt2times", row["times"])):
            files[name].write(f"{utt} {value or ''}".rstrip() + "\n")
            self._have[name] += value is not None
        facts = self.facts
        facts.utterances += 1
        facts.items += row["items"]
        facts.seconds += length
        facts.languages[row["lang"]] += 1
        if row["tags"]:
            self._tags.append(row["tags"])
            if len(self._tags) >= 1000:  # counted together, in a tenth of the time
                self._count_tags()
        return True

    def _count_tags(self) -> None:
        self.facts.tags.update(" ".join(self._tags).split())
        self._tags.clear()

    def _record(self, recording: str, source: str, seconds: float) -> bool:
        if (recording, source) == self._recording:  # nearly always: they follow each other
            return True
        query = "SELECT source FROM recordings WHERE place = ? AND rec = ?"
        known = self._spool.db.execute(query, (self._path.name, recording)).fetchone()
        if known is not None and known[0] != source:
            return False
        self._recording = recording, source
        if known is not None:
            return True
        self._spool.db.execute(
            "INSERT INTO recordings VALUES (?, ?, ?, ?)",
            (self._path.name, recording, source, seconds),
        )
        return True

    def close(self, about: dict[str, Any]) -> SetFacts:
        """Finish the set.

        Args:
            about: What the directory was made from.

        Returns:
            What it holds.
        """
        if self._segments:
            wav, lengths = self._create("wav.scp"), self._create("reco2dur")
            query = "SELECT rec, source, seconds FROM recordings WHERE place = ? ORDER BY rec"
            found = self._spool.db.execute(query, (self._path.name,))
            for recording, source, seconds in found:
                wav.write(f"{recording} {source}\n")
                lengths.write(f"{recording} {seconds:.6f}\n")
        self._count_tags()
        self._files["spk2utt"].write("\n")
        self._stack.close()
        for name, count in self._have.items():
            if not count:
                (self._folder / name).unlink()
            elif count < self.facts.utterances:
                self.facts.partly[name] = count
        write_json(self._folder / MADE_BY, about)
        for path in self._folder.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        old = None
        if self._path.exists():
            old = temporary_sibling(self._path)
            os.replace(self._path, old)
        os.replace(self._folder, self._path)
        if old is not None:
            shutil.rmtree(old)
        return self.facts

    def abort(self) -> None:
        """Leave nothing behind."""
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def set_name(corpus: str, subset: str, split: str) -> str:
    """Return the name of a set."""
    return "_".join(part for part in (corpus, subset, split) if part)


def planned_sets(spool: Spool, corpus: str) -> list[str]:
    """Return the sets that have any row before duplicates and the like are left out."""
    found = spool.db.execute("SELECT DISTINCT subset, final FROM placed ORDER BY 1, 2")
    return [set_name(corpus, *place) for place in found]


def write_sets(
    spool: Spool, output: Path, corpus: str, about: dict[str, Any], short: int = 0
) -> dict[str, SetFacts]:
    """Write ``<output>/<corpus>[_<subset>]_<split>`` for all rows, leaving out what must not be.

    What is left out goes to the spool's skips: ids given twice (the first in the corpus's order
    stays), speakers and sentences that belong to a set of a higher role.

    Args:
        spool: Rows, placed and with held-out sentences.
        output: Where the sets go.
        corpus: Its name.
        about: For each set's ``corpus.json``.
        short: Sentences of up to so many words may be in sets of several roles.

    Returns:
        Facts by set.
    """
    with_segments = {
        (subset, split)
        for subset, split in spool.db.execute(
            "SELECT DISTINCT subset, final FROM placed WHERE rec IS NOT NULL"
        )
    }
    columns = [*COLUMNS, "final", "rank", "speaker_rank", "held"]
    quoted = ", ".join(f'p."{column}"' for column in columns[:-1])
    query = f"""SELECT {quoted}, COALESCE(h.rank, 0) FROM placed p
        LEFT JOIN held h ON h.sentence = p.sentence JOIN unit_order o ON o.id = p.unit
        ORDER BY p.subset, p.final, p.utt, o.place, p.n"""
    spool.db.execute("DROP TABLE IF EXISTS recordings")
    spool.db.execute(
        "CREATE TABLE recordings (place TEXT, rec TEXT, source TEXT, seconds REAL, "
        "PRIMARY KEY (place, rec)) WITHOUT ROWID"
    )
    facts: dict[str, SetFacts] = {}
    roles = ("", "valid", "test")
    writer: SetWriter | None = None
    current, previous, name = None, "", ""
    try:
        for values in spool.db.execute(query):
            row = dict(zip(columns, values, strict=True))
            place = row["subset"], row["final"]
            reason = ""
            if row["speaker_rank"] > row["rank"]:
                reason = f"speaker of a {roles[row['speaker_rank']]} set"
            elif row["held"] > row["rank"] and len(row["text"].split()) > short:
                reason = f"sentence of a {roles[row['held']]} set"
            elif place == current and row["utt"] == previous:
                reason = "id given twice"
            if not reason:
                if place != current:
                    if writer is not None:
                        facts[name] = writer.close(about)
                    name = set_name(corpus, *place)
                    writer = SetWriter(output / name, spool, row["final"], place in with_segments)
                    current = place
                assert writer is not None
                previous = row["utt"]
                if not writer.add(row):
                    reason = "recording name given twice"
            if reason:
                spool.db.execute(
                    "INSERT INTO skips VALUES (?, ?, ?, ?, ?, ?)",
                    (row["unit"], 10**9 + row["n"], row["utt"], reason, "", row["items"]),
                )
        if writer is not None:
            facts[name] = writer.close(about)
            writer = None
    except BaseException:
        if writer is not None:
            writer.abort()
        raise
    spool.commit()
    return facts
