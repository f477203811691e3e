"""Phase 1: a block of text to tokens, tags and hashes of the lines that pass the limits."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from espnet_plugin.text.corpus.lines import cmi_of, judge
from espnet_plugin.text.corpus.plan import NO_LANG, UNKNOWN, Plan
from espnet_plugin.text.corpus.units import Units, account, plain
from espnet_plugin.text.dedup import line_hashes
from espnet_plugin.text.sources import Block, Records, read, where
from espnet_plugin.text.stats import TextStats

PHASE = "1_blocks"
# Characters a token of a line that is styled: more never fit, and the rules of spoken text are slow
# on longer lines (those of English take the square of a word's length, and fail at 4 300 digits).
STYLED = 8


def map_block(plan: Plan, block: Block) -> dict[str, Any]:
    """Read, clean, tag, filter and tokenise a block into a unit of work; done before, it is kept.

    Returns:
        Its facts: `index`, `read`, `lines` (that pass), `dropped` by reason, `changes` by cleaning
        step, names of `sources`, and the `stats` of all lines that could be read.

    Raises:
        ValueError: Naming file and line: a line that cannot be read under `strict`, a language that
            is not in `lang_tokens`.
        OSError: If the unit cannot be written (a full disk).
    """
    units = Units(plan.work, PHASE)
    if (facts := units.finished(block.index)) is not None:
        return facts
    tools, config = plan.tools, plan.config
    records = read(block, plan.sources)
    texts, changes = tools.cleaner.clean(records.texts)
    codes, words = _tag(plan, texts)
    names = _languages(plan, block, records, codes, words)
    kept_langs = plan.langs if config.languages is None else config.languages
    table = {lang: plan.langs.index(lang) for lang in kept_langs}
    langs = np.fromiter((table.get(name, NO_LANG) for name in names), np.uint8, len(names))
    judged = judge(plan, texts, words, langs, cmi_of(codes, words, tools.tags))
    if config.text_style != "as_is":
        characters = np.fromiter(map(len, texts), np.int64, len(texts))
        judged.drop("too_many_tokens", characters > STYLED * tools.max_tokens)
    tokens, lengths = tools.encoder.encode(_styled(plan, texts, names, judged.kept))
    judged.drop("empty", lengths == 0)  # the style may leave nothing
    judged.drop("too_many_tokens", lengths > (config.max_tokens or tools.max_tokens))
    stats = TextStats(tools.tags)
    stats.add_block(codes, words, lengths, names, _all_sources(records))

    kept = judged.kept
    lines = np.flatnonzero(kept).tolist()
    staying = [texts[line] for line in lines]
    sources, source_codes = _sources(records, lines)
    arrays = {
        "tokens": tokens[np.repeat(kept, lengths)],
        "lengths": lengths[kept].astype(np.uint16),
        "langs": langs[kept],
        "hashes": line_hashes(staying),
        "tags": codes[np.repeat(kept, words)],
        "words": words[kept].astype(np.uint32),
        "sources": source_codes,
    }
    facts = {
        "index": block.index,
        "read": records.read,
        "lines": len(staying),
        "dropped": plain(records.dropped + judged.dropped()),
        "changes": plain(changes),
        "sources": sources,
        "stats": stats.to_json(),
    }
    account(f"{block.path}, block {block.index}", records.read, len(staying), facts["dropped"])
    units.write(block.index, facts, arrays, plan.near.signatures(staying) if plan.near else None)
    return facts


def _tag(plan: Plan, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the tags' codes of all words, and the number of words of each line."""
    tagger = plan.tools.tagger
    if tagger is not None:
        return tagger.tag_block(texts)
    words = np.fromiter((len(text.split()) for text in texts), np.int32, len(texts))
    other = plan.tools.tags.index("other")
    return np.full(int(words.sum()), other, np.uint8), words


def _languages(
    plan: Plan, block: Block, records: Records, codes: np.ndarray, words: np.ndarray
) -> list[str]:
    """Return each line's language: what the input says, else `--lang`, else from its tags.

    Where the languages to keep are chosen, one that is not in `lang_tokens` is `unknown`.

    Raises:
        ValueError: If the input names one that is not in `lang_tokens`, or nothing says one.
    """
    by_tags, tagger = plan.config.line_language == "tags", plan.tools.tagger
    given: list[str | None] = [None if by_tags else g or plan.lang for g in records.langs]
    known = {None, *plan.langs}
    for place, lang in enumerate(given):
        if lang not in known:
            if plan.config.languages is None:
                origin = where(block, records.lines[place])
                plan.tools.builder.lang_code(str(lang), origin)
            given[place] = UNKNOWN  # one name: a field of free text would fill the statistics
    missing = [place for place, lang in enumerate(given) if lang is None]
    if not missing:
        return [str(lang) for lang in given]
    if tagger is None:
        origin = where(block, records.lines[missing[0]])
        raise ValueError(f"{origin}: no language: give --lang, or set pair to have it from tags")
    found = tagger.line_languages(codes, words)
    return [lang or tagged for lang, tagged in zip(given, found, strict=True)]


def _styled(plan: Plan, texts: list[str], names: list[str], kept: np.ndarray) -> list[str]:
    """Apply the text style to the lines that stay; others are only counted."""
    if plan.config.text_style == "as_is":
        return texts
    style = plan.tools.builder.style
    return [
        style(text, name) if keep else text
        for text, name, keep in zip(texts, names, kept.tolist(), strict=True)
    ]


def _all_sources(records: Records) -> list[str]:
    return records.sources or [records.source] * len(records.texts)


def _sources(records: Records, lines: Sequence[int]) -> tuple[list[str], np.ndarray]:
    """Return the names of the sources, and each line's as an index into them, uint32."""
    if records.sources is None:
        return [records.source], np.zeros(len(lines), np.uint32)
    chosen = [records.sources[line] for line in lines]
    names = list(dict.fromkeys(chosen))
    index = {name: place for place, name in enumerate(names)}
    return names, np.fromiter((index[name] for name in chosen), np.uint32, len(chosen))
