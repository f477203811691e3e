"""Corpus preparation from files to finished stores, in three phases that each can be taken up.

1. A block of text -> tokens, tags and hashes of the lines that pass the limits (`mapping`).
2. Over the whole corpus: duplicates, caps, the lines held out (`choosing`).
3. The chosen lines of consecutive blocks -> shards of the stores (`sharding`).

Every unit appears in the directory of unfinished work, or in the store, as a whole or not at all. A
unit depends on the text and the plan alone, so the bytes of the stores are the same whatever the
executor and the number of workers, and whether a run was killed and taken up again.
"""

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json, write_json
from espnet_plugin.cli import progress
from espnet_plugin.room import FULL
from espnet_plugin.text.corpus.choosing import Choices, choose
from espnet_plugin.text.corpus.mapping import PHASE as BLOCKS
from espnet_plugin.text.corpus.mapping import map_block
from espnet_plugin.text.corpus.plan import Plan
from espnet_plugin.text.corpus.report import Report
from espnet_plugin.text.corpus.sharding import Shard, make_shard, shards_of
from espnet_plugin.text.corpus.units import Units, account
from espnet_plugin.text.executors import Executor
from espnet_plugin.text.sources import Block, blocks, expand, fingerprint, format_of
from espnet_plugin.text.stats import TextStats
from espnet_plugin.text_store import TextStore, finish_store

MANY = 4_000_000  # lines from which workers rest while this process needs the memory


def beside(target: Path, kind: str) -> Path:
    """Return a hidden directory beside a store: `work`, `new` or `old`."""
    return target.with_name(f".{target.name}.{kind}")


def build(
    inputs: Sequence[str | Path],
    outputs: dict[str, Path],
    plan: Plan,
    executor: Executor,
    keep_work: bool = False,
    plots: bool = False,
) -> Report | None:
    """Make stores; those that were made from the same inputs in the same way are kept.

    Args:
        inputs: Files, folders and globs.
        outputs: Absolute directories of the stores: `train`, and `valid` to hold lines out.
        plan: What is done.
        executor: Where it is done.
        keep_work: Leave the directory of unfinished work.
        plots: Draw pictures of the statistics (needs matplotlib).

    Returns:
        The report, or None where nothing was to be done.

    Raises:
        FileNotFoundError: If an input is missing.
        ValueError: Naming file and line: bad inputs or settings, no line left, a full disk. Old
            stores stay as they were.
    """
    _check_apart(outputs)
    for target in outputs.values():
        if target.exists() and not (target.is_dir() and _is_store_or_empty(target)):
            raise ValueError(f"{target}: exists and is not a token store; choose another output")
    paths = [Path(path).absolute() for path in expand(inputs)]
    plan.check()
    with _alone(beside(outputs["train"], "lock")):
        return _resume(paths, outputs, plan, executor, keep_work, plots)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock: two runs for one store would remove each other's unfinished work.

    Raises:
        ValueError: Another run holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"{path}: another run is making this store") from None
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _resume(
    paths: list[Path],
    outputs: dict[str, Path],
    plan: Plan,
    executor: Executor,
    keep_work: bool,
    plots: bool,
) -> Report | None:
    """Make what is not there."""
    made_from = plan.made_from(fingerprint(paths), "valid" in outputs)
    work = Path(plan.work)
    if all(_made_from(target) == made_from for target in outputs.values()):
        try:
            for target in outputs.values():
                TextStore(target).verify()
        except ValueError as error:
            logging.warning("%s", error)  # which is what happens now
        else:
            if not keep_work:
                _remove(work, outputs)
            return None
    try:
        if not (work / "plan.json").is_file() or read_json(work / "plan.json") != made_from:
            _remove(work, outputs)
            write_json(work / "plan.json", made_from)
        report = _build(paths, outputs, plan, executor, made_from, plots)
    except OSError as error:
        if error.errno not in FULL:
            raise
        path = os.fsdecode(error.filename) if error.filename else str(work)
        raise ValueError(
            f"{path}: no space left on the disk. What is finished is kept in {work}: make room and "
            "run the same command again"
        ) from error
    if not keep_work:
        _remove(work, outputs)
    return report


def _check_apart(outputs: dict[str, Path]) -> None:
    """Raise ValueError if a store lies in another: putting one in place would remove the other."""
    real = {target: Path(os.path.realpath(target)) for target in outputs.values()}
    for inner in real:
        for outer in real:
            if inner is not outer and real[inner].is_relative_to(real[outer]):
                raise ValueError(f"{inner} lies in {outer}: give stores directories side by side")


def _is_store_or_empty(target: Path) -> bool:
    path = target / "manifest.json"
    if not path.is_file():
        return not any(target.iterdir())
    try:
        manifest = read_json(path)
    except ValueError:
        return False
    # other programs have files of this name too, and what is no store of ours is not replaced
    return isinstance(manifest, dict) and "tokenizer_sha256" in manifest


def _made_from(target: Path) -> Any:
    path = target / "manifest.json"
    return read_json(path).get("made_from") if path.is_file() else None


def _remove(work: Path, outputs: dict[str, Path]) -> None:
    for directory in [work, *(beside(target, "new") for target in outputs.values())]:
        shutil.rmtree(directory, ignore_errors=True)
    for target in outputs.values():
        if target.exists():  # else a kill left the old store there alone
            shutil.rmtree(beside(target, "old"), ignore_errors=True)


