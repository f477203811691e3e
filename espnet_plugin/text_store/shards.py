"""One shard of a token store: a file of lines as token ids, laid out to be memory-mapped.

A shard is one file, so that it appears as a whole or not at all. Its parts, little-endian, lie
one after the other; their sizes follow from the shard's facts in the manifest:

    by_length  uint32 (languages, longest + 1)  lines of each language and each number of tokens
    offsets    uint32 (lines + 1,)              where each line's tokens begin, and the end
    order      uint32 (lines,)                  lines by language, then length, then place
    tokens     uint16 (tokens,)                 the text's tokens, without prompt and end
    langs      uint8 (lines,)                   index into the manifest's languages

uint16 holds every Whisper token (51 866). `by_length` and `order` let a reader find the n-th line
of any length at once, without an array as long as the corpus.
"""

import hashlib
import mmap
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import atomic_write, sha256_file
from espnet_plugin.prompt import MAX_TOKENS

SHARD_LINES = 1 << 20
"""Lines of a shard that suit this reader: each open shard holds one file handle."""


def write_shard(
    directory: str | Path,
    index: int,
    tokens: np.ndarray,
    lengths: np.ndarray,
    langs: np.ndarray,
) -> dict[str, Any]:
    """Write `shard-INDEX.bin`, atomically; the same input gives the same bytes.

    Args:
        directory: The store's; it is made if it is missing.
        index: Place of the shard in the store, from 0.
        tokens: `(tokens,)` ids below 65 536, the lines' tokens end to end.
        lengths: `(lines,)` tokens of each line, at least 1.
        langs: `(lines,)` language of each line: an index into the store's languages.

    Returns:
        The shard's facts for `finish_store`: `name`, `lines`, `tokens`, `longest` (tokens),
        `lines_by_code`, `bytes`, `sha256`.

    Raises:
        ValueError: If the arrays do not fit together.
        OSError: If the file cannot be written (a full disk); finished shards stay.
    """
    path = Path(directory) / f"shard-{index:05d}.bin"
    lengths = np.asarray(lengths).astype(np.int64)
    _check(path, tokens, lengths, langs)
    codes = np.asarray(langs).astype(np.uint8)
    longest = int(lengths.max(initial=0))
    width, languages = longest + 1, int(codes.max(initial=0)) + 1
    key = codes * np.int64(width) + lengths
    parts = [
        np.bincount(key, minlength=languages * width).astype("<u4"),
        np.concatenate([[0], np.cumsum(lengths)]).astype("<u4"),
        np.argsort(key, kind="stable").astype("<u4"),
        np.asarray(tokens).astype("<u2"),
        codes,
    ]
    digest = hashlib.sha256()
    try:
        with atomic_write(path) as file:
            for part in parts:
                file.write(part.data)
                digest.update(part.data)
    except OSError as error:
        reason = f"{error.strerror}; shards that are finished stay, a rerun continues from them"
        raise OSError(error.errno, reason, str(path)) from error
    return {
        "name": path.name,
        "lines": len(lengths),
        "tokens": len(tokens),
        "longest": longest,
        "lines_by_code": np.bincount(codes, minlength=languages).tolist(),
        "bytes": sum(part.nbytes for part in parts),
        "sha256": digest.hexdigest(),
    }


def _check(path: Path, tokens: np.ndarray, lengths: np.ndarray, langs: np.ndarray) -> None:
    """Raise ValueError, naming the shard, if the arrays do not fit together."""
    if len(lengths) != len(langs) or int(lengths.sum()) != len(tokens):
        raise ValueError(
            f"{path}: {len(lengths)} lengths that sum to {int(lengths.sum())}, {len(langs)} "
            f"languages and {len(tokens)} tokens do not fit together"
        )
    if len(tokens) >= 1 << 32:
        raise ValueError(f"{path}: {len(tokens)} tokens, a shard holds less than 2**32")
    if len(lengths) and not 1 <= int(lengths.min()) <= int(lengths.max()) <= MAX_TOKENS:
        raise ValueError(
            f"{path}: lines of {lengths.min()} to {lengths.max()} tokens, allowed are 1 to "
            f"{MAX_TOKENS}"
        )
    for name, array, bits in (("token", tokens, 16), ("language", langs, 8)):
        if len(array) and not 0 <= int(array.min()) <= int(array.max()) < 1 << bits:
            raise ValueError(f"{path}: a {name} does not fit into {bits} bits: {array.max()}")


