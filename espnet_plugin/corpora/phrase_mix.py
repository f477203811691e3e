"""Phrase mixing: more code-switched text from hand-written sentences and a bilingual phrase list.

After the idea of arXiv 2506.14177 (mixing at the level of phrases); the procedure is our own. In
each sentence the listed phrases are found, longest match first, on the side of the stretch's own
language. A new line exchanges at most three of them for their translation, at most one of them also
for another entry of its category. Everything else, word order included, stays as somebody wrote it,
so that words keep natural contexts. Two rules keep out what nobody says: English articles go when
their noun becomes Malay, and no exchange may leave English function words alone among Malay ones.
"""

import random
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from espnet_plugin.corpora.keyed import keyed_random
from espnet_plugin.corpora.markup import (
    EMBEDDED,
    MATRIX,
    Segment,
    Sentence,
    language_of,
    merge_neighbours,
)
from espnet_plugin.corpora.phrases import WORD, PhraseIndex, Slot
from espnet_plugin.corpora.text_lines import (
    Line,
    key_of,
    languages_of,
)

MAX_EXCHANGES = 3
FUNCTION_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a an the this that my your his her our their its i you he she we they it is are was were
        be am do does did has have had will would can could should must may to of in on at by for
        from with as and or but if when than then there not no so very too just only""",
    )
)
TRIES = 25  # fruitless draws after which a sentence counts as used up


@dataclass(frozen=True)
class MixOptions:
    """How lines are mixed.

    Attributes:
        lines: Distinct lines wanted, the hand-written ones included.
        seed: The same seed gives the same lines.
        switch_rate: How often an exchanged phrase ends in the language that is foreign to its
            sentence (English in Malay and mixed ones, Malay in English ones), 0..1.
        keep_rate: How often a sentence in one language stays in it (only another entry of a
            category is put in), 0..1.
        category_rate: How often one of a line's exchanges is another entry of its category, 0..1.
    """

    lines: int
    seed: int = 0
    switch_rate: float = 0.65
    keep_rate: float = 0.4
    category_rate: float = 0.6

    def __post_init__(self) -> None:
        for name in ("switch_rate", "keep_rate", "category_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}, allowed is 0 to 1")
        if self.lines < 1:
            raise ValueError(f"lines is {self.lines}, allowed is 1 or more")


def mix_sentence(
    sentence: Sentence,
    slots: Sequence[Slot],
    index: PhraseIndex,
    options: MixOptions,
    rng: random.Random,
) -> Sentence:
    """Exchange up to three phrases of a sentence.

    Args:
        sentence: A hand-written sentence in ``cs``, ``ms`` or ``en``.
        slots: Its phrases (``index.find``), at least one.
        index: The phrase list.
        options: Rates.
        rng: Draws what is exchanged.

    Returns:
        The new sentence with its language recomputed; the old one where nothing good was drawn.
    """
    foreign, own = (MATRIX, EMBEDDED) if sentence.lang == EMBEDDED else (EMBEDDED, MATRIX)
    keep = sentence.lang == own and rng.random() < options.keep_rate
    count = rng.choices((1, 2, MAX_EXCHANGES), weights=(2, 3, 2))[0]
    chosen = rng.sample(slots, min(count, len(slots)))
    by_category = 0 if keep or rng.random() < options.category_rate else None
    exchanges: dict[Slot, Segment] = {}
    for number, slot in enumerate(chosen):
        lang = foreign if not keep and rng.random() < options.switch_rate else own
        entry = rng.choice(slot.entries)
        if number == by_category:
            said = sentence.text.lower()
            others = [
                phrase
                for phrase in index.categories[entry.category]
                if phrase not in slot.entries and phrase.side(lang).lower() not in said
            ]
            entry = rng.choice(others) if others else entry
        elif lang == sentence.segments[slot.segment].lang:
            continue  # the phrase itself in its own language: nothing to exchange
        exchanges[slot] = Segment(entry.side(lang), lang)
    if not exchanges:
        return sentence
    new = _exchange(sentence, exchanges)
    written = {segment.text for segment in sentence.segments}
    stranded = any(
        s.lang == EMBEDDED and s.text not in written and _is_stranded(s) for s in new.segments
    )
    return sentence if stranded else new


def _is_stranded(segment: Segment) -> bool:
    return all(word.lower() in FUNCTION_WORDS for word in WORD.findall(segment.text))


def _exchange(sentence: Sentence, exchanges: dict[Slot, Segment]) -> Sentence:
    """Put new phrases in their slots, with the sentence's capitals, article and language label."""
    pieces: list[Segment] = []
    for number, segment in enumerate(sentence.segments):
        done = 0
        for slot in sorted((s for s in exchanges if s.segment == number), key=lambda s: s.start):
            new = exchanges[slot]
            kept = segment.text[done : slot.start]
            if segment.lang == EMBEDDED != new.lang:
                kept = re.sub(r"\b(?:the|an?)\s+$", "", kept, flags=re.IGNORECASE)
            pieces.append(Segment(kept, segment.lang))
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
    """What was made: lines by source and language, and the mean code-mixing index (0..100)."""

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
        exclude: Keys (``sentence_key``) of validation and test sentences, which are not made.

    Returns:
        Lines with distinct keys, the hand-written ones first.

    Raises:
        ValueError: A hand-written line is excluded, or fewer distinct lines can be made.
    """
    seen: set[str] = set(exclude)
    lines: list[Line] = []
    for line in hand:
        key = key_of(line.sentence)
        if key in exclude:
            raise ValueError(
                f"{line.sentence.where}: also a validation or test sentence: {line.sentence.text!r}"
            )
        if key not in seen:
            seen.add(key)
            lines.append(line)
    found = [(line.sentence, index.find(line.sentence.segments)) for line in lines]
    live = [(sentence, slots) for sentence, slots in found if slots]
    turn = 0
    while live and len(lines) < options.lines:
        productive = []
        for sentence, slots in live:
            if len(lines) >= options.lines:
                break
            rng = keyed_random(options.seed, "mix", turn, sentence.text)
            for _ in range(TRIES):
                new = mix_sentence(sentence, slots, index, options, rng)
                key = key_of(new)
                if key not in seen:
                    seen.add(key)
                    lines.append(Line(new, "mix"))
                    productive.append((sentence, slots))
                    break
        live = productive
        turn += 1
    if len(lines) < options.lines:
        raise ValueError(
            f"only {len(lines)} distinct lines can be made of {len(hand)} sentences and this "
            f"phrase list, {options.lines} were requested: add phrases or sentences, or ask for "
            f"fewer lines"
        )
    return lines


def report(lines: Sequence[Line], requested: int) -> MixReport:
    """Count what a mixed corpus holds."""
    from espnet_plugin.score import cmi

    indices = [cmi(languages_of(line.sentence)) for line in lines]
    return MixReport(
        requested=requested,
        distinct=len(lines),
        sources=dict(Counter(line.source for line in lines)),
        languages=dict(Counter(line.sentence.lang for line in lines)),
        mean_cmi=sum(indices) / len(indices) if indices else 0.0,
    )
