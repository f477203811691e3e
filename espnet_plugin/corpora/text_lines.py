"""The text corpus as JSON lines: ``{"text", "lang", "source", "topic", "markup"}`` each."""

import functools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.corpora.markup import Sentence, parse_markup
from espnet_plugin.data import read_table
from espnet_plugin.score.switching import LANGUAGES
from espnet_plugin.text import normalize


@dataclass(frozen=True)
class Line:
    """A line of the text corpus: the sentence, and ``hand``, ``paired`` or ``mix``."""

    sentence: Sentence
    source: str

    def to_json(self) -> str:
        """The line as it stands in a ``.jsonl`` file."""
        s = self.sentence
        record = {
            "text": s.text,
            "lang": s.lang,
            "source": self.source,
            "topic": s.topic,
            "markup": s.markup,
        }
        return json.dumps(record, ensure_ascii=False)


def sentence_key(text: str) -> str:
    """Reduce a text to what makes it the same sentence: its normalised words."""
    return normalize(text, "cs").text


@functools.lru_cache(maxsize=1 << 18)
def _words(text: str) -> tuple[str, ...]:
    """Normalise a stretch of a sentence; in mixed text the same stretches come again and again."""
    return tuple(normalize(text, "cs").words)


def key_of(sentence: Sentence) -> str:
    """Give ``sentence_key`` of a sentence from its stretches, which is faster for mixed ones."""
    return " ".join(word for segment in sentence.segments for word in _words(segment.text))


def languages_of(sentence: Sentence) -> list[str]:
    """Give the language of each word of ``key_of``."""
    return [segment.lang for segment in sentence.segments for _ in _words(segment.text)]


def tags_of(sentence: Sentence) -> list[str]:
    """Give the tag of each word of a sentence normalised in its own language.

    A tag is the word's language, or `other` where no tag stands for that language.

    Raises:
        ValueError: Its stretches normalised one by one have other words than the whole.
    """
    pieces = [(normalize(s.text, sentence.lang).words, s.lang) for s in sentence.segments]
    whole = normalize(sentence.text, sentence.lang).words
    if [word for words, _ in pieces for word in words] != whole:
        raise ValueError(
            f"{sentence.where}: the normaliser joins words across a change of language, "
            f"{[words for words, _ in pieces]} in parts but {whole} as a whole: "
            f"rephrase {sentence.markup!r}"
        )
    return [lang if lang in LANGUAGES else "other" for words, lang in pieces for _ in words]


def read_lines(path: Path) -> list[Line]:
    """Read lines; ``markup`` defaults to ``text``, ``source`` to ``hand``.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A malformed line, named by number.
    """
    lines = []
    for where, record in _records(path):
        lang = record.get("lang")
        if not isinstance(lang, str):
            raise ValueError(f"{where}: no 'lang'; expected cs, ms or en")
        segments = parse_markup(record.get("markup", record["text"]), lang, where)
        sentence = Sentence(segments, lang, str(record.get("topic", "")), where)
        if sentence.text != record["text"]:
            raise ValueError(
                f"{where}: 'markup' without its brackets is not 'text': {record['markup']!r}"
            )
        lines.append(Line(sentence, str(record.get("source", "hand"))))
    if not lines:
        raise ValueError(f"{path}: no lines")
    return lines


def read_excluded(paths: Iterable[Path]) -> set[str]:
    """Read the keys of sentences that must not be made, from ``.jsonl`` or Kaldi ``text`` files."""
    keys: set[str] = set()
    for path in paths:
        if path.suffix == ".jsonl":
            keys.update(sentence_key(record["text"]) for _, record in _records(path))
        else:
            keys.update(sentence_key(text) for text in read_table(path).values())
    return keys


def check_output(path: Path, marks: Iterable[Path]) -> None:
    """Check that made text may be written here: not over text that was not made.

    Args:
        path: The file to write.
        marks: What lies beside a file that was made, or is being made.

    Raises:
        ValueError: It is a pattern or a folder, or a file without any of the marks.
    """
    advice = "name a new .jsonl file (in the recipe: --text_train)"
    if set(path.name) & set("*?"):
        raise ValueError(f"{path}: made text goes to one file, not to a pattern; {advice}")
    if path.is_dir() or (path.exists() and not any(mark.exists() for mark in marks)):
        raise ValueError(f"{path}: exists, and would be lost to the text that is made; {advice}")


def write_lines(path: Path, lines: Iterable[Line]) -> None:
    """Write lines as JSON lines, atomically."""
    with atomic_write(path, "w") as file:
        file.writelines(line.to_json() + "\n" for line in lines)


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing")
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            where = f"{path}:{number}"
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON: {error}") from None
            if not isinstance(record, dict) or not isinstance(record.get("text"), str):
                raise ValueError(
                    f"{where}: expected an object with 'text', found {line.strip()[:80]!r}"
                )
            yield where, record
