"""What the command lines of training benchmarks share: glibc's settings, and giving out figures."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Freed memory stays with the process: giving it back and asking again takes longer than a step.
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


def start_with_malloc(module: str) -> None:
    """Start a module again if its process lacks the settings: glibc reads them as it starts."""
    if any(os.environ.get(name) != value for name, value in MALLOC.items()):
        os.environ |= MALLOC
        os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])


def give_out(found: dict[str, Any], lines: Iterable[str], path: str | None) -> dict[str, Any]:
    """Print a benchmark's table, write its figures to a file if one is named, and return them."""
    print("\n".join(lines), flush=True)
    if path:
        Path(path).write_text(json.dumps(found, indent=1) + "\n")
    return found
