"""Phrase mixing: more code-switched text from hand-written sentences and a bilingual phrase list.

After the idea of arXiv 2506.14177 (mixing at the level of phrases); the procedure is our own. In each
sentence the listed phrases are found, longest match first, on the side of the stretch's own language.
A new line exchanges at most three of them for their translation, at most one of them also for
another entry of its category. Everything else, word order included, stays as somebody wrote it, so
that words keep natural contexts.
"""

import argparse
import random
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from espnet_plugin.corpora.keyed import keyed_random
from espnet_plugin.corpora.markup import (
    EMBEDDED,
    MATRIX,
    Phrase,
    Segment,
    Sentence,
    language_of,
    merge_neighbours,
    read_phrases,
)
from espnet_plugin.corpora.text_lines import (
    Line,
    read_excluded,
    read_lines,
    sentence_key,
    tags_of,
    write_lines,
)

MAX_EXCHANGES = 3
TRIES = 25  # fruitless draws after which a sentence counts as used up
_WORD = re.compile(r"\w+(?:['’-]\w+)*")


@dataclass(frozen=True)
class MixOptions:
    """How lines are mixed.

    Attributes:
        lines: Distinct lines wanted, the hand-written ones included.
        seed: The same seed gives the same lines.
        switch_rate: How often an exchanged phrase ends in the language that is foreign to its sentence (English in
            Malay and mixed sentences, Malay in English ones), 0..1: more of it, more switching.
        category_rate: How often one of a line's exchanges is another entry of the category, 0..1.
    """

    lines: int
    seed: int = 0
    switch_rate: float = 0.65
    category_rate: float = 0.6

    def __post_init__(self) -> None:
        for name in ("switch_rate", "category_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed is 0 to 1")
        if self.lines < 1:
            raise ValueError(f"lines is {self.lines}, allowed is 1 or more")


@dataclass(frozen=True)
class Slot:
    """Where a listed phrase stands: segment, first and last character (exclusive), and its entries."""

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
                entries[tuple(w.lower() for w in _WORD.findall(phrase.side(lang)))].append(phrase)
        self._longest = {
            lang: max(map(len, entries), default=0) for lang, entries in self._entries.items()
        }

    def find(self, segments: Sequence[Segment]) -> list[Slot]:
        """Find the phrases of a sentence: left to right, longest match first, never across punctuation."""
        slots = []
        for number, segment in enumerate(segments):
            entries = self._entries.get(segment.lang)
            if entries is None:
                continue
            words = list(_WORD.finditer(segment.text))
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
                        slots.append(Slot(number, span[0].start(), span[-1].end(), tuple(found)))
                        position += length - 1
                        break
                position += 1
        return slots


def mix_sentence(
    sentence: Sentence, index: PhraseIndex, options: MixOptions, rng: random.Random
) -> Sentence:
    """Exchange up to three phrases of a sentence.

    Args:
        sentence: A hand-written sentence in ``cs``, ``ms`` or ``en``.
        index: The phrase list.
        options: Rates.
        rng: Draws what is exchanged.

    Returns:
        The new sentence with its language recomputed; it can equal the old one.
    """
    slots = index.find(sentence.segments)
    if not slots:
        return sentence
    count = min(len(slots), rng.choices((1, 2, 3), weights=(2, 3, 2))[0])
    chosen = rng.sample(slots, min(count, MAX_EXCHANGES))
    by_category = rng.randrange(len(chosen)) if rng.random() < options.category_rate else None
    foreign, own = (MATRIX, EMBEDDED) if sentence.lang == EMBEDDED else (EMBEDDED, MATRIX)
    exchanges: dict[Slot, Segment] = {}
    for number, slot in enumerate(chosen):
        lang = foreign if rng.random() < options.switch_rate else own
        entry = rng.choice(slot.entries)
        if number == by_category:
            others = [p for p in index.categories[entry.category] if p not in slot.entries]
            entry = rng.choice(others) if others else entry
        elif lang == sentence.segments[slot.segment].lang:
            continue  # the phrase itself in its own language: nothing to exchange
        exchanges[slot] = Segment(entry.side(lang), lang)
    return _exchange(sentence, exchanges) if exchanges else sentence


