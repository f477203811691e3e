"""Where a line may not switch: what stays together in each language.

One YAML file a pair, `switch_text_<pair>.yaml` beside this file or one of the user's own; lists may
be written as lists or as blocks of text with spaces. A replaced phrase is refused under these names
(the report counts them):

| reason | what it keeps out |
| --- | --- |
| `word order differs` | `kereta [red]`: see `switch_text_phrases` |
| `inside a name or number` | a switch between two words of a name, or of a number |
| `no word of the other language` | a phrase of names, numbers, cognates alone |
| `same words` | a phrase that both languages say alike |
| `function word alone` | `rumah [of] kawan` |
| `ends before its phrase ends` | `[went to the] kedai`: the last word is an opener |
| `starts with an ending` | `saya makan [too] tadi`; `she eats [pun]` |
| `determiner left behind` | `the [kedai]`: English does not say so, Malay has no article |
| `clitic left behind` | `[house] nya` |
| `word said twice` | `di [di pasar]`, at either end |
| `meaning said twice` | `doktor [doctor]`, where a word was linked to something else |

A switch is never inside a word, so affixes and attached clitics (`bukunya`, `di-upload`) stay with
their stem, and never inside a pair of phrases that translate each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.cli import nearest

KINDS = ("name", "num")  # tags whose neighbours of the same tag belong together


@dataclass(frozen=True)
class Rules:
    """The small words of one language."""

    determiners: frozenset[str] = frozenset()
    """Go with the next word: taken along when its phrase is, and never before another language."""
    openers: frozenset[str] = frozenset()
    """Open a phrase, so none ends with one: prepositions, conjunctions, negation, auxiliaries."""
    closers: frozenset[str] = frozenset()
    """Belong to what is before them, so no embedded phrase begins with one."""
    enclitics: frozenset[str] = frozenset()
    """Lean on the word before them, which must be of their own language."""
    function: frozenset[str] = frozenset()
    """Further function words; a phrase of function words alone is not exchanged."""

    small: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        lists = (self.determiners, self.openers, self.closers, self.enclitics, self.function)
        object.__setattr__(self, "small", frozenset().union(*lists))  # all of them


def read_rules(path: str | Path | None, languages: Sequence[str]) -> tuple[Rules, Rules]:
    """Read the rules of a pair.

    Args:
        path: A YAML file; None for the one that ships with the package.
        languages: The pair's two languages.

    Raises:
        FileNotFoundError: No such file, or none ships for this pair.
        ValueError: Unknown languages or lists, or lists that are none.
    """
    if path is None:
        path = Path(__file__).with_name(f"switch_text_{'-'.join(languages)}.yaml")
        if not path.is_file():
            raise FileNotFoundError(
                f"no rules of switching ship for {'-'.join(languages)}: write a YAML file as "
                "switch_text_ms-en.yaml and give --rules FILE"
            )
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(value, dict) or set(value) != set(languages):
        found = " ".join(map(str, value)) if isinstance(value, dict) else "no mapping"
        raise ValueError(f"{path}: the languages {' '.join(languages)} are needed, found {found}")
    return _rules(value[languages[0]], f"{path}: {languages[0]}"), _rules(
        value[languages[1]], f"{path}: {languages[1]}"
    )


def _rules(value: Any, where: str) -> Rules:
    names = [entry.name for entry in fields(Rules) if entry.init]
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: lists of words by name are needed: {', '.join(names)}")
    lists = {}
    for name, words in value.items():
        if name not in names:
            raise ValueError(
                f"{where}: unknown list '{name}'{nearest(str(name), names)}; there are "
                f"{', '.join(names)}"
            )
        parts = [words] if isinstance(words, str) else words
        if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
            raise ValueError(f"{where}: {name}: a list of words is needed, found {words!r:.60}")
        lists[name] = frozenset(word for part in parts for word in part.split())
    return Rules(**lists)


@dataclass(frozen=True, slots=True)
class Side:
    """A sentence in one language, as words.

    Attributes:
        text: As written.
        words: Its words, lower case.
        starts: First character of each word in `text`.
        ends: One past the last.
        tags: The tagger's tag of each word.
        joined: Whether only white space stands between a word and the next; one less than words.
        language: 0 or 1, of the pair.
    """

    text: str
    words: Sequence[str]
    starts: Sequence[int]
    ends: Sequence[int]
    tags: Sequence[str]
    joined: Sequence[bool]
    language: int

    def torn(self, first: int, last: int) -> bool:
        """Tell whether taking the words `first` to `last` out would tear a name or number."""
        tags = self.tags
        return (first > 0 and tags[first] in KINDS and tags[first - 1] == tags[first]) or (
            last + 1 < len(tags) and tags[last] in KINDS and tags[last + 1] == tags[last]
        )


def refusal(
    matrix: Side,
    first: int,
    last: int,
    words: Sequence[str],
    tags: Sequence[str],
    rules: tuple[Rules, Rules],
    codes: Sequence[str],
) -> str:
    """Say why a phrase may not take the place of a sentence's words.

    Args:
        matrix: The sentence.
        first: Its first word that is replaced.
        last: Its last.
        words: The phrase in the other language, lower case.
        tags: Its tags.
        rules: Of both languages.
        codes: The two languages.

    Returns:
        One of the reasons above, or an empty string.
    """
    own, other = rules[matrix.language], rules[1 - matrix.language]
    here = matrix.words
    if matrix.torn(first, last):
        return "inside a name or number"
    if codes[1 - matrix.language] not in tags:
        return "no word of the other language"
    if list(words) == list(here[first : last + 1]):
        return "same words"
    if all(word in other.small for word in words):
        return "function word alone"
    if words[-1] in other.openers or words[-1] in other.determiners:
        return "ends before its phrase ends"
    if words[0] in other.closers or words[0] in other.enclitics:
        return "starts with an ending"
    before = here[first - 1] if first and matrix.joined[first - 1] else ""
    after = here[last + 1] if last + 1 < len(here) and matrix.joined[last] else ""
    if before in own.determiners:
        return "determiner left behind"
    if after in own.enclitics:
        return "clitic left behind"
    if before == words[0] or after == words[-1]:
        return "word said twice"
    return ""
