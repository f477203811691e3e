"""Candidates to lines: chosen, counted, written in parts, and taken up again after a kill."""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import atomic_write, read_json, write_json
from espnet_plugin.cli import progress
from espnet_plugin.corpora.switch_text_choose import Chooser, Seen
from espnet_plugin.corpora.switch_text_pairs import units
from espnet_plugin.corpora.switch_text_plan import Plan
from espnet_plugin.corpora.switch_text_unit import UnitResult, make_candidates
from espnet_plugin.text.dedup import line_hashes
from espnet_plugin.text.executors import Executor
from espnet_plugin.text.stats import TextStats

SOURCE = "switch"  # of the lines, where text from several sources is counted
COMMIT_LINES = 50_000  # made since the last state that was saved


@dataclass(frozen=True)
class Options:
    """How much is made.

    Attributes:
        lines: Lines to make at most; None for as many as the input gives.
        per_sentence: Lines to make of one sentence at most.
        turn_away: Share of the sentences that may be left unused for better distributions.
        sample: Sentence pairs to learn translations from.
        nj: Worker processes. The result does not depend on it.
    """

    lines: int | None = None
    per_sentence: int = 1
    turn_away: float = 0.3
    sample: int = 100_000
    nj: int = 1

    def __post_init__(self) -> None:
        for name in ("lines", "per_sentence", "sample", "nj"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} is at least 1, got {value}")


class Run:
    """Choosing and writing, saved now and then so that a killed run goes on.

    Args:
        plan: Input and everything else that decides the candidates.
        work: Directory for what is saved.
        options: How much to make.
        chooser: A new one; what it had counted in an earlier run is read again.
        tags: What the tagger's codes mean.

    Attributes:
        seen: Hashes of the lines made.
        read: Sentences read.
        used: Those that a line was made of.
        turned_away: Those whose patterns were not needed.
        dropped: Sentences that were not, by reason.
        refused: Phrases that were not exchanged, by reason.
        stats: Of the lines made.
    """

    def __init__(
        self, plan: Plan, work: Path, options: Options, chooser: Chooser, tags: Sequence[str]
    ) -> None:
        self.chooser, self.seen, self.stats = chooser, Seen(), TextStats(tags)
        self.read = self.used = self.turned_away = 0
        self.dropped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self._plan, self._work, self._options = plan, work, options
        self._units = self._parts = 0
        self._file_lines: dict[str, int] = {}  # of the file that is being read
        self._waiting: list[str] = []

    def parts(self) -> list[Path]:
        """Return the files with the lines made, in order."""
        return [self._work / f"part-{n:06d}.jsonl" for n in range(self._parts)]

    def go(self, executor: Executor) -> None:
        """Do what is left to do."""
        self._resume()
        todo = islice(units(self._plan.inputs), self._units, None)
        results = executor.ordered_map(partial(make_candidates, self._plan), todo)
        with (
            closing(results) as found,  # type: ignore[type-var]
            progress(self._options.lines, "switched text", "lines", initial=len(self.seen)) as bar,
        ):
            for result in found if not self._full() else ():
                before = len(self.seen)
                self._take(result)
                self._units += 1
                bar.update(len(self.seen) - before)
                if len(self._waiting) >= COMMIT_LINES:
                    self._save()
                if self._full():
                    break
        self._save()

    def _full(self) -> bool:
        return self._options.lines is not None and len(self.seen) >= self._options.lines

    def _take(self, result: UnitResult) -> None:
        """Keep the best candidates of each sentence of a unit."""
        before = self._file_lines.get(result.path, 0)
        first = result.first_line or before + 1
        self._file_lines = {result.path: before + result.read}
        self.read += result.read
        self.dropped += result.dropped
        self.refused += result.refused
        kept: list[Any] = []
        for line, candidates in result.lines:
            options = [c for c in candidates if c.hash not in self.seen]
            if not options:
                self.dropped["made before"] += 1
                continue
            count = 0
            while options and count < self._options.per_sentence and not self._full():
                choice = self.chooser.choose([c.shape for c in options])
                if choice is None:
                    break
                chosen = options.pop(choice)
                self.seen.add(chosen.hash)
                options = [c for c in options if c.hash != chosen.hash]
                kept.append(chosen)
                count += 1
                self._waiting.append(_line(chosen, f"{result.path}:{first + line}", self.stats))
            self.used += count > 0
            self.turned_away += not count
            if self._full():
                break
        if kept:
            codes = np.frombuffer(b"".join(c.codes for c in kept), np.uint8)
            n_words = np.array([len(c.codes) for c in kept], np.int32)
            self.stats.add_block(codes, n_words, None, ["cs"] * len(kept), None)

    def _save(self) -> None:
        if self._waiting:
            with atomic_write(self._work / f"part-{self._parts:06d}.jsonl", "w") as file:
                file.writelines(self._waiting)
            self._parts += 1
            self._waiting = []
        state = {
            "units": self._units,
            "parts": self._parts,
            "read": self.read,
            "used": self.used,
            "turned_away": self.turned_away,
            "dropped": self.dropped,
            "refused": self.refused,
            "file_lines": self._file_lines,
            "chooser": self.chooser.to_json(),
            "stats": self.stats.to_json(),
        }
        write_json(self._work / "state.json", state)

    def _resume(self) -> None:
        path = self._work / "state.json"
        if not path.is_file():
            return
        state = read_json(path)
        self._units, self._parts = state["units"], state["parts"]
        self.read, self.used = state["read"], state["used"]
        self.turned_away = state["turned_away"]
        self.dropped, self.refused = Counter(state["dropped"]), Counter(state["refused"])
        self._file_lines = state["file_lines"]
        self.chooser.restore(state["chooser"])
        self.stats = TextStats.from_json(state["stats"])
        for part in self.parts():
            with open(part, encoding="utf-8") as file:
                while texts := [json.loads(line)["text"] for line in islice(file, 10_000)]:
                    for value in line_hashes(texts).tolist():
                        self.seen.add(value)


def _line(candidate: Any, where: str, stats: TextStats) -> str:
    record = {
        "text": candidate.text,
        "lang": "cs",
        "source": SOURCE,
        "markup": candidate.markup,
        "matrix": stats.languages[candidate.matrix],
        "cmi": round(candidate.shape.index, 1),
        "from": where,
    }
    return json.dumps(record, ensure_ascii=False) + "\n"
