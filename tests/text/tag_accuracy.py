"""Accuracy of the word-level language tagger on a gold file.

python -m tests.text.tag_accuracy tests/text/gold/dev.tsv --pair ms-en --errors

Prints token accuracy, over all words and by register, precision and recall of each tag, the table
of confusions, and how often the lines' languages agree. `--errors` is for dev.tsv: nobody looks at
the errors on test.tsv.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_plugin.cli import parser, run
from espnet_plugin.text.tags import Tagger

GOLD = Path(__file__).parent / "gold"


@dataclass(frozen=True)
class Sentence:
    """One gold sentence: its head line's values, words and tags."""

    head: dict[str, str]
    words: list[str]
    tags: list[str]


def read_gold(path: Path, known: Sequence[str]) -> list[Sentence]:
    """Read a gold file: a head line, `word<TAB>tag` lines and a blank line for each sentence.

    Args:
        path: the file.
        known: the tags that may occur.

    Raises:
        ValueError: a line is neither; the message names file and line.
    """
    sentences: list[Sentence] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("# "):
            head = dict(item.split("=", 1) for item in line[2:].split())
            sentences.append(Sentence(head, [], []))
        elif line:
            word, tab, tag = line.partition("\t")
            if not (word and tab and tag in known and sentences):
                raise ValueError(
                    f"{path}:{number}: {line!r}; a line is a word, a tab and one of "
                    f"{' '.join(known)}, after a head line"
                )
            sentences[-1].words.append(word)
            sentences[-1].tags.append(tag)
    if not sentences:
        raise ValueError(f"{path}: no sentence")
    return sentences


@dataclass
class Result:
    """Counts of (gold tag, tag), in all and by register, and agreement of the lines' languages."""

    pairs: Counter[tuple[str, str]]
    registers: dict[str, Counter[bool]]
    errors: list[str]
    lines: Counter[bool]

    @property
    def accuracy(self) -> float:
        """Share of the words with the right tag."""
        right = sum(count for (gold, found), count in self.pairs.items() if gold == found)
        return right / self.pairs.total()

    def report(self, tags: Sequence[str]) -> str:
        """Tables for people."""
        lines = [f"{self.pairs.total()} words, token accuracy {100 * self.accuracy:.2f} %"]
        lines.append(f"{self.lines.total()} lines, same language {_percent(self.lines)}")
        for register, counts in sorted(self.registers.items()):
            lines.append(f"  {register:14}{counts.total():6}{_percent(counts):>10}")
        lines.append(f"\n{'tag':8}{'words':>7}{'precision':>11}{'recall':>9}")
        for tag in tags:
            gold = sum(self.pairs[tag, other] for other in tags)
            found = sum(self.pairs[other, tag] for other in tags)
            shares = [f"{100 * self.pairs[tag, tag] / n:.1f}" if n else "-" for n in (found, gold)]
            lines.append(f"{tag:8}{gold:7}{shares[0]:>11}{shares[1]:>9}")
        lines.append("\ngold in rows, found in columns")
        lines.append(" " * 8 + "".join(f"{tag:>7}" for tag in tags))
        for tag in tags:
            lines.append(f"{tag:8}" + "".join(f"{self.pairs[tag, other]:7}" for other in tags))
        return "\n".join(lines)


def measure(tagger: Tagger, sentences: Sequence[Sentence]) -> Result:
    """Tag the sentences and count."""
    result = Result(Counter(), defaultdict(Counter), [], Counter())
    for sentence in sentences:
        tags = tagger.tag(sentence.words)
        result.pairs.update(zip(sentence.tags, tags, strict=True))
        for word, gold, found in zip(sentence.words, sentence.tags, tags, strict=True):
            result.registers[sentence.head["register"]][gold == found] += 1
            if gold != found:
                text = " ".join(sentence.words)
                result.errors.append(f"{sentence.head['id']}: {word}: {gold}, not {found}: {text}")
        languages = [_language(tagger, each) for each in (sentence.tags, tags)]
        result.lines[languages[0] == languages[1]] += 1
    return result


def _language(tagger: Tagger, tags: Sequence[str]) -> str:
    return tagger.line_language(np.array([tagger.tags.index(tag) for tag in tags], np.uint8))


def _percent(counts: Counter[bool]) -> str:
    return f"{100 * counts[True] / counts.total():.2f} %"


def main() -> None:
    """Measure one file."""
    options = parser(__doc__)
    options.add_argument("gold", nargs="?", type=Path, default=GOLD / "dev.tsv", help="gold file")
    options.add_argument("--pair", default="ms-en", help="language pair or its YAML file")
    options.add_argument("--errors", action="store_true", help="list the errors")
    args = options.parse_args()
    tagger = Tagger.load(args.pair)
    result = measure(tagger, read_gold(args.gold, tagger.tags))
    print(result.report(tagger.tags))
    if args.errors:
        print("\n" + "\n".join(result.errors))


if __name__ == "__main__":
    run(main)
