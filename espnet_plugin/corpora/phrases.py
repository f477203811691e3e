"""The bilingual phrase list (``category<TAB>malay<TAB>english``), and finding its phrases.

Entries of one category can stand for one another. Those of the category ``keep`` are compounds such
as ``mak cik``, whose parts are not exchanged; the side that does not matter is ``-``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.markup import EMBEDDED, MATRIX, Segment, read_rows

KEEP = (
    "keep"  # category of compounds that are found, so that nothing inside them is, and left alone
)
WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class Phrase:
    """An entry of the bilingual phrase list."""

    category: str
    malay: str
    english: str

    def side(self, lang: str) -> str:
        """The phrase in ``ms`` or ``en``."""
        return {"ms": self.malay, "en": self.english}[lang]


@dataclass(frozen=True)
class Slot:
    """Where a listed phrase stands: its segment, characters ``start:end`` of it, its entries."""

    segment: int
    start: int
    end: int
    entries: tuple[Phrase, ...]


class PhraseIndex:
    """The phrase list, searchable by the words of either side."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        self.categories: dict[str, list[Phrase]] = defaultdict(list)
        self._entries: dict[str, dict[tuple[str, ...], list[Phrase]]] = {
            MATRIX: defaultdict(list),
            EMBEDDED: defaultdict(list),
        }
        for phrase in dict.fromkeys(phrases):
            self.categories[phrase.category].append(phrase)
            for lang, entries in self._entries.items():
                entries[tuple(w.lower() for w in WORD.findall(phrase.side(lang)))].append(phrase)
        self._longest = {
            lang: max(map(len, entries), default=0) for lang, entries in self._entries.items()
        }

    def find(self, segments: Sequence[Segment]) -> list[Slot]:
        """Find a sentence's phrases: from the left, longest first, never across punctuation."""
        slots = []
        for number, segment in enumerate(segments):
            entries = self._entries.get(segment.lang)
            if entries is None:
                continue
            words = list(WORD.finditer(segment.text))
            position = 0
            while position < len(words):
                for length in range(min(self._longest[segment.lang], len(words) - position), 0, -1):
                    span = words[position : position + length]
                    found = entries.get(tuple(match.group().lower() for match in span))
                    gaps = (
                        segment.text[a.end() : b.start()]
                        for a, b in zip(span, span[1:], strict=False)
                    )
                    if found and all(not gap.strip() for gap in gaps):
                        position += length - 1
                        if any(phrase.category == KEEP for phrase in found):
                            break
                        slots.append(Slot(number, span[0].start(), span[-1].end(), tuple(found)))
                        break
                position += 1
        return slots


def read_phrases(path: str | Path) -> list[Phrase]:
    """Read a bilingual phrase list (``category<TAB>malay<TAB>english``).

    Raises:
        FileNotFoundError: No such file.
        ValueError: A malformed line, named by file and number.
    """
    phrases = []
    for where, fields in read_rows(Path(path), ("category", "malay", "english")):
        if re.search(r"[\[\]]", "".join(fields)):
            raise ValueError(f"{where}: brackets in a phrase: {' / '.join(fields)}")
        phrases.append(Phrase(*fields))
    return phrases
