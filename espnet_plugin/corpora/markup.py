"""Hand-written sentences: tab-separated files in which brackets mark the English stretches.

A line is ``topic<TAB>lang<TAB>sentence``. In a code-switched (``cs``) sentence the English
stretches stand in square brackets and the rest is Malay: ``Jom [lunch], saya dah [super hungry]
ni.`` Sentences in one language have no brackets. Empty lines and those that start with ``#`` are
skipped.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LANGUAGES = ("cs", "ms", "en", "es")
MATRIX, EMBEDDED = "ms", "en"  # of a code-switched sentence: outside and inside the brackets


@dataclass(frozen=True)
class Segment:
    """A stretch of a sentence in one language; the segments of a sentence join to its text."""

    text: str
    lang: str


@dataclass(frozen=True)
class Sentence:
    """A sentence, its language and topic, and where it was read (``file:line``)."""

    segments: tuple[Segment, ...]
    lang: str
    topic: str
    where: str

    @property
    def text(self) -> str:
        """The sentence as written, without markup."""
        return "".join(segment.text for segment in self.segments)

    @property
    def markup(self) -> str:
        """The sentence with its brackets."""
        return to_markup(self.segments) if self.lang == "cs" else self.text


def parse_markup(text: str, lang: str, where: str) -> tuple[Segment, ...]:
    """Split a sentence at its brackets.

    Args:
        text: The sentence, e.g. ``"Jom [lunch], cepat."``
        lang: Its language; only ``cs`` has brackets.
        where: ``file:line``, for error messages.

    Returns:
        Non-empty segments, neighbours in different languages.

    Raises:
        ValueError: Unknown language, or brackets that are unbalanced, nested, empty, glued to a
            word, or not to be expected in this language.
    """
    if lang not in LANGUAGES:
        raise ValueError(f"{where}: language {lang!r}, but it must be one of {' '.join(LANGUAGES)}")
    if lang != "cs":
        if "[" in text or "]" in text:
            raise ValueError(
                f"{where}: brackets in a sentence marked {lang}; only cs has them: {text!r}"
            )
        if not re.search(r"\w", text):
            raise ValueError(f"{where}: no word in {text!r}")
        return (Segment(text, lang),)
    segments: list[Segment] = []
    inside = False
    for piece in re.split(r"([\[\]])", text):
        if piece in ("[", "]"):
            if inside == (piece == "["):
                what = "'[' inside brackets" if inside else "']' without '['"
                raise ValueError(f"{where}: unbalanced brackets, {what}: {text!r}")
            inside = not inside
        elif inside and not re.search(r"\w", piece):
            raise ValueError(f"{where}: no word inside the brackets: {text!r}")
        elif piece:
            segments.append(Segment(piece, EMBEDDED if inside else MATRIX))
    if inside:
        raise ValueError(f"{where}: unbalanced brackets, '[' without ']': {text!r}")
    if glued := re.search(r"\w\[|\]\w|\]\[", text):
        raise ValueError(f"{where}: put a space or a hyphen at {glued.group()!r}: {text!r}")
    spoken = {segment.lang for segment in segments if re.search(r"\w", segment.text)}
    if spoken != {MATRIX, EMBEDDED}:
        found = " ".join(sorted(spoken)) or "no word"
        raise ValueError(
            f"{where}: a cs sentence has words inside and outside brackets, found {found}: {text!r}"
        )
    return tuple(segments)


def to_markup(segments: Sequence[Segment]) -> str:
    """Write segments with brackets round the English ones; the inverse of ``parse_markup``."""
    return "".join(f"[{s.text}]" if s.lang == EMBEDDED else s.text for s in segments)


def merge_neighbours(segments: Sequence[Segment]) -> tuple[Segment, ...]:
    """Join neighbouring segments of one language, and drop empty ones."""
    groups = itertools.groupby((s for s in segments if s.text), key=lambda s: s.lang)
    return tuple(Segment("".join(s.text for s in group), lang) for lang, group in groups)


def language_of(segments: Sequence[Segment]) -> str:
    """Name a sentence's language by its segments with words: ``cs`` where there are several."""
    spoken = sorted({segment.lang for segment in segments if re.search(r"\w", segment.text)})
    return spoken[0] if len(spoken) == 1 else "cs"


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Read a tab-separated UTF-8 file.

    Args:
        path: The file.
        columns: What each line must have.

    Yields:
        ``file:line`` and the line's fields, stripped.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not UTF-8, or a line with another number of fields or an empty one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; expected lines of {'<TAB>'.join(columns)}")
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text: {error}") from None
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != len(columns) or not all(fields):
            expected = "<TAB>".join(columns)
            raise ValueError(
                f"{path}:{number}: expected {expected}, found {len(fields)} fields: {line!r}"
            )
        yield f"{path}:{number}", fields


def read_sentences(path: str | Path) -> list[Sentence]:
    """Read a file of sentences (``topic<TAB>lang<TAB>sentence``).

    Raises:
        FileNotFoundError: No such file.
        ValueError: A malformed line, named by file and number.
    """
    rows = read_rows(Path(path), ("topic", "lang", "sentence"))
    return [
        Sentence(parse_markup(text, lang, where), lang, topic, where)
        for where, (topic, lang, text) in rows
    ]