def _build(
    paths: list[Path],
    outputs: dict[str, Path],
    plan: Plan,
    executor: Executor,
    made_from: dict[str, Any],
    plots: bool,
) -> Report:
    report = Report(made_from)
    sizes = _map_blocks(paths, plan, executor, report)
    if report.read > MANY:
        executor.rest()
    choices = choose(plan, sizes, "valid" in outputs)
    report.drop(choices.dropped)
    report.kept = {part: sum(choices.kept[part]) for part in outputs}
    account("the corpus", report.read, sum(report.kept.values()), report.dropped)
    for part in outputs:
        _check_left(part, outputs[part], report)
    shards = {
        part: shards_of(part, choices, plan.config.shard_lines, beside(target, "new"))
        for part, target in outputs.items()
    }
    facts = _make_shards(shards, plan, choices, executor, report)
    for part, target in outputs.items():
        new = beside(target, "new")
        extra = report.counts() | {"part": part, "made_from": made_from}
        tools, style = plan.tools, plan.config.text_style
        manifest = finish_store(new, facts[part], plan.langs, tools.tokenizer_sha256, style, extra)
        account(part, report.kept[part], manifest["lines"], {})
        report.write(new / "report", part, plots)
    for part in reversed(outputs):  # the training store last: with it, all is done
        _publish(beside(outputs[part], "new"), outputs[part])
    return report


def _map_blocks(paths: list[Path], plan: Plan, executor: Executor, report: Report) -> list[int]:
    """Do phase 1; return the number of lines of each block that passed the limits."""
    units, sizes, places = Units(plan.work, BLOCKS), {}, _Places(paths)
    with progress(None, "text", "line", unit_scale=True) as bar:

        def done(facts: dict[str, Any]) -> None:
            sizes[facts["index"]] = facts["lines"]
            report.add_block(facts)
            if share := places.pop(facts["index"]):
                bar.total = int(report.read / share)
            bar.update(facts["read"])

        def unfinished() -> Iterator[Block]:
            for block in blocks(paths, plan.sources):
                places.add(block)
                if (facts := units.finished(block.index)) is not None:
                    done(facts)
                else:
                    yield block

        for facts in executor.ordered_map(partial(map_block, plan), unfinished()):
            done(facts)
        bar.total = report.read
    return [sizes[index] for index in range(len(sizes))]


class _Places:
    """How far into the corpus each block in flight reaches, to estimate the time left.

    Where in a compressed or parquet file a block lies is guessed from the files before it; in the
    first of them it is not known.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._sizes = {str(path): path.stat().st_size for path in paths}
        self._total = max(sum(self._sizes.values()), 1)
        self._path, self._before, self._end, self._plain = "", 0, 0, True
        self._packed, self._unpacked = 0, 0  # such files before: their bytes, what blocks count
        self._shares: dict[int, float] = {}

    def add(self, block: Block) -> None:
        """Note a block, in order."""
        if block.path != self._path:
            size = self._sizes.get(self._path, 0)
            self._before += size
            if not self._plain:
                self._packed, self._unpacked = self._packed + size, self._unpacked + self._end
            self._path = block.path
            self._plain = block.kind != "rows" and not format_of(block.path).compression
        self._end = block.end
        ratio = 1.0 if self._plain else self._packed / max(self._unpacked, 1)
        inside = min(block.end * ratio, self._sizes[block.path])
        self._shares[block.index] = (self._before + inside) / self._total if ratio else 0.0

    def pop(self, index: int) -> float:
        """Return the share of the corpus up to a block, 0 where it is not known."""
        return self._shares.pop(index)


def _check_left(part: str, target: Path, report: Report) -> None:
    """Raise ValueError if a store would be empty."""
    if not sum(report.kept.values()):
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in report.dropped.items())
        raise ValueError(
            f"{target}: no line of text is left of {report.read:,} read"
            f"{f' (dropped: {reasons})' if reasons else ''}"
        )
    if not report.kept[part]:
        raise ValueError(
            f"{target}: none of {sum(report.kept.values()):,} lines falls to {part}: change "
            "valid_share (or salt)"
        )


def _make_shards(
    shards: dict[str, list[Shard]],
    plan: Plan,
    choices: Choices,
    executor: Executor,
    report: Report,
) -> dict[str, list[dict[str, Any]]]:
    """Do phase 3; return the facts of each store's shards."""
    todo = [shard for part in shards.values() for shard in part]
    facts: dict[str, list[dict[str, Any]]] = {part: [] for part in shards}
    with progress(sum(shard.lines for shard in todo), "shards", "line", unit_scale=True) as bar:
        for made in executor.ordered_map(partial(make_shard, plan, choices), todo):
            facts[made["part"]].append(made["shard"])
            report.add_after(made["part"], TextStats.from_json(made["stats"]))
            bar.update(made["shard"]["lines"])
    return facts


def _publish(new: Path, target: Path) -> None:
    """Put a finished store in its place; a kill loses neither, and a rerun puts one there."""
    old = beside(target, "old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    new.rename(target)
    shutil.rmtree(old, ignore_errors=True)
