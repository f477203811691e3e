"""What happens to text on its way to a token store; conf/text_corpus.yaml says it as YAML."""

import dataclasses
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.cli import nearest


@dataclass(frozen=True)
class CorpusConfig:
    """Choices of corpus preparation. Every limit drops lines under a reason of the report.

    The defaults drop what cannot be trained on, lines in no language of `lang_tokens`, and
    repeated lines; everything else is a limit that has to be set.
    """

    field: str = "text"
    """Field, or column, that holds the text in `.jsonl`, `.csv`, `.tsv` and `.parquet`."""
    lang_field: str = "lang"
    """Field that holds the line's language, where there is one."""
    source_field: str | None = None
    """Field that holds the line's source; null: the name of its file is its source."""
    strict: bool = False
    """Fail at the first line that cannot be read, instead of dropping and counting it."""
    block_bytes: int = 4 << 20
    """Text that a worker takes at a time, in bytes; part of what decides the shards."""
    max_line_bytes: int = 1 << 20
    """Longer lines, in bytes, are dropped (`line_too_long`)."""

    clean: tuple[str, ...] | None = None
    """Cleaning steps by name; null: all of them (`espnet_plugin.text.clean.DEFAULT`)."""

    pair: str | None = "ms-en"
    """Languages of the words' tags: a pair that is shipped, or a YAML of one's own. null: no tags,
    hence no limits on CMI, no language from tags and no statistics of switching."""
    line_language: str = "given"
    """`given`: the input's own, else `--lang`, else from its tags; `tags`: always from its tags."""
    text_style: str = "as_is"
    """Casing and punctuation: `as_is`, or `spoken` (normalised as for scoring)."""

    min_words: int = 1
    """Fewest words of a line (`too_few_words`)."""
    max_words: int | None = None
    """Most words of a line (`too_many_words`)."""
    max_tokens: int | None = None
    """Most Whisper tokens of a line (`too_many_tokens`); null: all that 448 positions hold beside
    prompt and end."""
    scripts: tuple[str, ...] = ()
    """Scripts by their Unicode names, such as `Latin` or `Han`; empty: any."""
    min_script_share: float = 0.5
    """Share of a line's letters that must be in `scripts` (`script`)."""
    languages: tuple[str, ...] | None = None
    """Languages of lines to keep (`language`); null: those of `lang_tokens`, where a language that
    the input itself gives must be one of them."""
    min_cmi: float = 0.0
    """Least code-mixing index (0..100) of a code-switched line, one of language `cs`; other lines
    are a matter of `languages` (`cmi_low`)."""
    max_cmi: float = 100.0
    """Largest code-mixing index of a code-switched line (`cmi_high`)."""

    exact_duplicates: bool = True
    """Drop lines that equal an earlier one but for case, punctuation and spaces (`duplicate`)."""
    near_duplicates: bool = False
    """Drop lines that nearly equal an earlier one, by MinHash (`near_duplicate`); slow."""
    near_threshold: float = 0.8
    """Jaccard similarity of their character 5-grams from which lines are near-duplicates."""
    max_lines_per_source: int | None = None
    """Most lines of one source, a sample by hash (`source_cap`)."""

    valid_share: float = 0.001
    """Share of the lines, chosen by their hash, that go to `--valid_output` where that is given."""
    salt: str = ""
    """Another text here holds out other lines."""
    shard_lines: int = 1 << 20
    """Lines from which a shard of the store is full."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: Naming the field, what it is and what is allowed.
        """
        from espnet_plugin.prompt import TEXT_STYLES

        _one_of(self, "line_language", ("given", "tags"))
        _one_of(self, "text_style", TEXT_STYLES)
        for name in ("block_bytes", "max_line_bytes", "shard_lines"):
            _within(self, name, 1, None)
        for name in ("max_words", "max_tokens", "max_lines_per_source"):
            _within(self, name, 1, None)
        _within(self, "min_words", 0, self.max_words)
        _within(self, "min_script_share", 0, 1)
        _within(self, "max_cmi", 0, 100)
        _within(self, "min_cmi", 0, self.max_cmi)
        for name in ("valid_share", "near_threshold"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name}: {getattr(self, name)}; it lies between 0 and 1")
        if self.languages is not None and not self.languages:
            raise ValueError("languages: empty, nothing would be kept; null keeps all")
        if self.pair is None and (self.min_cmi > 0 or self.max_cmi < 100):
            raise ValueError("min_cmi and max_cmi need the words' tags: set pair")
        if self.pair is None and self.line_language == "tags":
            raise ValueError("line_language: tags needs the words' tags: set pair")


def _one_of(config: CorpusConfig, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in allowed:
        raise ValueError(f"{name}: '{value}'{nearest(value, allowed)}; {' or '.join(allowed)}")


def _within(config: CorpusConfig, name: str, low: float, high: float | None) -> None:
    value = getattr(config, name)
    if value is not None and not (low <= value and (high is None or value <= high)):
        limit = f"at least {low}" if high is None else f"from {low} to {high}"
        raise ValueError(f"{name}: {value}; it is {limit}")


def read_settings[T](kind: type[T], path: str | Path | None, **given: Any) -> T:
    """Read a dataclass of settings from YAML, unknown names and wrong types refused.

    Args:
        kind: The dataclass; its defaults hold where the file says nothing.
        path: A YAML mapping; None for the defaults.
        **given: Values that win over the file's; None is as good as absent.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: Naming the file, the field, what was found and what is allowed.
    """
    values: Any = {}
    if path is not None:
        try:
            values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    where = f"{path}: " if path is not None else ""
    if not isinstance(values, dict):
        raise ValueError(f"{where}a mapping 'name: value' is expected, found {values!r:.60}")
    hints = typing.get_type_hints(kind)
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    checked = {}
    for name, value in (values | {k: v for k, v in given.items() if v is not None}).items():
        if name not in known:
            hint = nearest(str(name), known)
            raise ValueError(f"{where}unknown setting '{name}'{hint}; there are {', '.join(known)}")
        checked[name] = _convert(value, hints[name], f"{where}{name}")
    try:
        return kind(**checked)
    except ValueError as error:
        raise ValueError(f"{where}{error}") from None


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Check a value against a field's type: `str`, `int`, `float`, `bool`, tuples of `str`."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for option in options:
        if option is type(None):
            if value is None:
                return None
        elif typing.get_origin(option) is tuple:
            if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
                return tuple(value)
        elif isinstance(value, bool) or option is bool:
            if option is bool and isinstance(value, bool):
                return value
        elif option is float and isinstance(value, int | float):
            return float(value)
        elif isinstance(value, option):
            return value
    names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    allowed = [names.get(o, "null" if o is type(None) else "a list of texts") for o in options]
    raise ValueError(f"{where}: found {value!r:.60}, allowed is {' or '.join(allowed)}")
