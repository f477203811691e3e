"""Going on with an interrupted run: which checkpoint is whole, and the files that belong to it."""

import pickle
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.train.reporter import Reporter

from espnet_plugin.checkpoint import atomic_write, read_json, sha256_file
from espnet_plugin.distributed import from_first, gather
from espnet_plugin.room import size
from espnet_plugin.training import identity
from espnet_plugin.training.disk import remove_leftovers
from espnet_plugin.training.saving import (
    CHECKPOINT,
    KEPT,
    LEDGER,
    PREVIOUS,
    WEIGHTS,
    Checkpoints,
    Entry,
    link_or_copy,
)

Say = Callable[[str], None]
WAIT = 120.0  # seconds; a network file system's caches are a minute old at most


def find_checkpoint(directory: Path, say: Say) -> list[Entry] | None:
    """Find the checkpoint to go on from, and make it `checkpoint.pth`.

    Args:
        directory: ESPnet's output directory. Temporary files of killed writes are removed.
        say: Told what people should know, such as that the last checkpoint is damaged.

    Returns:
        What is known of it and of the one before, for `Checkpoints.entries`; None if there is
        none.

    Raises:
        ValueError: If no checkpoint that is there can be read; says what to do.
    """
    for name in remove_leftovers(directory) + remove_leftovers(directory / KEPT):
        say(f"{name} was left by a write that did not end: removed")
    last, previous = directory / CHECKPOINT, directory / PREVIOUS
    if not last.exists() and not previous.exists():
        shutil.rmtree(directory / KEPT, ignore_errors=True)  # of a run that was taken away
        (directory / LEDGER).unlink(missing_ok=True)
        return None
    ledger = _read_ledger(directory / LEDGER, say)
    trouble = check(last, ledger)
    if trouble is None:
        return _known(last, ledger)
    if not previous.exists() or (other := check(previous, ledger)) is not None:
        what = f"{last}: {trouble}"
        if previous.exists():
            what += f"; {previous}: {other}"
        raise ValueError(
            f"{what}. There is no checkpoint to go on from. Bring one back from a backup, with "
            f"its {LEDGER}; or remove both to start this stage anew (--init_dir). The weights of "
            "epochs, such as latest.pth, are other files and may be whole"
        )
    entries = _known(previous, ledger)
    where = _describe(entries[0]) if entries else "an earlier one"
    say(f"{last}: {trouble}. Going on from {PREVIOUS}, {where}; what came after is done again")
    previous.replace(last)
    return entries[:1]


def agreed(directory: Path, resume: bool, wait: float = WAIT) -> bool:
    """Tell whether there is a checkpoint to go on from: rank 0 looks, the other ranks follow.

    On a network file system they may see a file late, or one that it has replaced. Every rank calls
    it, rank 0 after `find_checkpoint`.

    Args:
        directory: ESPnet's output directory.
        resume: Whether the run is to go on from a checkpoint.
        wait: Seconds until every rank has to see rank 0's file.

    Raises:
        ValueError: If a rank does not, on all ranks; says which.
    """
    path = directory / CHECKPOINT
    wanted = from_first(_bytes(path) if resume else None)
    if wanted is None:
        return False
    end = time.monotonic() + wait
    while (found := _bytes(path)) != wanted and time.monotonic() < end:
        time.sleep(min(0.5, wait))
    sizes = {rank: count for rank, count in enumerate(gather(found)) if count != wanted}
    if sizes:
        seen = ", ".join(
            f"process {rank} {'none' if count is None else f'one of {count} bytes'}"
            for rank, count in sizes.items()
        )
        raise ValueError(
            f"{path}: process 0 sees a checkpoint of {wanted} bytes, and after {wait:g} s {seen}: "
            "all computers of a run need the same output directory"
        )
    return True


