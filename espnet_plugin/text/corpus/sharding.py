"""Phase 3: the chosen lines of consecutive blocks to one shard of a store."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.text.corpus.choosing import CHOICES, Choices
from espnet_plugin.text.corpus.mapping import PHASE as BLOCKS
from espnet_plugin.text.corpus.plan import Plan
from espnet_plugin.text.corpus.units import Units, account
from espnet_plugin.text.stats import TextStats
from espnet_plugin.text_store import shard_is_finished, write_shard

PHASE = "3_shards"


@dataclass(frozen=True)
class Shard:
    """A unit of work: which lines of which blocks make a shard.

    Attributes:
        part: `train` or `valid`.
        index: Place of the shard in its store.
        low: First block.
        high: One past the last block.
        lines: Number of lines that the shard will hold.
        directory: The store's.
    """

    part: str
    index: int
    low: int
    high: int
    lines: int
    directory: str


def shards_of(part: str, choices: Choices, shard_lines: int, directory: str | Path) -> list[Shard]:
    """Cut the blocks into shards: a shard is full with the block that fills it.

    Args:
        part: `train` or `valid`.
        choices: Lines of each block that the part gets.
        shard_lines: Lines from which a shard is full.
        directory: Of the store.
    """
    shards: list[Shard] = []
    kept, low, lines = choices.kept[part], 0, 0
    for block, size in enumerate(kept, 1):
        lines += size
        if lines >= shard_lines or (block == len(kept) and lines):
            shards.append(Shard(part, len(shards), low, block, lines, str(directory)))
            low, lines = block, 0
    return shards


def make_shard(plan: Plan, choices: Choices, shard: Shard) -> dict[str, Any]:
    """Write a shard; one that is finished and unaltered is kept.

    Returns:
        `part`; `shard`, its facts for the manifest; and the `stats` of its lines.

    Raises:
        OSError: If the shard cannot be written (a full disk).
    """
    units = Units(plan.work, f"{PHASE}_{shard.part}")
    facts = units.finished(shard.index)
    if facts is not None and shard_is_finished(shard.directory, facts["shard"]):
        return facts
    blocks, stats = Units(plan.work, BLOCKS), TextStats(plan.tools.tags)
    code = CHOICES.index(shard.part)
    held: list[tuple[np.ndarray, ...]] = []
    for block, choice in choices.of_blocks(shard.low, shard.high):
        mask = choice == code
        if not mask.any():
            continue
        stored = blocks.read(block, "tokens", "lengths", "langs", "tags", "words", "sources")
        tokens, lengths, langs, tags, words, sources = stored
        held.append((tokens[np.repeat(mask, lengths)], lengths[mask], langs[mask]))
        names = (blocks.finished(block) or {})["sources"]
        stats.add_block(
            tags,
            words,
            lengths,
            [plan.langs[lang] for lang in langs.tolist()],
            [names[source] for source in sources.tolist()],
            keep=mask,
        )
    all_tokens, all_lengths, all_langs = map(np.concatenate, zip(*held, strict=True))
    account(f"{shard.part} shard {shard.index}", shard.lines, len(all_lengths), {})
    written = write_shard(shard.directory, shard.index, all_tokens, all_lengths, all_langs)
    facts = {"part": shard.part, "shard": written, "stats": stats.to_json()}
    units.write(shard.index, facts)
    return facts
