"""A language pair's configuration: what `espnet_plugin/text/pairs/*.yaml` may hold.

Everything that a pair needs to know beyond the tagger's method stands in one YAML file: where each
language's word frequencies and word list come from, how its words are built, and short hand-made
lists for what no lexicon has (chat spellings, names, loans from third languages). Lists of words
may be written as YAML lists or as one block of text with spaces. Unknown keys are errors.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import regex
import yaml

from espnet_plugin.cli import nearest

FOLDER = Path(__file__).parent.parent / "pairs"
KINDS = ("other", "num", "name", "shared")

Words = frozenset[str]


@dataclass(frozen=True)
class Language:
    """One language of a pair."""

    code: str
    """The tag of its words."""
    frequencies: Mapping[str, float] = field(default_factory=dict)
    """wordfreq's word list -> weight. A related language's list (Indonesian for Malay) fills gaps
    at a smaller weight; the highest weighted frequency of a word counts."""
    lexicons: tuple[str, ...] = ()
    """simplemma's dictionaries: cleaner than frequency lists, which hold words of every language
    that is quoted in it."""
    related_lexicons: tuple[str, ...] = ()
    """simplemma's dictionaries of related languages: they count where the other language of the
    pair has no such word (Indonesian news quotes English)."""
    identifier: tuple[str, ...] = ()
    """lingua's languages that speak for this one, e.g. MALAY."""
    words: Words = frozenset()
    """Words that the lists lack or mistake: chat spellings, acronyms, particles."""
    reduplicates: bool = False
    """Whether `2` after a word, or a hyphen between two equal ones, repeats it."""
    prefixes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Prefix -> letters that it may have replaced (`meny` -> `s`: menyapu, sapu)."""
    suffixes: tuple[str, ...] = ()
    """Endings that make a word of this language, the longest first."""
    clitics: tuple[str, ...] = ()
    """Endings that may follow any suffix."""
    loan_prefixes: tuple[str, ...] = ()
    """Prefixes that words of the other language take too (`dicancel`, `di-upload`); the word then
    belongs to this language."""
    loan_suffixes: tuple[str, ...] = ()
    """Likewise, besides the clitics (`submitkan`, `laptopnya`)."""


@dataclass(frozen=True)
class Pair:
    """Two languages written in one script, and what else occurs in such text."""

    name: str
    languages: tuple[Language, Language]
    script: str = "Latin"
    """Unicode script that both languages are written in."""
    scripts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tag -> other Unicode scripts whose words it takes; words of any further script are
    `other`."""
    words: Mapping[str, Words] = field(default_factory=dict)
    """Tag -> words that have it wherever they stand: `other name shared`, a script's tag."""
    together: Mapping[str, Words] = field(default_factory=dict)
    """Tag -> words that have it only beside another word of the tag (`mid valley`)."""
    homographs: Words = frozenset()
    """Spelt alike in both languages and unrelated (`air`, `main`): only context tells them."""
    first_names: Words = frozenset()
    """Names that are words too (`indah`, `grace`): names where context says so."""
    titles: Words = frozenset()
    """Words before a name (`encik`, `abang`)."""
    links: Words = frozenset()
    """Words inside a name (`bin`, `binti`)."""
    heads: Words = frozenset()
    """Common nouns that stay words beside a name (`universiti`)."""
    patterns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Tag -> regular expressions for whole lower-case words."""
    cognate_ratio: float = 0.1
    """A word in both languages' dictionaries is shared where the smaller frequency is at least this
    share of the larger one; 0 turns the rule off."""

    @property
    def tags(self) -> tuple[str, ...]:
        """Every tag: the two languages, other scripts' languages, then `other num name shared`."""
        codes = tuple(language.code for language in self.languages)
        return (*codes, *(tag for tag in self.scripts if tag not in codes), *KINDS)

    def digest(self) -> str:
        """sha256 of the whole configuration, whatever the order of its lists."""
        plain = json.dumps(asdict(self), sort_keys=True, default=sorted)
        return hashlib.sha256(plain.encode()).hexdigest()


