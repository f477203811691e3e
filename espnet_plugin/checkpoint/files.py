"""Atomic files and directories, JSON and file hashes; standard library only."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


def fsync_dir(path: Path) -> None:
    """Make a rename in a directory durable (a no-op where directories cannot be opened)."""
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def temporary_sibling(path: str | Path) -> Path:
    """Return an unused hidden name beside ``path``; renaming from there to ``path`` is atomic."""
    path = Path(path)
    return path.parent / f"{_stem(path)}{os.getpid()}.{secrets.token_hex(4)}.tmp"


def _stem(path: Path) -> str:
    """Return how temporary names beside `path` begin on this machine."""
    node = hashlib.sha256(platform.node().encode()).hexdigest()[:6]
    return f".{path.name}.{node}."


def remove_leftovers(path: str | Path) -> None:
    """Remove the temporary directories of processes of this machine that were killed.

    They may hold gigabytes. What another machine writes on the same file system is left alone.

    Args:
        path: The path that the directories stand beside, as given to `temporary_sibling`.
    """
    path = Path(path)
    if not path.parent.is_dir():
        return
    for leftover in path.parent.glob(f"{glob.escape(_stem(path))}*.tmp"):
        pid = leftover.name.split(".")[-3]
        if leftover.is_dir() and pid.isdecimal() and not _is_running(int(pid)):
            shutil.rmtree(leftover, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a file that appears under its name only when complete.

    The block writes to a temporary file in the same directory, which is flushed to disk and renamed
    at the end. An exception leaves what was there before.

    Args:
        path: The file to make or replace. Missing parent directories are made.
        mode: ``"wb"``, or ``"w"`` for UTF-8 text with Unix line ends.

    Yields:
        The open file.

    Raises:
        ValueError: The mode is another one.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"atomic_write: mode {mode!r}, allowed are 'w' and 'wb'")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(path)
    text = {"encoding": "utf-8", "newline": "\n"} if mode == "w" else {}
    try:
        with open(temporary, mode, **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_dir(path.parent)


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Build a new directory that appears under its name only when complete.

    Args:
        path: The directory to make.

    Yields:
        A temporary directory beside it, renamed to ``path`` at the end.

    Raises:
        ValueError: ``path`` exists and is not an empty directory.
    """
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise ValueError(f"{path}: exists already; remove it or choose another output directory")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = temporary_sibling(path)
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync_dir(path.parent)


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented UTF-8 JSON, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(value, file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It is not UTF-8 JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:  # JSON and UTF-8 errors alike
        raise ValueError(f"{path}: not a JSON file ({error})") from None


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
