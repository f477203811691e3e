"""What became of a corpus: lines by reason, changes by step, statistics before and after."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import atomic_write, write_json
from espnet_plugin.text.corpus.choosing import CHOICES
from espnet_plugin.text.corpus.lines import REASONS as LIMITS
from espnet_plugin.text.corpus.units import plain
from espnet_plugin.text.sources import REASONS as READING
from espnet_plugin.text.stats import TextStats
from espnet_plugin.text.stats_plots import plot
from espnet_plugin.text.stats_report import table

NAMES = {"train": "kept", "valid": "held out for validation"}


class Report:
    """Counts of a run, added up as its units finish; the order does not matter.

    Attributes:
        made_from: Inputs and choices.
        read: Lines read.
        kept: Lines of each store.
        dropped: Lines dropped for each reason.
        changes: Lines changed by each cleaning step.
        before: Statistics of the cleaned lines, before any limit.
        after: Statistics of each store.
    """

    def __init__(self, made_from: Mapping[str, Any]) -> None:
        """Begin with nothing counted."""
        self.made_from = made_from
        self.read = 0
        self.kept: dict[str, int] = {}
        self.dropped: dict[str, int] = {}
        self.changes: dict[str, int] = {}
        self.before: TextStats | None = None
        self.after: dict[str, TextStats] = {}

    def add_block(self, facts: Mapping[str, Any]) -> None:
        """Add the facts of a block (`mapping.map_block`)."""
        self.read += facts["read"]
        self.drop(facts["dropped"])
        self.changes = plain(Counter(self.changes) + Counter(facts["changes"]))
        stats = TextStats.from_json(facts["stats"])
        self.before = _merged(self.before, stats)

    def drop(self, dropped: Mapping[str, int]) -> None:
        """Add dropped lines by reason."""
        total = Counter(self.dropped) + Counter(dropped)
        known = dict.fromkeys([*READING, *LIMITS, *CHOICES[2:]])
        self.dropped = {reason: total[reason] for reason in {**known, **total} if total[reason]}

    def add_after(self, part: str, stats: TextStats) -> None:
        """Add the statistics of a shard."""
        self.after[part] = _merged(self.after.get(part), stats)

    def counts(self) -> dict[str, Any]:
        """Return the accounting: lines read = lines kept in all stores + lines dropped."""
        return {"read": self.read, "kept": self.kept, "dropped": self.dropped}

    def accounting(self) -> str:
        """Return the accounting as a Markdown table."""
        rows = [("read", self.read)]
        rows += [(NAMES[part], n) for part, n in self.kept.items()]
        rows += [(f"dropped: {reason}", n) for reason, n in self.dropped.items()]
        width = max(len(name) for name in ["lines", *(name for name, _ in rows)])
        lines = [f"| {'lines'.ljust(width)} |      number | share of read |"]
        lines += [f"| {'-' * width} | ----------: | ------------: |"]
        for name, n in rows:
            share = f"{100 * n / self.read:.2f} %" if self.read else "-"
            lines.append(f"| {name.ljust(width)} | {n:11,} | {share:>13} |")
        return "\n".join(lines)

    def warnings(self) -> list[str]:
        """Say in words what is wrong with the training text; nothing where tags are missing."""
        if self.made_from["config"]["pair"] is None:
            return []
        return self.after["train"].warnings(self.before)

    def write(self, directory: Path, part: str, plots: bool) -> None:
        """Write `report.json`, `report.md` and, where asked, pictures into a store's folder."""
        assert self.before is not None
        after = self.after[part]
        if plots:
            plot(self.before, after, directory)
        entries = self.counts() | {
            "part": part,
            "changes": self.changes,
            "warnings": self.warnings(),
            "before": self.before.to_json(),
            "after": after.to_json(),
            "made_from": self.made_from,
        }
        write_json(directory / "report.json", entries)
        with atomic_write(directory / "report.md", "w") as file:
            file.write(self.markdown(part))

    def markdown(self, part: str) -> str:
        """Return the report on a store as Markdown."""
        assert self.before is not None
        changes = [f"| {step} | {n:,} |" for step, n in self.changes.items()] or ["| none | 0 |"]
        figures = {"before": self.before.figures(), "after": self.after[part].figures()}
        sections = [
            "# Text corpus",
            self.accounting(),
            "## Cleaning",
            "\n".join(["| step | lines changed |", "| --- | ---: |", *changes]),
            "## Statistics",
            table(figures).strip(),
        ]
        if found := self.warnings():
            sections += ["## Warnings", "\n".join(f"- {warning}" for warning in found)]
        return "\n\n".join(sections) + "\n"


def _merged(total: TextStats | None, part: TextStats) -> TextStats:
    if total is None:
        return part
    total.merge(part)
    return total
