"""Words that the models met in text only: the ones by which text-only adaptation is judged."""

import json
from collections.abc import Iterable
from pathlib import Path

from espnet_plugin.data.tables import read_table
from espnet_plugin.text import normalize


def words_of_text(path: Path) -> set[str]:
    """Collect the normalised words of a JSON-lines text corpus (`{"text": ..., "lang": ...}`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not such an object; names file and line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    words: set[str] = set()
    for number, raw in enumerate(path.read_bytes().splitlines(), 1):
        try:
            line = json.loads(raw)
            text, lang = line["text"], line["lang"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(f'{path}:{number}: not a line {{"text": ..., "lang": ...}}') from None
        words.update(normalize(text, lang).words)
    return words


def words_of_speech(directory: Path) -> set[str]:
    """Collect the normalised words of a data directory (`text`, `utt2lang`)."""
    langs = read_table(directory / "utt2lang")
    words: set[str] = set()
    for utt, text in read_table(directory / "text").items():
        if utt not in langs:
            raise ValueError(f"{directory}: utt2lang lacks {utt}")
        words.update(normalize(text, langs[utt]).words)
    return words


def text_only_words(texts: Iterable[Path], speech: Iterable[Path]) -> frozenset[str]:
    """Words of the text-only training lines that no paired training utterance has.

    Args:
        texts: JSON-lines files of the text-only corpus.
        speech: data directories of every training set with speech.

    Returns:
        The words, normalised.
    """
    words: set[str] = set()
    for path in texts:
        words |= words_of_text(Path(path))
    for directory in speech:
        words -= words_of_speech(Path(directory))
    return frozenset(words)