def shard_problem(directory: str | Path, facts: Mapping[str, Any], read: bool) -> str:
    """Say what is wrong with a shard; an empty text if nothing is.

    Args:
        directory: The store's.
        facts: The shard's, as `write_shard` returned them.
        read: True reads the file and compares its checksum, False looks at the size alone.
    """
    path = Path(directory) / facts["name"]
    if not path.is_file():
        return f"{path} is missing"
    if (size := path.stat().st_size) != facts["bytes"]:
        return f"{path}: {size} bytes, the manifest says {facts['bytes']}: truncated or altered"
    if read and sha256_file(path) != facts["sha256"]:
        return f"{path}: the checksum differs from the manifest's: altered"
    return ""


def shard_is_finished(directory: str | Path, facts: Mapping[str, Any]) -> bool:
    """Tell whether a shard that an earlier run wrote is there, unaltered (reads it)."""
    return not shard_problem(directory, facts, read=True)


class Shard:
    """A shard's arrays, mapped when they are first used.

    Attributes:
        path: The file.
        lines: Number of lines.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        """Remember where the shard is; nothing is read."""
        self.path, self.lines, self._facts = path, int(facts["lines"]), facts

    @cached_property
    def _map(self) -> mmap.mmap:
        with open(self.path, "rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, ...]:
        facts, at, found = self._facts, 0, []
        counts = len(facts["lines_by_code"]) * (facts["longest"] + 1)
        for dtype, count in (
            ("<u4", counts),
            ("<u4", self.lines + 1),
            ("<u4", self.lines),
            ("<u2", facts["tokens"]),
            ("u1", self.lines),
        ):
            found.append(np.frombuffer(self._map, dtype, count, at))
            at += found[-1].nbytes
        return tuple(found)

    @property
    def by_length(self) -> np.ndarray:
        """Number of lines `(languages, longest + 1)` uint32 of each language and length."""
        return self._arrays[0].reshape(len(self._facts["lines_by_code"]), -1)

    @property
    def offsets(self) -> np.ndarray:
        """Where lines begin `(lines + 1,)` uint32, in tokens."""
        return self._arrays[1]

    @property
    def order(self) -> np.ndarray:
        """Lines `(lines,)` uint32 by language, then length."""
        return self._arrays[2]

    @property
    def tokens(self) -> np.ndarray:
        """All tokens `(tokens,)` uint16."""
        return self._arrays[3]

    @property
    def langs(self) -> np.ndarray:
        """Language codes `(lines,)` uint8."""
        return self._arrays[4]

    def extents(self, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where lines begin and how many tokens they have, `(n,)` int64 each.

        Raises:
            ValueError: If the file was altered so that an offset makes no sense; names it.
        """
        begins = self.offsets[lines].astype(np.int64)
        lengths = self.offsets[lines + 1].astype(np.int64) - begins
        if len(lines):
            least, most = int(lengths.min()), int(lengths.max())
            inside = int((begins + lengths).max()) <= self._facts["tokens"]
            self.expect(1 <= least <= most <= self._facts["longest"] and inside, "its offsets")
        return begins, lengths

    def expect(self, holds: bool, what: str) -> None:
        """Raise ValueError, naming the file, if it cannot be what was written."""
        if not holds:
            raise ValueError(f"{self.path}: {what} cannot be: the file was altered, make it again")

    def release(self) -> None:
        """Give mapped pages back; they stay in the system's cache while it has room."""
        if "_map" in self.__dict__ and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
