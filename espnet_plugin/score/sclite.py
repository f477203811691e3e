"""NIST's sclite (package sctk), the recipe's scorer: found, run, and its report read."""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write

# Debian's package puts sclite off the PATH.
OFF_PATH = ("/usr/lib/sctk/bin", "/usr/local/sctk/bin", "/opt/sctk/bin", "/opt/homebrew/bin")
COMMAND = ("-r", "ref.trn", "trn", "-h", "hyp.trn", "trn", "-i", "rm", "-o", "all", "stdout")

_SCORES = re.compile(r"^Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)
# | Sum  |    3      7 |    5      1      1      2      4      3 |; "Sum/Avg" has the percentages.
_SUM = re.compile(
    r"^\s*\|\s*Sum\s*\|\s*(\d+)\s+(\d+)\s*\|\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*\|",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Counts:
    """Counts of sclite over a set."""

    n_utt: int
    cor: int
    sub: int
    dele: int
    ins: int

    @property
    def n_ref(self) -> int:
        """Number of reference tokens."""
        return self.cor + self.sub + self.dele

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.sub + self.dele + self.ins

    @property
    def rate(self) -> float:
        """Error rate in percent.

        Raises:
            ValueError: there are no reference tokens.
        """
        if not self.n_ref:
            raise ValueError("no reference words: there is no error rate")
        return 100.0 * self.errors / self.n_ref


def find_sclite() -> str:
    """Find sclite: `$SCLITE`, the PATH, then the places where packages put it.

    Raises:
        FileNotFoundError: it is nowhere; the message has the command that installs it.
    """
    if named := os.environ.get("SCLITE"):
        if os.access(named, os.X_OK):
            return named
        raise FileNotFoundError(f"SCLITE={named}: no such program")
    path = os.pathsep.join([os.environ.get("PATH", ""), *OFF_PATH])
    if found := shutil.which("sclite", path=path):
        return found
    raise FileNotFoundError(
        "sclite not found on the PATH or in "
        + ", ".join(OFF_PATH)
        + "; install it with 'sudo apt-get install sctk' (Debian, Ubuntu) "
        "or 'brew install sctk' (Mac)"
    )


def trn_ids(utterances: Sequence[str]) -> list[str]:
    """Make ids that sclite can read.

    sclite ends an id at a parenthesis or space and compares ids without regard to case. Other
    characters become `_`; an id that equals an earlier one gets a number.

    Args:
        utterances: distinct utterance ids.

    Returns:
        As many distinct ids; an unproblematic one is unchanged.
    """
    taken: set[str] = set()
    ids: list[str] = []
    for utterance in utterances:
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", utterance)
        name, number = plain, 1
        while name.lower() in taken:
            number += 1
            name = f"{plain}_{number}"
        taken.add(name.lower())
        ids.append(name)
    return ids


def run_sclite(
    refs: Mapping[str, Sequence[str]], hyps: Mapping[str, Sequence[str]], directory: Path
) -> Counts:
    """Score tokens with sclite.

    Args:
        refs: reference tokens of each utterance.
        hyps: hypothesis tokens of the same utterances.
        directory: where `ref.trn`, `hyp.trn` and sclite's report `result.txt` are written.

    Returns:
        The counts of the whole set.

    Raises:
        FileNotFoundError: sclite is not installed.
        ValueError: the utterances differ, or sclite fails or reports another number of them.
    """
    program = find_sclite()
    if refs.keys() != hyps.keys():
        raise ValueError(f"{directory}: references and hypotheses have different utterances")
    directory.mkdir(parents=True, exist_ok=True)
    ids = trn_ids(list(refs))
    for name, texts in (("ref.trn", refs), ("hyp.trn", hyps)):
        with atomic_write(directory / name, "w") as file:
            for utterance, trn_id in zip(refs, ids, strict=True):
                file.write(f"{' '.join(texts[utterance])} ({trn_id})\n".lstrip())
    # In the C locale sclite leaves the bytes of non-ASCII letters alone.
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        [program, *COMMAND], cwd=directory, env=environment, capture_output=True, check=False
    )
    with atomic_write(directory / "result.txt") as file:
        file.write(done.stdout)
    report = done.stdout.decode("utf-8", errors="replace")
    if done.returncode or not _SUM.search(report):
        message = done.stderr.decode("utf-8", errors="replace").strip()
        raise ValueError(f"{directory}: sclite failed ({done.returncode}): {message[-500:]}")
    counts = parse_report(report, str(directory / "result.txt"))
    if counts.n_utt != len(refs):
        raise ValueError(f"{directory}: sclite scored {counts.n_utt} of {len(refs)} utterances")
    return counts


def parse_report(report: str, where: str = "result.txt") -> Counts:
    """Read the counts from sclite's report (`-o all stdout`).

    The line "Sum" and the lines "Scores" of the utterances are two accounts of the same thing; both
    are read and must agree.

    Args:
        report: what sclite printed.
        where: the file's name, for messages.

    Returns:
        The counts of the whole set.

    Raises:
        ValueError: there is no such line, or they disagree.
    """
    found = _SUM.search(report)
    if not found:
        raise ValueError(f"{where}: no line '| Sum |'; not a report of sclite -o all stdout?")
    n_utt, n_ref, cor, sub, dele, ins, _, _ = map(int, found.groups())
    counts = Counts(n_utt, cor, sub, dele, ins)
    scores = [tuple(map(int, match.groups())) for match in _SCORES.finditer(report)]
    total = tuple(map(sum, zip(*scores, strict=True)))
    if scores and (len(scores), total) != (n_utt, (cor, sub, dele, ins)) or n_ref != counts.n_ref:
        raise ValueError(f"{where}: 'Sum' says {counts}, the utterances add up to {total}")
    return counts
