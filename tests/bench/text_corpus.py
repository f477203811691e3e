"""Corpus preparation: lines a second from a text file to finished shards, and peak memory.

python -m tests.bench.text_corpus                     # 2 M lines, all limits but near-duplicates
python -m tests.bench.text_corpus --lines 38000000 --dir /somewhere/large
python -m tests.bench.text_corpus --lines 20000       # a quick try

The program runs as users run it, in a process of its own with its workers; memory is the sum of the
resident sizes of all of them, sampled 5 times a second (pages that they share count in each). The
table of steps is measured apart, on one core, over the first lines of the same text: what each step
costs a line, in a process that has worked on the next lines before (its caches of words are warm).
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

SAMPLE = 100_000  # lines whose steps are timed
CONFIG = """
max_words: 200
scripts: [Latin, Han, Tamil]
min_cmi: 2
max_lines_per_source: {cap}
valid_share: 0.001
"""


def tree_rss(pid: int) -> int:
    """Add up the resident sizes of a process and its descendants, in bytes."""
    import psutil

    total = 0
    try:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    for process in tree:
        try:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total


def run_watched(command: list[str]) -> tuple[float, float]:
    """Run a command; return its seconds and the peak of its processes' memory in 10^9 bytes."""
    start, peak, ended = time.monotonic(), 0, threading.Event()
    process = subprocess.Popen(command)

    def sample() -> None:
        nonlocal peak
        while not ended.wait(0.2):
            peak = max(peak, tree_rss(process.pid))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        code = process.wait()
    finally:
        ended.set()
        thread.join()
    if code:
        raise SystemExit(code)
    return time.monotonic() - start, peak / 1e9


class Steps:
    """Seconds of named steps; what runs inside another step counts for itself alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        outer, self._inner = self._inner, 0.0
        start = time.perf_counter()
        yield
        taken = time.perf_counter() - start
        self.seconds[name] = self.seconds.get(name, 0.0) + taken - self._inner
        self._inner = outer + taken

    def wrap(self, place: Any, attribute: str, name: str) -> None:
        """Time all calls of a function or method."""
        inner = getattr(place, attribute)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.step(name):
                return inner(*args, **kwargs)

        setattr(place, attribute, timed)


def profile(text: Path, model: Path, config: Path, folder: Path) -> tuple[int, dict[str, float]]:
    """Time the steps over the first lines of a file, here; return lines, and seconds by step."""
    from espnet_plugin.text.corpus import mapping, sharding
    from espnet_plugin.text.corpus.choosing import choose
    from espnet_plugin.text.corpus.config import CorpusConfig, read_settings
    from espnet_plugin.text.corpus.plan import Plan
    from espnet_plugin.text.corpus.units import Units
    from espnet_plugin.text.sources import blocks
    from espnet_plugin.text.stats import TextStats

    settings = read_settings(CorpusConfig, config)
    languages = (("cs", "ms"), ("ms", "ms"), ("en", "en"))
    plan = Plan(settings, str(model), languages, None, str(folder / "profile"))
    tools, steps = plan.tools, Steps()
    head, rest = folder / "head.txt", folder / "rest.txt"
    with open(text, "rb") as file:
        head.write_bytes(b"".join(islice(file, SAMPLE)))
        rest.write_bytes(b"".join(islice(file, 3 * SAMPLE)) or b"saya makan\n")
    for warm, path in ((True, rest), (False, head)):
        shutil.rmtree(plan.work, ignore_errors=True)
        if not warm:
            steps.wrap(mapping, "read", "read")
            steps.wrap(tools.cleaner, "clean", "clean")
            steps.wrap(tools.tagger, "tag_block", "tag words")
            steps.wrap(tools.tagger, "line_languages", "language of lines")
            steps.wrap(mapping, "judge", "limits")
            steps.wrap(mapping, "cmi_of", "limits")
            steps.wrap(tools.encoder, "encode", "tokenise")
            steps.wrap(TextStats, "add_block", "statistics (twice)")
            steps.wrap(mapping, "line_hashes", "hash")
            steps.wrap(Units, "write", "write and read work")
            steps.wrap(Units, "read", "write and read work")
            steps.wrap(sharding, "write_shard", "write shards")
        with steps.step("all else"):
            facts = [mapping.map_block(plan, block) for block in blocks([path], plan.sources)]
            with steps.step("choose lines"):
                choices = choose(plan, [fact["lines"] for fact in facts], True)
            for part in ("train", "valid"):
                for shard in sharding.shards_of(part, choices, 1 << 20, folder / "profiled" / part):
                    sharding.make_shard(plan, choices, shard)
        if warm:
            steps.seconds.clear()
    return sum(fact["read"] for fact in facts), steps.seconds


def run(lines: int, workers: int, model: Path | None, folder: Path) -> dict[str, float]:
    """Run the benchmark in a folder and print it; return what was measured."""
    from espnet_plugin.text_store import TextStore
    from tests.bench.web_text import write_web_text
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    if model is None:
        model = build_tiny_whisper(folder / "model")  # small, with Whisper's real tokenizer
    text, config = folder / "web.txt", folder / "config.yaml"
    config.write_text(CONFIG.format(cap=lines * 7 // 10))  # of the one source that there is
    start = time.monotonic()
    size = write_web_text(text, lines)
    made = time.monotonic() - start
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors", end="; ")
    print(f"{lines:,} lines, {size / 1e9:.2f} GB of text, made in {made:.0f} s", flush=True)
    command = [sys.executable, "-m", "espnet_plugin.bin.text_corpus", "prepare"]
    command += ["--input", str(text), "--output", str(folder / "train"), "--model", str(model)]
    command += ["--valid_output", str(folder / "valid"), "--config", str(config)]
    seconds, peak = run_watched([*command, "--workers", str(workers), "--keep_work"])
    stores = [TextStore(folder / part) for part in ("train", "valid")]
    read = stores[0].manifest["read"]
    assert read == lines
    assert stores[0].manifest["dropped"]["source_cap"], "the cap did not bite: it was not measured"
    work = sum(p.stat().st_size for p in (folder / ".train.work").rglob("*") if p.is_file())
    store = sum(facts["bytes"] for opened in stores for facts in opened.manifest["shards"])
    shutil.rmtree(folder / ".train.work")
    counted, steps = profile(text, model, config, folder)
    print(f"\n| step (one core, {counted:,} lines) | µs/line |\n| --- | ---: |")
    for name, taken in sorted(steps.items(), key=lambda item: -item[1]):
        print(f"| {name} | {1e6 * taken / counted:.1f} |")
    total = sum(steps.values())
    print(f"| all | {1e6 * total / counted:.1f} ({counted / total:,.0f} lines/s) |\n")
    print(f"{workers} workers: {seconds:.1f} s, {read / seconds:,.0f} lines/s from file to stores")
    print(f"peak memory of all processes {peak:.2f} GB (resident sizes added up)")
    print(f"disk: text {size / 1e9:.2f} GB, work {work / 1e9:.2f} GB, stores {store / 1e9:.2f} GB")
    return {"lines_per_second": read / seconds, "peak_gb": peak}


def main() -> None:
    """Parse the options and run."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("--lines", type=int, default=2_000_000)
    options.add_argument("--workers", type=int, default=os.cpu_count())
    options.add_argument("--model", type=Path, help="model directory; default: a tiny one")
    options.add_argument("--dir", type=Path, help="where the data goes; default: a temporary one")
    args = options.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        run(args.lines, args.workers, args.model, Path(folder))


if __name__ == "__main__":
    main()
