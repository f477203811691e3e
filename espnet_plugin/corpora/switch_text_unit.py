"""One unit of sentences to switched candidates: what the worker processes do."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from espnet_plugin.corpora.keyed import keyed_random
from espnet_plugin.corpora.switch_patterns import Shape, read_patterns, shape_of, spoken_codes
from espnet_plugin.corpora.switch_text_align import Translations
from espnet_plugin.corpora.switch_text_lexicon import read_lexicon, words_of
from espnet_plugin.corpora.switch_text_link import Aligner
from espnet_plugin.corpora.switch_text_mix import Drawer, Switched
from espnet_plugin.corpora.switch_text_pairs import AlignedLines, Record, read_unit
from espnet_plugin.corpora.switch_text_phrases import (
    fits,
    linked_phrases,
    listed_phrases,
    make_side,
)
from espnet_plugin.corpora.switch_text_plan import Plan, targets
from espnet_plugin.corpora.switch_text_rules import Side, read_rules
from espnet_plugin.text.dedup import line_hashes
from espnet_plugin.text.sources import Block
from espnet_plugin.text.tags import Tagger


@dataclass(frozen=True, slots=True)
class Candidate:
    """A switched sentence, measured."""

    text: str
    markup: str
    matrix: int
    shape: Shape
    codes: bytes
    hash: int


@dataclass(slots=True)
class UnitResult:
    """What a unit gave.

    Attributes:
        path: Its file.
        first_line: Number of its first line; None where only the lines before it tell.
        read: Lines read.
        lines: Line in the unit, from 0, and candidates of each sentence that has any.
        dropped: Sentences without candidates, by reason.
        refused: Phrases that were not exchanged, by reason.
    """

    path: str
    first_line: int | None
    read: int
    lines: list[tuple[int, list[Candidate]]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


@lru_cache(maxsize=1)
def tagger_of(pair: str) -> Tagger:
    """Return a pair's tagger, loaded once in a process."""
    return Tagger.load(pair)


class _Worker:
    """What a process loads once."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tagger = tagger_of(plan.pair)
        self.codes = self.tagger.languages
        self.spoken = spoken_codes(self.tagger)
        self.rules = read_rules(plan.rules, self.codes)
        self.lexicon = read_lexicon(plan.lexicon, self.codes) if plan.lexicon else None
        patterns = read_patterns(plan.patterns, self.codes)
        self.drawer = Drawer(targets(patterns, plan.cmi), patterns.shortest_inner, plan.tries)
        self.most_switches = patterns.most_switches
        self.shortest_inner = patterns.shortest_inner
        self.excluded: frozenset[int] = frozenset()
        if plan.excluded:
            self.excluded = frozenset(np.load(plan.excluded).tolist())
        self.aligner = None
        if plan.inputs.parallel:
            learnt = Translations.load(Path(plan.translations)) if plan.translations else None
            self.aligner = Aligner(learnt, self.lexicon)


@lru_cache(maxsize=1)
def _worker(plan: Plan) -> _Worker:
    return _Worker(plan)


def forget() -> None:
    """Let go of what the last unit's plan had loaded in this process."""
    _worker.cache_clear()


def make_candidates(plan: Plan, unit: Block | AlignedLines) -> UnitResult:
    """Read a unit and draw candidates for each of its sentences.

    Args:
        plan: How.
        unit: From `switch_text_pairs.units`.

    Returns:
        Candidates that pass the filters; they depend on plan and sentence alone.
    """
    worker = _worker(plan)
    found = read_unit(unit, plan.inputs)
    result = UnitResult(unit.path, unit.first_line, found.read, dropped=found.dropped)
    records = _without_excluded(found.records, worker, result)
    drawn = _draw(records, worker, result)
    texts = [candidate.text for _, options in drawn for candidate in options]
    codes, n_words = worker.tagger.tag_block(texts)
    hashes = line_hashes(texts).tolist() if texts else []
    ends = np.cumsum(n_words).tolist()
    place = 0
    for record, options in drawn:
        kept: list[Candidate] = []
        reasons: list[str] = []
        for candidate in options:
            line = codes[ends[place] - n_words[place] : ends[place]]
            shape = shape_of(line.tolist(), worker.spoken)
            reason = _implausible(shape, hashes[place], worker)
            if shape is not None and not reason:
                made = candidate.text, candidate.markup, candidate.matrix
                kept.append(Candidate(*made, shape, line.tobytes(), hashes[place]))
            else:
                reasons.append(reason)
            place += 1
        if kept:
            result.lines.append((record.line, kept))
        else:
            result.dropped[reasons[0]] += 1
    return result


