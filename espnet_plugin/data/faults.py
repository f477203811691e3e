"""What was found about the audio of a set, and the one report about all sets.

| file below ``dump/raw`` | has |
| --- | --- |
| ``<set>/faults.tsv`` | stage 3: every utterance left out, put right or worth a warning |
| ``<set>/dropped.tsv`` | stage 4: every utterance dropped from a training or validation set |
| ``faults.md`` | both, of all sets: counts by fault, and the first utterances of each |

Both tables have the columns of `Finding`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.data.tables import some

FAULTS = "faults.tsv"
DROPPED = "dropped.tsv"
REPORT = "faults.md"
LEFT_OUT, PUT_RIGHT, KEPT = "left out", "put right", "kept"
TEST_SET = re.compile(r"(^|[_-])(test|eval)([_-]|\d|$)")
SHOWN = 10  # utterances of a fault that the report names; the tables have all
# What stands in a cell must not end it; undecodable bytes of a file's name are no UTF-8
_BREAKS = re.compile("[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Finding:
    """A line of the report.

    Attributes:
        utterance: Its id.
        fault: What is wrong, in a word or two: ``missing``, ``truncated``, ``stereo`` ...
        done: What was done about it: ``left out``, ``put right``, ``kept``.
        file: The ``wav.scp`` value.
        found: What exactly was found.
    """

    utterance: str
    fault: str
    done: str
    file: str
    found: str


HEAD = tuple(field.name for field in fields(Finding))
# fault: what was done, how many, the first utterances
Counts = dict[str, tuple[str, int, str]]


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write findings as a table, sorted by utterance; tabs and line breaks become spaces."""
    rows = sorted(astuple(finding) for finding in findings)
    with atomic_write(path, "w") as file:
        for row in (HEAD, *rows):
            file.write("\t".join(_BREAKS.sub(" ", cell) for cell in row) + "\n")


def read_findings(path: Path) -> list[Finding]:
    """Read what `write_findings` wrote; nothing where there is no such file.

    Raises:
        ValueError: Another file; names the line.
    """
    if not path.is_file():
        return []
    found = []
    for number, line in enumerate(path.read_text("utf-8").split("\n")[:-1], 1):
        row = line.split("\t")
        if len(row) != len(HEAD) or (number == 1 and tuple(row) != HEAD):
            raise ValueError(f"{path}:{number}: not a line of a report; its columns are {HEAD}")
        if number > 1:
            found.append(Finding(*row))
    return found


def count(findings: Iterable[Finding]) -> Counts:
    """Count findings by what was done and fault, the most serious first."""
    groups: dict[tuple[int, str], list[Finding]] = {}
    order = (LEFT_OUT, KEPT, PUT_RIGHT)
    for finding in findings:
        groups.setdefault((order.index(finding.done), finding.fault), []).append(finding)
    return {
        fault: (order[rank], len(group), some([finding.utterance for finding in group]))
        for (rank, fault), group in sorted(groups.items())
    }


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _section(name: str, findings: Sequence[Finding], table: Path) -> list[str]:
    lines = [f"## {name}", "", f"All of them: `{table}`", ""]
    for fault, (done, number, _) in count(findings).items():
        lines += [f"### {fault}: {number} {done}", "", "| utterance | file | found |"]
        lines.append("| --- | --- | --- |")
        shown = [finding for finding in findings if (finding.fault, finding.done) == (fault, done)]
        lines += [
            f"| {_cell(f.utterance)} | {_cell(f.file)} | {_cell(f.found)} |" for f in shown[:SHOWN]
        ]
        if len(shown) > SHOWN:
            lines.append(f"| ... {len(shown) - SHOWN} more | | |")
        lines.append("")
    return lines


def write_report(dumpdir: str | Path) -> Path:
    """Write ``faults.md`` about all sets of a directory.

    Args:
        dumpdir: ``dump/raw``.

    Returns:
        The report.

    Raises:
        ValueError: A set's table is damaged.
    """
    dumpdir = Path(dumpdir)
    head = ["# Faults of the audio", ""]
    head += ["Stage 3 leaves out what cannot be used, and puts right what can be put right; stage"]
    head += ["4 drops from training and validation sets what cannot be trained on.", ""]
    head += ["| set | stage | fault | utterances | done | first |"]
    head += ["| --- | ---: | --- | ---: | --- | --- |"]
    sections: list[str] = []
    for folder in sorted(path.parent for path in dumpdir.glob(f"*/{FAULTS}")):
        for stage, name in ((3, FAULTS), (4, DROPPED)):
            findings = read_findings(folder / name)
            if not findings and (stage == 3 or (folder / name).is_file()):
                head.append(f"| {folder.name} | {stage} | none | 0 | | |")
            for fault, (done, number, first) in count(findings).items():
                row = f"| {folder.name} | {stage} | {fault} | {number} | {done} | {_cell(first)} |"
                head.append(row)
            if findings:
                sections += _section(f"{folder.name}, stage {stage}", findings, folder / name)
    with atomic_write(dumpdir / REPORT, "w") as file:
        file.write("\n".join([*head, "", *sections]).rstrip("\n") + "\n")
    return dumpdir / REPORT