def _exchange(sentence: Sentence, exchanges: dict[Slot, Segment]) -> Sentence:
    """Put new phrases in their slots, with the sentence's capitals, article and language label."""
    pieces: list[Segment] = []
    for number, segment in enumerate(sentence.segments):
        done = 0
        for slot in sorted((s for s in exchanges if s.segment == number), key=lambda s: s.start):
            new = exchanges[slot]
            pieces.append(Segment(segment.text[done : slot.start], segment.lang))
            before = "".join(piece.text for piece in pieces)
            if not before.strip() or re.search(r"[.!?]\W*$", before):
                new = replace(new, text=new.text[:1].upper() + new.text[1:])
            if new.lang == EMBEDDED:
                pieces[-1] = replace(pieces[-1], text=_agree_article(pieces[-1], new.text))
            pieces.append(new)
            done = slot.end
        pieces.append(Segment(segment.text[done:], segment.lang))
    lang = language_of(pieces)
    segments = _tidy(pieces) if lang == "cs" else (Segment("".join(p.text for p in pieces), lang),)
    return replace(sentence, segments=segments, lang=lang)


def _agree_article(before: Segment, following: str) -> str:
    """Turn an English ``a`` into ``an``, or back, where the next word has changed."""
    if before.lang != EMBEDDED:
        return before.text
    word = following.lower()
    consonant = word.startswith(("uni", "use", "usual", "eu", "one ", "once"))
    vowel = word.startswith(("hour", "honest", "heir")) or (word[:1] in "aeiou" and not consonant)
    article = "an" if vowel else "a"
    return re.sub(r"\b([Aa])n?( +)$", lambda m: m[1] + article[1:] + m[2], before.text)


def _tidy(pieces: Sequence[Segment]) -> tuple[Segment, ...]:
    """Keep spaces and punctuation at the edges of English stretches outside their brackets."""
    loose: list[Segment] = []
    for piece in pieces:
        if piece.lang == EMBEDDED:
            match = re.fullmatch(r"(\W*)(.*?)(\W*)", piece.text, re.DOTALL)
            assert match is not None
            parts = zip(match.groups(), (MATRIX, EMBEDDED, MATRIX), strict=True)
            loose.extend(Segment(text, lang) for text, lang in parts)
        else:
            loose.append(piece)
    merged = list(merge_neighbours(loose))
    for i in range(1, len(merged) - 1):
        if merged[i].text.isspace() and merged[i - 1].lang == merged[i + 1].lang == EMBEDDED:
            merged[i] = replace(merged[i], lang=EMBEDDED)
    return merge_neighbours(merged)


@dataclass(frozen=True)
class MixReport:
    """What was made: lines requested and distinct, by source and language, mean code-mixing index (0..100)."""

    requested: int
    distinct: int
    sources: dict[str, int]
    languages: dict[str, int]
    mean_cmi: float

    def __str__(self) -> str:
        def counts(table: dict[str, int]) -> str:
            return ", ".join(f"{key} {table[key]}" for key in sorted(table))

        return (
            f"{self.distinct} distinct lines ({self.requested} requested): {counts(self.sources)}; "
            f"by language: {counts(self.languages)}; mean CMI {self.mean_cmi:.1f}"
        )