def _implausible(shape: Shape | None, key: int, worker: _Worker) -> str:
    """Say why a candidate is not to be had; empty where it is."""
    if key in worker.excluded:
        return "excluded"
    if shape is None:
        return "tags see no switch between the two"
    if shape.switches > worker.most_switches:
        return "more switches than measured"
    if shape.inner and min(shape.inner) < worker.shortest_inner:
        return "switches back sooner than measured"
    return ""


def _without_excluded(records: list[Record], worker: _Worker, result: UnitResult) -> list[Record]:
    """Leave out sentences of validation and test sets, and what would break the markup."""
    kept = []
    for record in records:
        texts = [text for text in record.texts if text]
        if any("[" in text or "]" in text for text in texts):
            result.dropped["has brackets"] += 1
        elif worker.excluded and not worker.excluded.isdisjoint(line_hashes(texts).tolist()):
            result.dropped["excluded"] += 1
        else:
            kept.append(record)
    return kept


def _draw(
    records: Sequence[Record], worker: _Worker, result: UnitResult
) -> list[tuple[Record, list[Switched]]]:
    """Find phrases and draw candidates; records without any are counted."""
    texts = [text for record in records for text in record.texts if text is not None]
    codes, n_words = worker.tagger.tag_block(texts)
    names, ends = worker.tagger.tags, np.cumsum(n_words).tolist()
    tags = [
        [names[code] for code in codes[end - n : end].tolist()]
        for end, n in zip(ends, n_words.tolist(), strict=True)
    ]
    langs = worker.tagger.line_languages(codes, n_words)
    drawn = []
    place = 0
    for record in records:
        count = 2 if worker.aligner else 1
        made = _draw_one(record, tags[place : place + count], langs[place], worker, result.refused)
        place += count
        if isinstance(made, str):
            result.dropped[made] += 1
        else:
            drawn.append((record, made))
    return drawn


def _draw_one(
    record: Record,
    tags: Sequence[Sequence[str]],
    lang: str,
    worker: _Worker,
    refused: Counter[str],
) -> list[Switched] | str:
    """Draw the candidates of a record; a reason where there are none."""
    pair, rules, codes, plan = worker.tagger, worker.rules, worker.codes, worker.plan
    first, second = record.texts
    assert first is not None
    rng = keyed_random(plan.seed, "switch", first, second)
    if worker.aligner is not None:
        assert second is not None
        sides = [
            make_side(text, pair.words(text), tags[n], n) for n, text in enumerate((first, second))
        ]
        if not (sides[0].words and sides[1].words):
            return "no words"
        links, synonyms = worker.aligner.links(*sides)
        if not fits(sides[0], sides[1], links, rules):
            return "translation does not fit"
        back = {(b, a) for a, b in links}, {(b, a) for a, b in synonyms}
        phrases = [
            linked_phrases(sides[0], sides[1], links, synonyms, rules, codes, refused),
            linked_phrases(sides[1], sides[0], *back, rules, codes, refused),
        ]
        both: list[Side | None] = [*sides]
    else:
        given = record.lang or plan.matrix or lang
        if given not in codes:
            return f"in neither language ({given})"
        matrix = codes.index(given)
        side = make_side(first, pair.words(first), tags[0], matrix)
        if not side.words:
            return "no words"
        assert worker.lexicon is not None
        found = listed_phrases(side, worker.lexicon, rules, codes, refused)
        both = [side if n == matrix else None for n in (0, 1)]
        phrases = [found if n == matrix else [] for n in (0, 1)]
    if not any(phrases):
        return "no phrase to exchange"
    made = worker.drawer.draw(both, phrases, codes, rng)
    return made or "no phrases of a wanted pattern"


def sample_words(
    plan: Plan, unit_and_limit: tuple[Block | AlignedLines, int]
) -> list[tuple[int, tuple[str, ...], tuple[str, ...]]]:
    """Give the sentence pairs of a unit that are in the sample to learn translations from.

    Args:
        plan: How to read; its excluded sentences are left out.
        unit_and_limit: The unit, and the hash below which a pair is in the sample.

    Returns:
        Hash and words in both languages.
    """
    unit, limit = unit_and_limit
    excluded = _excluded(plan.excluded)
    pairs = [(r.texts[0] or "", r.texts[1] or "") for r in read_unit(unit, plan.inputs).records]
    if not pairs:
        return []
    hashes = line_hashes([f"{first}\t{second}" for first, second in pairs]).tolist()
    sides = [line_hashes([pair[n] for pair in pairs]).tolist() for n in (0, 1)]
    return [
        (value, words_of(first), words_of(second))
        for value, one, two, (first, second) in zip(hashes, *sides, pairs, strict=True)
        if value < limit and one not in excluded and two not in excluded
    ]


@lru_cache(maxsize=1)
def _excluded(path: str | None) -> frozenset[int]:
    return frozenset(np.load(path).tolist()) if path else frozenset()
