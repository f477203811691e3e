"""Proofs that the demo's tests are not in its training, and the table of its sets."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from espnet_plugin.corpora.markup import Sentence
from espnet_plugin.corpora.speakers import VARIANTS, speakers
from espnet_plugin.corpora.text_lines import key_of, read_lines, sentence_key
from espnet_plugin.data import read_table
from espnet_plugin.text import normalize

NEAR = 0.8  # of the words in common: nearly the same sentence


class HasSplit(Protocol):
    """Anything that says whose voices a set has."""

    @property
    def split(self) -> str:
        """``train``, ``valid`` or ``test``."""
        ...


def is_training(name: str) -> bool:
    """Tell training sets (``train_*`` and ``text``) from those that are only looked at."""
    return name.startswith("train") or name == "text"


def check_sentences(sets: Mapping[str, Sequence[Sentence]]) -> None:
    """Make sure that no test or validation sentence is trained on, and no test one validated on.

    Args:
        sets: Sentences by set.

    Raises:
        ValueError: A leak; up to five are named with both places.
    """
    roles = {
        name: 0 if is_training(name) else 1 if name.startswith("valid") else 2 for name in sets
    }
    places: dict[str, tuple[int, str]] = {}
    leaks = []
    for name in sorted(sets, key=roles.__getitem__):
        for sentence in sets[name]:
            first = places.setdefault(sentence_key(sentence.text), (roles[name], sentence.where))
            if first[0] < roles[name]:
                leaks.append(f"{sentence.where} ({name}) is also {first[1]}: {sentence.text!r}")
    _raise_leaks(leaks)


def check_corpus(datadir: Path, specs: Mapping[str, HasSplit], seconds: Mapping[str, float]) -> str:
    """Check the finished files for leaks, and describe the sets.

    Args:
        datadir: The finished corpus.
        specs: The speech sets.
        seconds: Duration of each utterance.

    Returns:
        A table, and the outcome of the checks.

    Raises:
        ValueError: A test sentence in a training text, or a test voice in training.
    """
    texts = {name: read_table(datadir / name / "text") for name in specs}
    langs = {name: read_table(datadir / name / "utt2lang") for name in specs}
    voices = {name: read_table(datadir / name / "utt2spk") for name in specs}
    written = read_lines(datadir / "text" / "train.jsonl")
    mixed = {key_of(line.sentence): "text/train.jsonl" for line in written}
    trained = dict(mixed)
    for name in specs:
        if is_training(name):
            trained |= {sentence_key(text): utterance for utterance, text in texts[name].items()}
    tests = {
        u: text for name in specs if name.startswith("test") for u, text in texts[name].items()
    }
    _raise_leaks(
        f"{utterance} is also {trained[key]}: {text!r}"
        for utterance, text in tests.items()
        if (key := sentence_key(text)) in trained
    )
    check_voices({name: set(voices[name].values()) for name in specs})
    lines = [f"{'set':<15} {'utts':>5} {'minutes':>8} {'speakers':>8} {'words':>6} {'s/utt':>6}"]
    for name, table in texts.items():
        total = sum(seconds[utterance] for utterance in table)
        words = sum(len(normalize(text, langs[name][u]).words) for u, text in table.items())
        lines.append(
            f"{name:<15} {len(table):>5} {total / 60:>8.1f} {len(set(voices[name].values())):>8} "
            f"{words:>6} {total / len(table):>6.2f}"
        )
    near = count_near(tests.values(), trained)
    lines.append(
        f"leaks: none ({len(tests)} test sentences, {len(trained)} training lines, no shared voice)"
    )
    lines.append(
        f"test sentences with {NEAR:.0%} of their words in common with a training sentence: {near}"
    )
    lines.append(_text_only(texts, mixed))
    return "\n".join(lines)


def check_voices(cast: Mapping[str, Collection[str]]) -> None:
    """Make sure that test and validation speakers, and their variants, are in no training set.

    Args:
        cast: Speaker ids by set.

    Raises:
        ValueError: A shared voice, named.
    """
    variant = {s.name: s.variant for split in VARIANTS for s in speakers(split)}
    trained = {
        variant[name] for group, names in cast.items() if is_training(group) for name in names
    }
    for group, names in cast.items():
        if not is_training(group) and (shared := {variant[name] for name in names} & trained):
            raise ValueError(f"{group}: voices of training: {' '.join(sorted(shared))}")


def count_near(tests: Iterable[str], training: Iterable[str]) -> int:
    """Count sentences that share 80 % of their words (intersection over union) with training."""
    bags = [frozenset(text.split()) for text in training]
    by_word: dict[str, set[int]] = {}
    for number, bag in enumerate(bags):
        for word in bag:
            by_word.setdefault(word, set()).add(number)
    count = 0
    for text in tests:
        words = frozenset(sentence_key(text).split())
        candidates = set().union(*(by_word.get(word, set()) for word in words))
        count += any(len(words & bags[n]) >= NEAR * len(words | bags[n]) for n in candidates)
    return count


def _text_only(texts: Mapping[str, Mapping[str, str]], mixed: Iterable[str]) -> str:
    """Say how many of test_cs's words occur in the text-only lines and in no paired utterance."""
    paired = {
        word for text in texts["train_paired"].values() for word in sentence_key(text).split()
    }
    written = {word for key in mixed for word in key.split()}
    said = [word for text in texts["test_cs"].values() for word in sentence_key(text).split()]
    only = sum(word in written and word not in paired for word in said)
    neither = sum(word not in written and word not in paired for word in said)
    return (
        f"words of test_cs: {len(said)}; {only} ({only / len(said):.1%}) in text only, "
        f"{neither} ({neither / len(said):.1%}) in no training text"
    )


def _raise_leaks(leaks: Iterable[str]) -> None:
    found = list(leaks)
    if found:
        shown = "\n".join(found[:5]) + ("\n..." if len(found) > 5 else "")
        raise ValueError(
            f"{len(found)} test or validation sentences are in the training text:\n{shown}"
        )
