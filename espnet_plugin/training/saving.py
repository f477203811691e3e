"""Checkpoints for resuming: written whole, the last two kept, each with its SHA-256.

    checkpoint.pth            the last one, where ESPnet looks for it
    checkpoint.previous.pth   the one before
    checkpoints.json          what each of them is: SHA-256, bytes, position, weights files
    .kept/Nepoch.pth          weights that one of the two may need and ESPnet has removed (links)

`checkpoints.json` is written before the files are renamed and lists the old ones too, so that a
kill at any moment leaves files that it knows. A position is (epoch, batches): the epoch to train
next and how many of its batches are done; the end of epoch 3 is (4, 0).
"""

import hashlib
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch

from espnet_plugin.checkpoint import atomic_write, fsync_dir, temporary_sibling, write_json
from espnet_plugin.room import free_bytes, size
from espnet_plugin.training.disk import named_errors, tensor_bytes

CHECKPOINT = "checkpoint.pth"
PREVIOUS = "checkpoint.previous.pth"
LEDGER = "checkpoints.json"
KEPT = ".kept"
EXTRA = "asyncswitch"  # our part of a checkpoint; ESPnet reads the others
WEIGHTS = "[0-9]*epoch.pth"

Position = tuple[int, int]
Entry = dict[str, Any]