def available() -> list[str]:
    """Names of the pairs that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_pair(pair: str | Path) -> Pair:
    """Read a pair's configuration.

    Args:
        pair: the name of a pair that ships with the package (`ms-en`), or a YAML file.

    Returns:
        The configuration.

    Raises:
        FileNotFoundError: neither a known name nor a file.
        ValueError: the file is no valid configuration; the message names the file and the key.
    """
    path = FOLDER / f"{pair}.yaml"
    if not path.is_file():
        path = Path(pair)
    if not path.is_file():
        raise FileNotFoundError(
            f"language pair {str(pair)!r}{nearest(str(pair), available())}: neither a file nor one "
            f"of {' '.join(available())}"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not YAML: {error}") from error
    return parse_pair(content, path.stem, str(path))


def parse_pair(content: Any, name: str, where: str) -> Pair:
    """Check a pair's configuration and fill in its defaults.

    Args:
        content: what the YAML file holds.
        name: name of the pair.
        where: the file, for messages.

    Returns:
        The configuration.

    Raises:
        ValueError: a wrong or missing key or value.
    """
    values = _checked(content, Pair, {"name"}, where)
    languages = _mapping(values.pop("languages", None), f"{where}: languages")
    if len(languages) != 2:
        found = " ".join(map(str, languages)) or "none"
        raise ValueError(f"{where}: languages are {found}; there must be two")
    pair = Pair(
        name=name,
        languages=(*(_language(code, value, where) for code, value in languages.items()),),  # type: ignore[arg-type]
        script=str(values.pop("script", "Latin")),
        scripts=_tuples(values.pop("scripts", {}), f"{where}: scripts"),
        words=_tagged(values.pop("words", {}), f"{where}: words"),
        together=_tagged(values.pop("together", {}), f"{where}: together"),
        patterns=_tuples(values.pop("patterns", {}), f"{where}: patterns", split=False),
        cognate_ratio=_number(values.pop("cognate_ratio", 0.1), f"{where}: cognate_ratio"),
        **{key: _words(value, f"{where}: {key}") for key, value in values.items()},
    )
    listed: dict[str, Iterable[str]] = {
        "words": pair.words,
        "together": pair.together,
        "patterns": pair.patterns,
    }
    for key, given in listed.items():
        for tag in given:
            if tag not in pair.tags:
                raise ValueError(
                    f"{where}: {key}: tag {tag!r}{nearest(tag, pair.tags)}; allowed are "
                    f"{' '.join(pair.tags)}"
                )
    _compiles(pair, where)
    return pair


def _language(code: Any, value: Any, where: str) -> Language:
    where = f"{where}: languages: {code}"
    values = _checked(value, Language, {"code"}, where)
    return Language(
        code=str(code),
        frequencies={
            str(key): _number(weight, f"{where}: frequencies: {key}")
            for key, weight in _mapping(
                values.get("frequencies", {}), f"{where}: frequencies"
            ).items()
        },
        words=_words(values.get("words", ()), f"{where}: words"),
        reduplicates=values.get("reduplicates", False) is True,
        prefixes=_tuples(values.get("prefixes", {}), f"{where}: prefixes"),
        **{
            key: _list(values.get(key, ()), f"{where}: {key}")
            for key in (
                *("lexicons", "related_lexicons", "identifier"),
                *("suffixes", "clitics", "loan_prefixes", "loan_suffixes"),
            )
        },
    )


def _checked(content: Any, kind: type, implied: set[str], where: str) -> dict[str, Any]:
    values = _mapping(content, where)
    known = {entry.name for entry in fields(kind)} - implied
    for key in values:
        if key not in known:
            raise ValueError(
                f"{where}: unknown key {key!r}{nearest(str(key), known)}; allowed are "
                f"{' '.join(sorted(known))}"
            )
    return dict(values)


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: expected a mapping, found {value!r}")
    return value


def _list(value: Any, where: str, split: bool = True) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) and split:
        return tuple(value.split())
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ValueError(f"{where}: expected a list, found {value!r}")
    for item in value:
        if not isinstance(item, str):  # YAML reads an unquoted no, on, y as a truth value
            raise ValueError(f"{where}: {item!r} is not a string; put it in quotes")
    return tuple(value)


def _words(value: Any, where: str) -> Words:
    lines = _list(value, where)
    return frozenset(word for line in lines for word in line.split())


def _tagged(value: Any, where: str) -> dict[str, Words]:
    items = _mapping(value, where).items()
    return {str(tag): _words(words, f"{where}: {tag}") for tag, words in items}


def _tuples(value: Any, where: str, split: bool = True) -> dict[str, tuple[str, ...]]:
    return {
        str(key): _list(item, f"{where}: {key}", split)
        for key, item in _mapping(value, where).items()
    }


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{where}: expected a number from 0 to 1, found {value!r}")
    return float(value)


def _compiles(pair: Pair, where: str) -> None:
    """Scripts and patterns must be what the regex module knows."""
    checks = [("script", rf"\p{{Script={pair.script}}}")]
    checks += [
        (tag, rf"\p{{Script={name}}}") for tag, all_ in pair.scripts.items() for name in all_
    ]
    checks += [(tag, pattern) for tag, patterns in pair.patterns.items() for pattern in patterns]
    for tag, pattern in checks:
        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"{where}: {tag}: {pattern!r}: {error}") from error
