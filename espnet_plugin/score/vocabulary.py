"""Words that the models met in text only: the ones by which text-only adaptation is judged."""

from collections.abc import Iterable
from pathlib import Path

from espnet_plugin.cli import progress
from espnet_plugin.data.tables import read_table
from espnet_plugin.text import normalize

UNKNOWN_LANGUAGES = ("cs", "en")  # how lines that do not say their language are normalised: as each


def words_of_text(path: Path, field: str = "text") -> set[str]:
    """Collect the normalised words of a text corpus, streaming.

    Words are normalised one by one, each once, so that tens of millions of lines take minutes.
    Lines that preparation drops and counts as unreadable are passed over here.

    Args:
        path: What `bin.text_corpus prepare` reads: a file (.jsonl .txt .csv .tsv .parquet, plain or
            compressed), a folder or a glob.
        field: The field that holds the text. A record's language is in its field `lang`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file that cannot be read, or has no line with that field; names the file.
    """
    from espnet_plugin.text.sources import SourceSettings, blocks, expand, read

    settings = SourceSettings(field=field)
    words: set[str] = set()
    seen: dict[str, set[str]] = {}
    with progress(None, "words of the text", "line", unit_scale=True) as bar:
        for block in blocks(expand([path]), settings):
            records = read(block, settings)
            texts: dict[str | None, list[str]] = {}
            for text, lang in zip(records.texts, records.langs, strict=True):
                texts.setdefault(lang, []).append(text)
            for lang, lines in texts.items():
                found = set(" ".join(lines).split())
                for one in UNKNOWN_LANGUAGES if lang is None else (lang,):
                    new = found - seen.setdefault(one, set())
                    seen[one] |= new
                    for word in new:
                        words.update(normalize(word, one).words)
            bar.update(records.read)
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
        texts: files, folders or globs of the text-only corpus.
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
