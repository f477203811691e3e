"""Phase 2: what only the whole corpus can say: duplicates, caps, and which lines are held out.

One process, no text: 8 bytes a line for the hashes, as many for the sources if they are capped, and
about 4 for masks. 38 million lines take half a gigabyte.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import atomic_write, read_json, write_json
from espnet_plugin.text.corpus.mapping import PHASE as BLOCKS
from espnet_plugin.text.corpus.plan import Plan
from espnet_plugin.text.corpus.units import Units, account, plain
from espnet_plugin.text.dedup import (
    cap_per_source,
    first_occurrences,
    in_validation,
    line_hashes,
    source_hashes,
)
from espnet_plugin.text.sources import blocks, read

PHASE = "2_choices"
TRAIN, VALID = 0, 1
# What a line's byte in the file of choices means.
CHOICES = ("train", "valid", "excluded", "duplicate", "near_duplicate", "source_cap")


@dataclass(frozen=True)
class Choices:
    """What is to become of the lines that phase 1 let pass.

    Attributes:
        path: `(lines,)` uint8 in corpus order, an index into `CHOICES`.
        sizes: Number of lines of each block.
        kept: For `train` and `valid`, how many lines of each block they get.
        dropped: Lines dropped for each reason.
    """

    path: Path
    sizes: list[int]
    kept: dict[str, list[int]]
    dropped: dict[str, int]

    def of_blocks(self, low: int, high: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield blocks `low` to `high` and the choices `(lines,)` of each."""
        start = sum(self.sizes[:low])
        for block in range(low, high):
            size = self.sizes[block]
            yield block, np.fromfile(self.path, np.uint8, size, offset=start)
            start += size


class _Signatures(Sequence[np.ndarray]):
    """The blocks' signatures, mapped when they are asked for."""

    def __init__(self, units: Units, blocks: int) -> None:
        self._units, self._blocks = units, blocks

    def __len__(self) -> int:
        return self._blocks

    def __getitem__(self, index: Any) -> Any:
        return np.load(self._units.near_path(index), mmap_mode="r")


def choose(plan: Plan, sizes: list[int], held_out: bool) -> Choices:
    """Decide about all lines; a decision that is on disk is kept.

    Args:
        plan: The limits, and where phase 1 left its work.
        sizes: Number of lines of each block that phase 1 let pass.
        held_out: Whether a share of the lines is held out.

    Raises:
        OSError: If they cannot be written (a full disk).
    """
    directory = Path(plan.work) / PHASE
    path, facts_path = directory / "choices.bin", directory / "choices.json"
    if not facts_path.is_file():
        flat = _decide(plan, sizes, held_out)
        kept = {part: _by_block(flat, sizes, code) for code, part in enumerate(CHOICES[:2])}
        counts = np.bincount(flat, minlength=len(CHOICES)).tolist()
        dropped = plain(dict(zip(CHOICES[2:], counts[2:], strict=True)))
        with atomic_write(path) as file:
            file.write(flat.data)
        write_json(facts_path, {"kept": kept, "dropped": dropped})
    facts = read_json(facts_path)
    choices = Choices(path, sizes, facts["kept"], facts["dropped"])
    account("all blocks", sum(sizes), sum(map(sum, choices.kept.values())), choices.dropped)
    return choices


def _decide(plan: Plan, sizes: list[int], held_out: bool) -> np.ndarray:
    """Return the choices `(lines,)` uint8 of all lines."""
    config, units = plan.config, Units(plan.work, BLOCKS)
    hashes = [units.read(block, "hashes")[0] for block in range(len(sizes))]
    keep = [np.ones(size, bool) for size in sizes]
    flat = np.zeros(sum(sizes), np.uint8)

    def drop(reason: str, masks: list[np.ndarray]) -> list[np.ndarray]:
        """Note what a step dropped of what was there before it."""
        ends = np.cumsum([0, *sizes]).tolist()
        for (low, high), before, after in zip(pairwise(ends), keep, masks, strict=True):
            flat[low:high][before & ~after] = CHOICES.index(reason)
        return masks

    if plan.exclude:
        excluded = excluded_hashes(plan)
        keep = drop("excluded", [~np.isin(block, excluded) for block in hashes])
    if config.exact_duplicates:
        keep = drop("duplicate", first_occurrences(hashes, keep))
    if plan.near is not None:
        signatures = _Signatures(units, len(sizes))
        keep = drop("near_duplicate", plan.near.first_of_clusters(signatures, keep))
    if config.max_lines_per_source is not None:
        sources = [_source_hashes(units, block) for block in range(len(sizes))]
        cap = config.max_lines_per_source
        keep = drop("source_cap", cap_per_source(hashes, sources, cap, keep))
    if held_out:
        start = 0
        for block, mask in zip(hashes, keep, strict=True):
            chosen = mask & in_validation(block, config.valid_share, f"validation{config.salt}")
            flat[start : start + len(block)][chosen] = VALID
            start += len(block)
    return flat


def excluded_hashes(plan: Plan) -> np.ndarray:
    """Hash the lines of the files to exclude, read and cleaned as the corpus is, uint64."""
    found = [np.empty(0, np.uint64)]
    for block in blocks([Path(path) for path in plan.exclude], plan.sources):
        texts, _ = plan.tools.cleaner.clean(read(block, plan.sources).texts)
        found.append(line_hashes([text for text in texts if text]))
    return np.unique(np.concatenate(found))


def _source_hashes(units: Units, block: int) -> np.ndarray:
    facts = units.finished(block)
    assert facts is not None
    return source_hashes(facts["sources"])[units.read(block, "sources")[0]]


def _by_block(flat: np.ndarray, sizes: list[int], code: int) -> list[int]:
    ends = np.cumsum([0, *sizes]).tolist()
    return [int((flat[low:high] == code).sum()) for low, high in pairwise(ends)]
