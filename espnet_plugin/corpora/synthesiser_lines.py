"""Lines to be spoken: ``{"text", "lang", "markup", "from"}`` a line, as the text tools make them.

``markup`` is the text with the stretches of the pair's second language in square brackets; a line
without it is in one language, ``lang``.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.text.normalizer import normalize

_WORD = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class SpokenLine:
    """A line.

    Attributes:
        number: In its file, from 0; part of its utterance's id.
        text: As written.
        lang: ``cs`` or a language.
        stretches: ``(text, language)``, which join to the text.
        origin: File and line that it was made of (``from``), perhaps empty.
    """

    number: int
    text: str
    lang: str
    stretches: tuple[tuple[str, str], ...]
    origin: str

    @property
    def runs(self) -> list[tuple[str, list[str]]]:
        """The line's tokens (split at white space) by language: ``(language, tokens)``.

        Raises:
            ValueError: A token is in two languages.
        """
        languages: list[str] = []  # of each character that belongs to a word
        for text, language in self.stretches:
            languages += [language if _WORD.match(c) else "" for c in text]
        found: list[tuple[str, list[str]]] = []
        waiting: list[str] = []  # tokens without a word before the first with one
        for match in re.finditer(r"\S+", self.text):
            spoken = set(languages[match.start() : match.end()]) - {""}
            if len(spoken) > 1:
                raise ValueError(f"'{match.group()}' is in two languages")
            if not spoken and not found:
                waiting.append(match.group())
            elif not spoken or (found and found[-1][0] in spoken):
                found[-1][1].append(match.group())
            else:
                found.append((spoken.pop(), [*waiting, match.group()]))
                waiting = []
        return found

    def tags(self) -> list[str]:
        """Return a tag for each normalised word: its stretch's language, or ``num``.

        Raises:
            ValueError: The normaliser makes other words of the stretches than of the line.
        """
        from espnet_plugin.corpora.marked import word_tags
        from espnet_plugin.text.markup import Segment

        tokens = [Segment(" ".join(tokens), language) for language, tokens in self.runs]
        tags = word_tags(tokens, self.lang, self.stretches[0][1])
        if len(tags) != len(normalize(self.text, self.lang).words):
            raise ValueError("its stretches have other words than the whole")
        return tags


def read_spoken_lines(path: str | Path, languages: Sequence[str]) -> Iterator[SpokenLine]:
    """Read lines one by one.

    Args:
        path: A ``.jsonl`` file.
        languages: The pair: outside and inside of brackets.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A malformed line, named by file and number.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    with open(path, encoding="utf-8") as file:
        for number, raw in enumerate(file):
            where = f"{path}:{number + 1}"
            try:
                record = json.loads(raw)
            except ValueError as error:
                raise ValueError(f"{where}: not JSON: {error}") from None
            if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                raise ValueError(f"{where}: expected an object with 'text', found {raw[:80]!r}")
            lang = record.get("lang")
            if not isinstance(lang, str) or not re.fullmatch(r"[a-z]{2,3}", lang):
                raise ValueError(f"{where}: no 'lang'; expected cs, {' or '.join(languages)}")
            text, markup = record["text"], str(record.get("markup", record["text"]))
            stretches = parse_stretches(markup, lang, languages, where)
            if "".join(part for part, _ in stretches) != text:
                raise ValueError(f"{where}: 'markup' without its brackets is not 'text'")
            if text.split() != text.strip(" ").split(" ") or not _WORD.search(text):
                raise ValueError(f"{where}: words with single spaces are needed: {text[:80]!r}")
            yield SpokenLine(number, text, lang, stretches, str(record.get("from", "")))


def parse_stretches(
    markup: str, lang: str, languages: Sequence[str], where: str
) -> tuple[tuple[str, str], ...]:
    """Split a line at its brackets.

    Args:
        markup: The line.
        lang: Its language; only ``cs`` has brackets.
        languages: Outside and inside of them.
        where: For messages.

    Raises:
        ValueError: Unbalanced or nested brackets, or some in a line of one language.
    """
    if lang != "cs":
        if "[" in markup or "]" in markup:
            raise ValueError(f"{where}: brackets in a line in '{lang}'; only cs has them")
        return ((markup, lang),)
    stretches: list[tuple[str, str]] = []
    inside = False
    for piece in re.split(r"([\[\]])", markup):
        if piece in ("[", "]"):
            if inside == (piece == "["):
                raise ValueError(f"{where}: unbalanced brackets: {markup[:80]!r}")
            inside = not inside
        elif piece:
            stretches.append((piece, languages[inside]))
    if inside:
        raise ValueError(f"{where}: unbalanced brackets: {markup[:80]!r}")
    return tuple(stretches)