class _Hashed:
    """A file that is hashed while it is written, and remembers an error that torch would hide."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.hash, self.bytes = file, hashlib.sha256(), 0
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            written = self.file.write(data)
        except OSError as error:
            self.error = error
            raise
        self.hash.update(data)
        self.bytes += written
        return written

    def flush(self) -> None:
        self.file.flush()


class Checkpoints:
    """Writes a run's checkpoints.

    Attributes:
        entries: What `checkpoint.pth` and `checkpoint.previous.pth` are, the latest first.
        saved: Position of the last one; None before the first.
        reporter: State of ESPnet's reporter at the end of the last epoch.
        about: What else is noted of each: processes, batches of a pass.
        say: Told what people should know.
    """

    def __init__(self, directory: Path, seconds: float = 0.0) -> None:
        """Prepare.

        Args:
            directory: ESPnet's output directory.
            seconds: Least time between two checkpoints at ends of epochs (with the optimiser's
                state they are about three times the model); earlier ones are not written.
        """
        self.directory, self.seconds = directory, seconds
        self.entries: list[Entry] = []
        self.saved: Position | None = None
        self.about: dict[str, Any] = {}
        self.reporter: dict[str, Any] = {"stats": {}, "epoch": 0}
        self.say: Callable[[str], None] = logging.warning
        self._last = time.monotonic()
        self._plain = torch.save

    @property
    def noted(self) -> dict[str, Any]:
        """What `about` was when the last checkpoint was written; empty where nobody knows."""
        found: dict[str, Any] = self.entries[0].get("about", {}) if self.entries else {}
        return found

    @contextmanager
    def replace_torch_save(self) -> Iterator[None]:
        """Let ESPnet's `torch.save` to paths write whole files or nothing.

        It would write onto the live file, and a kill during that leaves no checkpoint at all.
        """
        self._plain = torch.save
        torch.save = self._save  # type: ignore[assignment]
        try:
            yield
        finally:
            torch.save = self._plain  # type: ignore[assignment]

    def _save(self, obj: Any, f: Any, *args: Any, **kwargs: Any) -> None:
        if not isinstance(f, str | Path):
            self._plain(obj, f, *args, **kwargs)
        elif Path(f) == self.directory / CHECKPOINT:
            self.reporter = obj["reporter"]
            if time.monotonic() - self._last >= self.seconds:
                self.write(obj, (self.reporter["epoch"] + 1, 0))
        else:
            path = Path(f)
            with self._errors(path, tensor_bytes(obj)), atomic_write(path) as file:
                hashed = _Hashed(file)
                self._dump(obj, hashed, *args, **kwargs)

    def _dump(self, obj: Any, hashed: _Hashed, *args: Any, **kwargs: Any) -> None:
        try:
            self._plain(obj, hashed, *args, **kwargs)  # type: ignore[arg-type]
        except RuntimeError:
            if hashed.error is not None:  # torch says "unexpected pos" of a full disk
                raise hashed.error from None
            raise

    def _errors(self, path: Path, needed: int) -> Any:
        kept = "No checkpoint was there yet"
        if self.entries:
            epoch, batches = self.entries[0]["position"]
            where = (
                f"in epoch {epoch}, after {batches} batches" if batches else f"epoch {epoch - 1}"
            )
            kept = f"The last checkpoint ({where}) is whole"
        return named_errors(path, needed, kept)

    def write(self, states: dict[str, Any], position: Position) -> None:
        """Write a checkpoint; the last one becomes the previous one.

        Args:
            states: What ESPnet's trainer saves; `EXTRA` may hold our own part.
            position: Where the run goes on.

        Raises:
            DiskError: If it cannot be written; what was there before is whole.
        """
        path, previous = self.directory / CHECKPOINT, self.directory / PREVIOUS
        needed = tensor_bytes(states)
        self._make_room(needed, previous)
        temporary = temporary_sibling(path)
        with self._errors(path, needed):
            try:
                with open(temporary, "wb") as file:
                    hashed = _Hashed(file)
                    self._dump(states, hashed)
                    file.flush()
                    os.fsync(file.fileno())
                entry = {
                    "sha256": hashed.hash.hexdigest(),
                    "bytes": hashed.bytes,
                    "position": list(position),
                    "weights": self._keep_weights(position[0]),
                    "about": self.about,
                }
                write_json(self.directory / LEDGER, [entry, *self.entries])
                self._rotate(path, previous)
                os.replace(temporary, path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        fsync_dir(self.directory)
        self.entries = [entry, *self.entries[:1]]
        self.saved, self._last = position, time.monotonic()
        self.forget()

    def _make_room(self, needed: int, previous: Path) -> None:
        """Give up the older of two checkpoints where a third does not fit, if that is enough."""
        if len(self.entries) < 2 or not previous.exists():
            return
        free = free_bytes(self.directory)
        if free < needed <= free + previous.stat().st_size:
            self.say(
                f"{size(needed)} are not free: {PREVIOUS} is removed before the next is written"
            )
            previous.unlink()
            del self.entries[1:]

    def _rotate(self, path: Path, previous: Path) -> None:
        if not self.entries:  # what may lie there is of a run that was not resumed
            previous.unlink(missing_ok=True)
        elif path.exists():
            link = temporary_sibling(previous)
            try:
                os.link(path, link)
                os.replace(link, previous)
            except OSError:  # no hard links here: for a moment there is only the previous one
                os.replace(path, previous)
            finally:  # two names of one file are not renamed onto each other
                link.unlink(missing_ok=True)

    def _keep_weights(self, before: int) -> list[str]:
        """Keep the weights of each epoch before this one that are there; returns their names."""
        kept, names = self.directory / KEPT, []
        for path in self.directory.glob(WEIGHTS):
            if not path.is_symlink() and int(path.name.removesuffix("epoch.pth")) < before:
                names.append(path.name)
                if not _same(path, kept / path.name):
                    kept.mkdir(exist_ok=True)
                    link_or_copy(path, kept / path.name)
        return sorted(names)

    def forget(self) -> None:
        """Remove kept weights that neither checkpoint needs."""
        needed = {name for entry in self.entries for name in entry["weights"]}
        for path in (self.directory / KEPT).glob("*"):
            if path.name not in needed:
                path.unlink()


def _same(source: Path, target: Path) -> bool:
    """Tell whether `link_or_copy` made the target of this source."""
    if not target.exists():
        return False
    ours, theirs = source.stat(), target.stat()
    return (ours.st_size, ours.st_mtime_ns) == (theirs.st_size, theirs.st_mtime_ns)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the file system has no hard links."""
    temporary = temporary_sibling(target)
    try:
        os.link(source, temporary)
    except OSError:
        try:
            shutil.copy2(source, temporary)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    os.replace(temporary, target)


def remove_checkpoints(directory: Path) -> None:
    """Remove everything that serves resuming, and the weights of epochs."""
    for path in directory.glob("*.pth"):
        path.unlink()
    with suppress(FileNotFoundError):
        (directory / LEDGER).unlink()
    shutil.rmtree(directory / KEPT, ignore_errors=True)
