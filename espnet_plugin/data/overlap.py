"""What training sets share with sets that are validated or tested on: speakers, sentences, audio.

Preparing a corpus keeps its own sets apart; those of several corpora, or own directories, meet here
for the first time. Sharing is said, not refused: a test set may be meant so.
"""

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.data.datadir import CHECKSUMS
from espnet_plugin.data.tables import read_table
from espnet_plugin.text.dedup import normal_forms

REPORT = "overlap.md"
HEAD = """\
What sets to train on share with sets to validate or test on. A sentence is the same whatever its
case and punctuation. An error rate on what was trained on says little about other recordings.

"""
NAMED = 3  # speakers or utterances that a line names


@dataclass(frozen=True)
class Known:
    """A set's speakers, sentences and audio, each with its utterances or none."""

    speakers: dict[str, str]
    sentences: dict[str, bytes]
    audio: dict[str, tuple[str, str]]

    @classmethod
    def of(cls, path: Path) -> "Known":
        """Read a formatted set."""
        text = read_table(path / "text", allow_empty=True)
        forms = dict(zip(text, normal_forms(list(text.values())), strict=True))
        audio = {}
        if (path / CHECKSUMS).is_file():
            sums, counts = read_table(path / CHECKSUMS), read_table(path / "utt2num_samples")
            audio = {utt: (sums[utt], counts[utt]) for utt in sums}
        sentences = {utt: form for utt, form in forms.items() if form}
        return cls(read_table(path / "utt2spk"), sentences, audio)


def shared(training: Known, held_out: Known) -> str:
    """Say what two sets share; empty where that is nothing."""
    found = []
    speakers = set(training.speakers.values()) & set(held_out.speakers.values())
    if speakers:
        total = len(set(held_out.speakers.values()))
        found.append(f"{len(speakers)} of {total} speakers ({_first(speakers)})")
    for what, own, others in zip(
        ("sentences", "audio"), astuple(held_out)[1:], astuple(training)[1:], strict=True
    ):
        known = set(others.values())
        if same := [utt for utt, value in own.items() if value in known]:
            count = f"{what} of {len(same)} of {len(held_out.speakers)} utterances"
            found.append(f"{count} ({_first(same)})")
    return ", ".join(found)


def _first(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:NAMED]) + (", ..." if len(names) > NAMED else "")


def write_overlaps(dumpdir: str | Path, training: Sequence[str], held_out: Sequence[str]) -> str:
    """Compare formatted sets, and write what was found to ``overlap.md``.

    Args:
        dumpdir: ``dump/raw``.
        training: Sets to train on.
        held_out: Sets to validate or test on; those that are not formatted are passed over.

    Returns:
        What was found, a line for each pair of sets.
    """
    root = Path(dumpdir)
    there = [name for name in dict.fromkeys(held_out) if (root / name / "wav.scp").is_file()]
    sets = {name: Known.of(root / name) for name in (*training, *there)}
    lines = [
        f"WARNING: {mine} and {other} share {found}"
        for mine in dict.fromkeys(training)
        for other in there
        if mine != other and (found := shared(sets[mine], sets[other]))
    ]
    with atomic_write(root / REPORT, "w") as file:
        text = "".join(f"- {line.removeprefix('WARNING: ')}\n" for line in lines)
        file.write(HEAD + (text or f"Nothing: {' '.join(training)}; {' '.join(there)}.\n"))
    return "\n".join(lines)