def mix(
    hand: Sequence[Line], index: PhraseIndex, options: MixOptions, exclude: Collection[str] = ()
) -> list[Line]:
    """Widen hand-written lines to the wanted number of distinct ones.

    Sentences take turns, one new line each, so that none dominates; one that yields nothing new in
    25 draws is left out from then on.

    Args:
        hand: The hand-written lines; all are kept, repeated ones once.
        index: The phrase list.
        options: Number, seed, rates.
        exclude: Keys (``sentence_key``) of validation and test sentences, which must not be produced.

    Returns:
        Lines with distinct keys, the hand-written ones first.

    Raises:
        ValueError: A hand-written line is excluded, or fewer distinct lines can be made.
    """
    seen: set[str] = set(exclude)
    lines: list[Line] = []
    for line in hand:
        key = sentence_key(line.sentence.text)
        if key in exclude:
            raise ValueError(
                f"{line.sentence.where}: also a validation or test sentence: {line.sentence.text!r}"
            )
        if key not in seen:
            seen.add(key)
            lines.append(line)
    live = [line.sentence for line in lines if index.find(line.sentence.segments)]
    turn = 0
    while live and len(lines) < options.lines:
        productive = []
        for sentence in live:
            if len(lines) >= options.lines:
                break
            rng = keyed_random(options.seed, "mix", turn, sentence.text)
            for _ in range(TRIES):
                new = mix_sentence(sentence, index, options, rng)
                key = sentence_key(new.text)
                if key not in seen:
                    seen.add(key)
                    lines.append(Line(new, "mix"))
                    productive.append(sentence)
                    break
        live = productive
        turn += 1
    if len(lines) < options.lines:
        raise ValueError(
            f"only {len(lines)} distinct lines can be made of {len(hand)} sentences and this phrase list, "
            f"{options.lines} were requested: add phrases or sentences, or ask for fewer lines"
        )
    return lines


def report(lines: Sequence[Line], requested: int) -> MixReport:
    """Count what a mixed corpus holds."""
    from espnet_plugin.score import cmi

    indices = [cmi(tags_of(line.sentence)) for line in lines]
    return MixReport(
        requested=requested,
        distinct=len(lines),
        sources=dict(Counter(line.source for line in lines)),
        languages=dict(Counter(line.sentence.lang for line in lines)),
        mean_cmi=sum(indices) / len(indices) if indices else 0.0,
    )


def mix_file(
    source: Path,
    phrases: Sequence[Path],
    output: Path,
    options: MixOptions,
    exclude: Sequence[Path] = (),
) -> MixReport:
    """Mix a file of hand-written lines into another file.

    Args:
        source: Hand-written lines, ``.jsonl``.
        phrases: Phrase lists.
        output: The ``.jsonl`` file to write, atomically.
        options: Number, seed, rates.
        exclude: Files of validation and test sentences.

    Returns:
        The counts.

    Raises:
        FileNotFoundError: A missing file.
        ValueError: A malformed file, a leak, or too few distinct lines.
    """
    index = PhraseIndex(phrase for path in phrases for phrase in read_phrases(path))
    lines = mix(read_lines(source), index, options, read_excluded(exclude))
    write_lines(output, lines)
    return report(lines, options.lines)


def add_options(options: argparse.ArgumentParser) -> None:
    """Declare the command line of ``mix_with``."""
    options.add_argument("--input", type=Path, required=True, help="hand-written lines, .jsonl")
    options.add_argument(
        "--phrases", type=Path, required=True, action="append", help="phrase list; may be repeated"
    )
    options.add_argument("--output", type=Path, required=True, help=".jsonl file to write")
    options.add_argument("--lines", type=int, default=20_000, help="distinct lines, input included")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--switch_rate", type=float, default=MixOptions.switch_rate)
    options.add_argument("--category_rate", type=float, default=MixOptions.category_rate)
    options.add_argument(
        "--exclude",
        type=Path,
        nargs="*",
        default=[],
        help="sentences never made: .jsonl, Kaldi text",
    )


def mix_with(args: argparse.Namespace) -> MixReport:
    """Mix as the command line says."""
    options = MixOptions(args.lines, args.seed, args.switch_rate, args.category_rate)
    return mix_file(args.input, args.phrases, args.output, options, args.exclude)
