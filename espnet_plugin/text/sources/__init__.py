"""Text files as a stream of picklable blocks, and blocks as records; constant memory.

`expand` finds the files, `blocks` cuts them (in one process), `read` reads a block (in any process).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.text.sources.records import REASONS, Block, Records, SourceSettings

__all__ = [
    "REASONS",
    "Block",
    "Records",
    "SourceSettings",
    "blocks",
    "expand",
    "fingerprint",
    "read",
    "where",
]


def expand(inputs: Sequence[str | Path]) -> list[Path]:
    """Find the text files that files, folders (recursive) and globs name; sorted, unique."""
    raise NotImplementedError


def blocks(paths: Sequence[Path], settings: SourceSettings) -> Iterator[Block]:
    """Cut files into blocks, in order."""
    raise NotImplementedError


def read(block: Block, settings: SourceSettings) -> Records:
    """Read a block."""
    raise NotImplementedError


def where(block: Block, line: int) -> str:
    """Name a line of a block as `file:line`, for messages."""
    raise NotImplementedError


def fingerprint(paths: Sequence[Path]) -> list[dict[str, Any]]:
    """Give `name`, `bytes` and `sha256` of each file."""
    raise NotImplementedError
