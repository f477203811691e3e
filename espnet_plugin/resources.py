"""Measure what a command and all its children use: wall-clock time and peak memory.

The operating system's own figure (``ru_maxrss``) is that of the largest single process; a recipe
runs several at once, so the tree is sampled and its processes are added up.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

Gigabytes = float

INTERVAL = 1.0  # seconds between two samples


@dataclass
class Usage:
    """What a command used.

    Attributes:
        exit_code: The command's; 128 + n where signal n ended it.
        seconds: Wall-clock time.
        peak_gb: The most memory that its processes held together, in 10^9 bytes. Pages that
            processes share count once where the system tells (Linux), else once for each.
    """

    exit_code: int
    seconds: float
    peak_gb: Gigabytes


def tree_bytes(pid: int, known: int = 0) -> int:
    """Add up the memory of a process and its descendants, in bytes; what just ended counts 0.

    Args:
        pid: The process.
        known: A peak seen before. Asking for proportional sizes stops the process for a moment,
            so that is done only where the resident sizes, an upper bound, come out clearly above.
    """
    import psutil

    def proportional(process: "psutil.Process") -> int:
        try:
            # a page shared by n processes is 1/n in each
            return int(process.memory_full_info().pss)
        except AttributeError:
            return int(process.memory_info().rss)

    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0

    def total(size: "Callable[[psutil.Process], int]") -> int:
        found = 0
        for process in tree:
            with contextlib.suppress(psutil.Error):
                found += size(process)
        return found

    resident = total(lambda process: int(process.memory_info().rss))
    return min(resident, known) if resident <= 1.02 * known else total(proportional)


def watch(command: Sequence[str], interval: float = INTERVAL) -> Usage:
    """Run a command to its end and measure it.

    An interrupt or a termination request reaches the command, and its end is awaited.

    Args:
        command: Program and arguments.
        interval: Seconds between two samples.

    Returns:
        Its exit code, time and peak memory.

    Raises:
        FileNotFoundError: There is no such program.
        ModuleNotFoundError: psutil, which measures, is not installed (extra `demo`).
    """
    import psutil  # noqa: F401  # missing, it has to stop this before hours of work, not after

    start = time.monotonic()
    child = subprocess.Popen(list(command))
    peak = 0
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.is_set():
            peak = max(peak, tree_bytes(child.pid, peak))
            ended.wait(interval)

    def forward(number: int, frame: FrameType | None) -> None:
        child.send_signal(number)

    sampler = threading.Thread(target=sample, daemon=True)
    # a terminal sends its interrupt to the command as well: only await the end
    previous = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda number, frame: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, forward),
    }
    try:
        sampler.start()
        code = child.wait()
    finally:
        ended.set()
        sampler.join()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if code < 0:
        code = 128 - code
    return Usage(exit_code=code, seconds=time.monotonic() - start, peak_gb=peak / 1e9)


def report(usage: Usage, max_gb: Gigabytes | None = None, output: Path | None = None) -> int:
    """Print a measurement, keep it, and judge it.

    Args:
        usage: What was measured.
        max_gb: More peak memory than this is a failure.
        output: Where to write it as JSON.

    Returns:
        The exit code: the command's, or 1 where only the memory is too much.
    """
    minutes, seconds = divmod(round(usage.seconds), 60)
    print(f"time {minutes}:{seconds:02d} (min:s), peak memory {usage.peak_gb:.2f} GB")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        part = output.with_name(f"{output.name}.{os.getpid()}.part")
        part.write_text(json.dumps(asdict(usage), indent=1) + "\n", encoding="utf-8")
        part.replace(output)
    if usage.exit_code == 0 and max_gb is not None and usage.peak_gb > max_gb:
        print(
            f"error: peak memory {usage.peak_gb:.2f} GB is over the limit of {max_gb:g} GB",
            file=sys.stderr,
        )
        return 1
    return usage.exit_code
