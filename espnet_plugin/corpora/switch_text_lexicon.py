"""Translation lexicons: ``first<TAB>second`` a line, words or phrases in the pair's two languages.

Lists of phrase mixing (``category<TAB>first<TAB>second``) are lexicons too; their category ``keep``
names compounds that nothing is done to, the side that does not matter being ``-``. Matching is by
words in lower case, the longest phrase first, and never across punctuation.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.phrases import KEEP
from espnet_plugin.corpora.switch_text_rules import Side
from espnet_plugin.text.tags.tokens import plain, words

Phrase = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """A phrase of the lexicon in a sentence: its words `first` to `last`, and its translations."""

    first: int
    last: int
    translations: tuple[str, ...]


class Lexicon:
    """Phrases of two languages, searchable from either side.

    Attributes:
        pairs: ``(first, second)`` language, as written, each once.
        keep: Compounds to leave alone.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], keep: Iterable[tuple[str, str]] = ()):
        """Index pairs of phrases; the same pair twice counts once.

        Args:
            pairs: ``(first, second)`` language, as written.
            keep: Compounds to leave alone, ``-`` where a language has none.
        """
        self.pairs, self.keep = list(dict.fromkeys(pairs)), list(dict.fromkeys(keep))
        self._entries: tuple[dict[Phrase, list[str]], ...] = (defaultdict(list), defaultdict(list))
        for pair in self.pairs:
            for side in (0, 1):
                self._entries[side][words_of(pair[side])].append(pair[1 - side])
        self._keep = tuple(
            {words_of(pair[side]) for pair in self.keep if pair[side] != "-"} for side in (0, 1)
        )
        self._longest = tuple(
            max(map(len, [*self._entries[side], *self._keep[side]]), default=0) for side in (0, 1)
        )

    def find(self, side: Side) -> list[Match]:
        """Find the phrases of a sentence: from the left, the longest first."""
        entries, keep = self._entries[side.language], self._keep[side.language]
        matches, position, total = [], 0, len(side.words)
        while position < total:
            reach = min(self._longest[side.language], total - position)
            for length in range(1, reach):  # not across punctuation
                if not side.joined[position + length - 1]:
                    reach = length
                    break
            for length in range(reach, 0, -1):
                phrase = tuple(side.words[position : position + length])
                if phrase in keep:
                    position += length - 1
                    break
                if found := entries.get(phrase):
                    matches.append(Match(position, position + length - 1, tuple(found)))
                    position += length - 1
                    break
            position += 1
        return matches


def words_of(text: str) -> Phrase:
    """Return the words of a phrase as they are compared."""
    return tuple(plain(word) for word in words(text))


def read_lexicon(paths: Sequence[str | Path], languages: Sequence[str]) -> Lexicon:
    """Read lexicons into one.

    Args:
        paths: Files of two or three columns (see the module); lines that are empty or begin with
            ``#`` are passed over.
        languages: The two languages, for messages.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A malformed line, named; a side without any word; no entry at all.
    """
    pairs: list[tuple[str, str]] = []
    keep: list[tuple[str, str]] = []
    for path in map(Path, paths):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        expected = f"'{languages[0]}<TAB>{languages[1]}', perhaps with a category before"
        try:
            content = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text: {error}") from None
        columns = 0
        for number, line in enumerate(content.split("\n"), 1):
            if not line.strip() or line.startswith("#"):
                continue
            cells = [cell.strip() for cell in line.split("\t")]
            columns = columns or len(cells)
            if len(cells) not in (2, 3) or len(cells) != columns:
                raise ValueError(
                    f"{path}:{number}: {expected} is needed (the same columns in the whole file), "
                    f"found {len(cells)} columns: {line[:80]!r}"
                )
            first, second = cells[-2:]
            kept = len(cells) == 3 and cells[0] == KEEP
            for cell in (first, second):
                if not words(cell) and not (kept and cell == "-"):
                    raise ValueError(f"{path}:{number}: no word in {cell!r}; {expected} is needed")
            (keep if kept else pairs).append((first, second))
    if not pairs:
        raise ValueError(f"{' '.join(map(str, paths))}: no pair of phrases in the lexicon")
    return Lexicon(pairs, keep)
