"""What was found about the audio of a set, and the one report about all sets.

| file below ``dump/raw`` | has |
| --- | --- |
| ``<set>/faults.tsv`` | stage 3: every utterance left out, put right or worth a warning |
| ``<set>/dropped.tsv`` | stage 4: every utterance dropped from a training or validation set |
| ``faults.md`` | both, of all sets: counts by fault, and the first utterances of each |

Both tables have the columns of `Finding`.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write

FAULTS = "faults.tsv"
DROPPED = "dropped.tsv"
REPORT = "faults.md"
LEFT_OUT, PUT_RIGHT, KEPT = "left out", "put right", "kept"
ORDER = (LEFT_OUT, KEPT, PUT_RIGHT)  # in reports: the most serious first
TEST_SET = re.compile(r"(^|[_-])(test|eval)([_-]|\d|$)")
SHOWN = 10  # utterances of a fault that the report describes; the tables have all
NAMED = 5  # those that one line names
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


def read_findings(path: Path) -> Iterator[Finding]:
    """Read what `write_findings` wrote, line by line; nothing where there is no such file.

    Raises:
        ValueError: Another file; names the line.
    """
    if not path.is_file():
        return
    with open(path, encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            row = line.removesuffix("\n").split("\t")
            if len(row) != len(HEAD) or (number == 1 and tuple(row) != HEAD):
                raise ValueError(f"{path}:{number}: not a line of a report; its columns are {HEAD}")
            if number > 1:
                yield Finding(*row)


def _groups(findings: Iterable[Finding]) -> dict[tuple[int, str], tuple[int, list[Finding]]]:
    """Count findings by rank of what was done and fault, and keep the first of each."""
    groups: dict[tuple[int, str], tuple[int, list[Finding]]] = {}
    for finding in findings:
        key = ORDER.index(finding.done), finding.fault
        number, first = groups.get(key, (0, []))
        if number < SHOWN:
            first.append(finding)
        groups[key] = number + 1, first
    return dict(sorted(groups.items()))


def _names(number: int, first: Sequence[Finding]) -> str:
    names = ", ".join(finding.utterance for finding in first[:NAMED])
    return names if number <= NAMED else f"{names}, ... ({number} in all)"


def count(findings: Iterable[Finding]) -> Counts:
    """Count findings by fault, the most serious first."""
    return {
        fault: (ORDER[rank], number, _names(number, first))
        for (rank, fault), (number, first) in _groups(findings).items()
    }


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|")


def _section(fault: str, done: str, number: int, first: Sequence[Finding]) -> list[str]:
    lines = [f"### {fault}: {number} {done}", "", "| utterance | file | found |"]
    lines.append("| --- | --- | --- |")
    lines += [f"| {_cell(f.utterance)} | {_cell(f.file)} | {_cell(f.found)} |" for f in first]
    if number > len(first):
        lines.append(f"| ... {number - len(first)} more | | |")
    return [*lines, ""]


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
            groups = _groups(read_findings(folder / name))
            if not groups and (stage == 3 or (folder / name).is_file()):
                head.append(f"| {folder.name} | {stage} | none | 0 | | |")
            if groups:
                sections += [f"## {folder.name}, stage {stage}", ""]
                sections += [f"All of them: `{folder / name}`", ""]
            for (rank, fault), (number, first) in groups.items():
                names, done = _cell(_names(number, first)), ORDER[rank]
                head.append(f"| {folder.name} | {stage} | {fault} | {number} | {done} | {names} |")
                sections += _section(fault, done, number, first)
    with atomic_write(dumpdir / REPORT, "w") as file:
        file.write("\n".join([*head, "", *sections]).rstrip("\n") + "\n")
    return dumpdir / REPORT
