"""Events of a run: a sentence for people in the log and on stdout, facts in `events.jsonl`."""

import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from espnet_plugin.monitor.console import SHOWN

FILE = "events.jsonl"
SAID = 10  # events of one kind and epoch that are put on stdout; the log and the file have all


def read_events(path: Path) -> list[dict[str, Any]]:
    """Read a run's events; a last line that a kill cut off is left out.

    Raises:
        ValueError: If another line is no JSON.
    """
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}:{number}: {error}") from None
    return found


class Events:
    """Records events; on ranks other than the first only in their log.

    Attributes:
        say: Puts a line on stdout; replaced where a progress bar must be kept whole.
        counts: Events so far in this epoch by kind.
    """

    def __init__(self, output_dir: Path, label: str, main: bool = True) -> None:
        """Prepare; the file is made with the first event.

        Args:
            output_dir: Where `events.jsonl` is.
            label: The run's name, for people.
            main: Whether this process writes the file (rank 0).
        """
        self.path, self.label, self.main = output_dir / FILE, label, main
        self.say: Callable[[str], None] = lambda text: print(text, flush=True)
        self.counts: Counter[str] = Counter()
        self.epoch = 0

    def begin_epoch(self, epoch: int) -> None:
        """Count anew."""
        self.epoch = epoch
        self.counts.clear()

    def record(self, kind: str, text: str, raised: bool = False, **facts: Any) -> None:
        """Record an event.

        Args:
            kind: One word, e.g. `spike`.
            text: What happened, and what to do about it.
            raised: Whether it is about to be raised as an error, which says it.
            facts: What else goes into the file; JSON values.
        """
        self.counts[kind] += 1
        text = f"{self.label}: {text}"
        if not self.main:
            logging.warning(text)
            return
        few = self.counts[kind] <= SAID
        logging.info(text, extra=SHOWN if raised or few else None)
        if few and not raised:
            self.say(text)
        if self.counts[kind] == SAID:
            self.say(f"{self.label}: more of this kind ({kind}) in this epoch: {self.path}")
        entry = {"event": kind, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "epoch": self.epoch}
        line = json.dumps(entry | facts | {"text": text}, ensure_ascii=False) + "\n"
        _drop_torn_line(self.path)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line that a kill left unfinished."""
    if not path.is_file() or not path.stat().st_size:
        return
    with open(path, "rb+") as file:
        file.seek(-1, os.SEEK_END)
        if file.read() != b"\n":
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
