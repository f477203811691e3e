"""A test set as scoring sees it: references, their normalised words, and what is known of each."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from espnet_plugin.data.tables import read_table, some
from espnet_plugin.score.switching import check_tags
from espnet_plugin.text import normalize


@dataclass(frozen=True)
class TestSet:
    """References of a set, in the order of its files.

    Attributes:
        name: the set's name.
        raw: reference text as written, by utterance.
        langs: language by utterance, as the normaliser takes it.
        words: normalised reference words by utterance.
        tags: one tag for each normalised word by utterance; None where there are no tags.
        conditions: recording condition (`clean`, `noise`, ...) by utterance; None where unknown.
    """

    __test__ = False  # pytest: not a test

    name: str
    raw: Mapping[str, str]
    langs: Mapping[str, str]
    words: Mapping[str, list[str]] = field(repr=False)
    tags: Mapping[str, list[str]] | None = None
    conditions: Mapping[str, str] | None = None

    def normalize_hypotheses(self, hyps: Mapping[str, str]) -> dict[str, list[str]]:
        """Normalise hypotheses like the references.

        Args:
            hyps: text by utterance.

        Returns:
            Words by utterance, in the order of the references.

        Raises:
            ValueError: a hypothesis is missing, or one has no reference; names the utterances.
        """
        if missing := [utt for utt in self.raw if utt not in hyps]:
            raise ValueError(f"{self.name}: no hypothesis for {some(missing)}; decode it again")
        if extra := [utt for utt in hyps if utt not in self.raw]:
            raise ValueError(f"{self.name}: hypotheses without a reference: {some(extra)}")
        return {utt: normalize(hyps[utt], self.langs[utt]).words for utt in self.raw}


def make_test_set(
    name: str,
    raw: Mapping[str, str],
    langs: Mapping[str, str] | str,
    tags: Mapping[str, str] | None = None,
    conditions: Mapping[str, str] | None = None,
) -> TestSet:
    """Normalise references and check that everything fits together.

    Tags come from `tags`; where that is None, from the references' own markup, if all have some.

    Args:
        name: the set's name, for messages.
        raw: reference text by utterance.
        langs: language by utterance, or one for all.
        tags: tags joined by spaces, by utterance.
        conditions: recording condition by utterance.

    Raises:
        ValueError: an utterance without language, tags or condition; a number of tags that is not
            the number of normalised words; an unknown tag; no reference word in the whole set.
    """
    by_utt = {utt: langs for utt in raw} if isinstance(langs, str) else langs
    for kind, table in (("utt2lang", by_utt), ("utt2tags", tags), ("utt2cond", conditions)):
        if table is not None and (missing := [utt for utt in raw if utt not in table]):
            raise ValueError(f"{name}: {kind} lacks {some(missing)}")
    normalized = {utt: normalize(text, by_utt[utt]) for utt, text in raw.items()}
    words = {utt: result.words for utt, result in normalized.items()}
    if not any(words.values()):
        raise ValueError(f"{name}: {len(raw)} references without a single word: nothing to score")
    split: dict[str, list[str]] | None = None
    if tags is not None:
        split = {utt: tags[utt].split() for utt in raw}
        if unknown := [utt for utt in raw if words[utt] and not split[utt]]:
            found = f"{name}: utt2tags says nothing of {some(unknown)}; scored without tags"
            print(found, file=sys.stderr)
            split = None
    elif all(result.tags is not None for result in normalized.values()):
        split = {utt: result.tags or [] for utt, result in normalized.items()}
    for utt, utt_tags in (split or {}).items():
        check_tags(utt_tags, f"{name}: utt2tags: {utt}")
        if len(utt_tags) != len(words[utt]):
            raise ValueError(
                f"{name}: utt2tags: {utt} has {len(utt_tags)} tags for {len(words[utt])} "
                f"normalised words: {' '.join(words[utt])}"
            )
    return TestSet(name, raw, by_utt, words, split, conditions)


def read_test_set(directory: Path) -> TestSet:
    """Read a data directory: `text`, `utt2lang`, and `utt2tags`, `utt2cond` where they exist.

    Raises:
        FileNotFoundError: `text` or `utt2lang` is missing.
        ValueError: see `make_test_set`; a malformed file.
    """
    directory = Path(directory)
    tags, conditions = directory / "utt2tags", directory / "utt2cond"
    return make_test_set(
        directory.name,
        read_table(directory / "text"),
        read_table(directory / "utt2lang"),
        read_table(tags, allow_empty=True) if tags.is_file() else None,
        read_table(conditions) if conditions.is_file() else None,
    )