def _bytes(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say how a run differs from the one that wrote its checkpoint.

    Args:
        before: `Checkpoints.about` of then; may be empty.
        now: Likewise, of this run.
    """
    old, new = before.get("processes", now["processes"]), now["processes"]
    if old != new:
        yield (
            f"{new} process(es) now, {old} before: a batch is that of all together, so the steps "
            "are the same; sums in another order make small differences"
        )
    old, new = before.get("passes", now["passes"]), now["passes"]
    if old != new:
        yield (
            f"a pass over the data has other batches than before (how many by kind: {new}, were "
            f"{old}): what is left of it comes in another order, some of it again"
        )
    yield from identity.changes(before, now)


def check(path: Path, ledger: Sequence[Entry] | None) -> str | None:
    """Return what is wrong with a checkpoint, or None.

    Without a ledger (the file is of plain ESPnet, say) it counts as whole if torch can open it.
    """
    if not path.is_file():
        return "it is missing"
    try:
        if ledger is not None:
            found = path.stat().st_size
            if found not in {entry["bytes"] for entry in ledger}:
                sizes = " or ".join(size(entry["bytes"]) for entry in ledger)
                return f"it is truncated or of another run: {size(found)}, written were {sizes}"
            if sha256_file(path) not in {entry["sha256"] for entry in ledger}:
                return f"it is damaged: its SHA-256 is not in {LEDGER}"
        else:
            torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        return f"it cannot be read ({str(error).splitlines()[0]})"
    return None


def _read_ledger(path: Path, say: Say) -> list[Entry] | None:
    if not path.exists():
        say(f"{path.name} is missing: the checkpoint cannot be verified")
        return None
    try:
        entries = read_json(path)
        if all(isinstance(e["sha256"], str) and e["bytes"] >= 0 and e["position"] for e in entries):
            return list(entries)
        trouble = f"{path}: not what a run writes there"
    except (KeyError, TypeError):
        trouble = f"{path}: not what a run writes there"
    except ValueError as error:
        trouble = str(error)
    say(f"{trouble}: the checkpoint cannot be verified, and {path.name} is made anew")
    path.unlink()
    return None


def _known(path: Path, ledger: list[Entry] | None) -> list[Entry]:
    """Return the entries of a checkpoint and of the one before it."""
    if ledger is None:
        return []
    # Two that are equal in bytes can only be told apart by their hashes.
    digest = sha256_file(path) if len({e["bytes"] for e in ledger}) < len(ledger) else None
    for at, entry in enumerate(ledger):
        if entry["bytes"] == path.stat().st_size and digest in (None, entry["sha256"]):
            return ledger[at : at + 2]
    return []


def _describe(entry: Entry) -> str:
    epoch, batches = entry["position"]
    return f"epoch {epoch}, {batches} batches done" if batches else f"the end of epoch {epoch - 1}"


def restore_weights(checkpoints: Checkpoints, reporter: Reporter, model: torch.nn.Module) -> None:
    """Bring the weights files of epochs to the moment of the checkpoint that was loaded.

    ESPnet writes them after the checkpoint, so a kill in between leaves none; after falling back,
    there are some of epochs that are yet to come. Averaging would fail, or use the wrong ones.

    Args:
        checkpoints: Its first entry is the loaded checkpoint.
        reporter: ESPnet's, as loaded.
        model: With the checkpoint's weights.
    """
    directory, done = checkpoints.directory, reporter.get_epoch()
    for place in (directory, directory / KEPT):
        for path in place.glob(WEIGHTS):
            if not path.is_symlink() and int(path.name.removesuffix("epoch.pth")) > done:
                path.unlink()
    entry = checkpoints.entries[0] if checkpoints.entries else None
    for name in entry["weights"] if entry else ():
        if not (directory / name).exists() and (directory / KEPT / name).exists():
            link_or_copy(directory / KEPT / name, directory / name)
    latest = directory / f"{done}epoch.pth"
    at_end = entry is None or not entry["position"][1]  # else the model has gone on since
    if done and at_end and not latest.exists():
        with atomic_write(latest) as file:
            torch.save(model.state_dict(), file)


def link_best(directory: Path, reporter: Reporter, criteria: Sequence[Sequence[str]]) -> None:
    """Point `latest.pth` and `*.best.pth` where ESPnet would; a kill may have come before it did.

    Args:
        directory: ESPnet's output directory.
        reporter: ESPnet's.
        criteria: ESPnet's `best_model_criterion`: phase, key, mode.
    """
    links = {"latest.pth": reporter.get_epoch()}
    for phase, key, mode in criteria:
        known = reporter.has(phase, key)
        best = reporter.get_best_epoch(phase, key, mode) if known else 0
        links[f"{phase}.{key}.best.pth"] = best
    for name, epoch in links.items():
        link = directory / name
        link.unlink(missing_ok=True)
        if epoch and (directory / f"{epoch}epoch.pth").exists():
            link.symlink_to(f"{epoch}epoch.pth")


def forget_missing(
    directory: Path, reporter: Reporter, criteria: Sequence[Sequence[str]], best: int, say: Say
) -> None:
    """Take epochs whose weights are gone out of the choice of the best ones.

    Else ESPnet's averaging would fail at the end of the run.

    Args:
        directory: ESPnet's output directory.
        reporter: ESPnet's; changed.
        criteria: ESPnet's `best_model_criterion`: phase, key, mode.
        best: How many epochs ESPnet keeps.
        say: Told which are gone.
    """
    for phase, key, mode in criteria:
        while reporter.has(phase, key):
            chosen = reporter.sort_epochs(phase, key, mode)[:best]
            gone = [e for e in chosen if not (directory / f"{e}epoch.pth").exists()]
            if not gone:
                break
            for epoch in gone:
                say(f"{epoch}epoch.pth is gone: epoch {epoch} cannot be chosen as the best")
                del reporter.stats[epoch]
