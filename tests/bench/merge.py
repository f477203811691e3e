"""Merging two models: time, memory, bytes read and written, against other ways and the disk itself.

python -m tests.bench.merge                                    # two tiny models, for a try
python -m tests.bench.merge --scale large-v3 --dir /some/disk --mergekit /its/venv/bin/python

The pair has random weights in float16, the base in one file and the tuned model in shards. Each way
runs in a process of its own, with the inputs dropped from the system's file cache before (--cache
warm: read once before), and counts as done when its output is on the disk (fsync):

    floor     reads both inputs, writes a copy of one
    ours      merges at 0.4, inputs not hashed
    hashed    the same with the hashes of the inputs, as it is by default
    four      at 0.2, 0.4, 0.6 and 0.8 in one pass
    naive     load_file of both, the sum in float32, save_file (torch)
    mergekit  its linear method, in its default arithmetic (that of the stored type)

mergekit 0.1.5 cannot read Whisper: its table of tensor names lacks a dot after each prefix
("model.decoderembed_tokens.weight"). That is corrected here, in its process alone. It is run only
where --mergekit names a Python that has it.

Seconds are from the start of the process, imports included. Peak memory is the process's resident
set, which counts mapped files as far as they were touched. "read" counts what the process asked the
system for (`rchar`; reads of mapped files are not in it) and "disk" what came from the disk.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

WAYS = ("floor", "ours", "hashed", "four", "naive", "mergekit")
# Width, layers, tokens and mel bins of Whisper's sizes.
SCALES = {
    "tiny": (384, 4, 51865, 80),
    "small": (768, 12, 51865, 80),
    "medium": (1024, 24, 51865, 80),
    "large-v3": (1280, 32, 51866, 128),
}
RATIO = 0.4
FOUR = (0.2, 0.4, 0.6, 0.8)
SHARD = 1_000_000_000
PIECE = 8 << 20

Work = Callable[[Path, Path, Path], None]


def floor() -> Work:
    """Read both inputs, write one."""

    def work(base: Path, tuned: Path, output: Path) -> None:
        output.mkdir()
        buffer = memoryview(bytearray(PIECE))
        for directory in (tuned, base):
            for path in sorted(directory.glob("*.safetensors")):
                copy = open(output / path.name, "wb") if directory == base else None  # noqa: SIM115
                with open(path, "rb", buffering=0) as file:
                    while count := file.readinto(buffer):
                        if copy:
                            copy.write(buffer[:count])
                if copy:
                    copy.flush()
                    os.fsync(copy.fileno())
                    copy.close()

    return work


def ours(hashed: bool = False) -> Work:
    """Merge as the package does."""
    from espnet_plugin.merge import merge

    return lambda base, tuned, output: merge(base, tuned, output, RATIO, hash_inputs=hashed)  # type: ignore[return-value]


def four() -> Work:
    """Merge at four ratios in one pass."""
    from espnet_plugin.merge import merge_sweep

    def work(base: Path, tuned: Path, output: Path) -> None:
        output.mkdir()
        merge_sweep(base, tuned, {r: output / str(r) for r in FOUR}, hash_inputs=False)

    return work


def naive() -> Work:
    """Merge as one would without a tool."""
    import torch  # noqa: F401
    from safetensors.torch import load_file, save_file

    def load(directory: Path) -> dict[str, Any]:
        state: dict[str, Any] = {}
        for path in sorted(directory.glob("*.safetensors")):
            state |= load_file(path)
        return state

    def work(base: Path, tuned: Path, output: Path) -> None:
        output.mkdir()
        one, two = load(base), load(tuned)
        merged = {
            name: (RATIO * two[name].float() + (1 - RATIO) * tensor.float()).to(tensor.dtype)
            for name, tensor in one.items()
        }
        save_file(merged, output / "model.safetensors", metadata={"format": "pt"})

    return work


def mergekit() -> Work:
    """Merge by mergekit, its Whisper names corrected."""
    import mergekit.architecture.base as architecture
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    plain = architecture._prefix_weight

    def with_dot(weight: Any, prefix: str | None = None) -> Any:
        return plain(weight, f"{prefix.rstrip('.')}." if prefix else prefix)

    architecture._prefix_weight = with_dot

    def work(base: Path, tuned: Path, output: Path) -> None:
        models = [
            {"model": str(path), "parameters": {"weight": weight}}
            for path, weight in ((base, 1 - RATIO), (tuned, RATIO))
        ]
        config = {"merge_method": "linear", "models": models, "dtype": "float16"}
        options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
        run_merge(MergeConfiguration.model_validate(config), str(output), options=options)

    return work


def counters() -> dict[str, int]:
    """Read what the process has read and written so far."""
    path = Path("/proc/self/io")
    if not path.exists():
        return {}
    return {k: int(v) for k, v in (line.split(": ") for line in path.read_text().splitlines())}


def peak_bytes() -> int:
    """Read the process's largest resident set."""
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; the other counts what forked it, too
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if platform == "darwin" else 1024
    )


def child(way: str, directory: Path) -> None:
    """Run one way, and print what it used."""
    makers: dict[str, Callable[[], Work]] = {
        "floor": floor,
        "ours": ours,
        "hashed": lambda: ours(True),
        "four": four,
        "naive": naive,
        "mergekit": mergekit,
    }
    start = time.perf_counter()
    work = makers[way]()
    imports, before = time.perf_counter() - start, counters()
    work(directory / "base", directory / "tuned", directory / "out")
    after = counters()
    used = {key: after[key] - before[key] for key in after}
    print(json.dumps({"imports": imports, "peak": peak_bytes(), **used}))


def prepare(directory: Path, cache: str) -> None:
    """Bring the inputs to the disk, and into or out of the system's file cache."""
    os.sync()
    for path in directory.glob("*/*.safetensors"):
        with open(path, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            if cache == "warm":
                while file.read(PIECE):
                    pass


def run(way: str, directory: Path, cache: str, python: str) -> dict[str, float]:
    """Run one way in a process of its own, up to the output's being on the disk."""
    prepare(directory, cache)
    command = [python, str(Path(__file__).resolve()), "--run", way, "--dir", str(directory)]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "PYTHONPATH": path}
    start = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{way} failed (exit code {done.returncode})")
    for file in (directory / "out").rglob("*.safetensors"):
        with open(file, "r+b") as opened:
            os.fsync(opened.fileno())
    seconds = time.perf_counter() - start
    return {"seconds": seconds, **json.loads(done.stdout.splitlines()[-1])}


def machine() -> str:
    """Name the machine's shape and the programs."""
    from importlib.metadata import version

    import psutil

    memory = psutil.virtual_memory().total / 1e9
    programs = ", ".join(
        f"{name} {version(name)}" for name in ("numba", "numpy", "torch", "safetensors")
    )
    return (
        f"{len(os.sched_getaffinity(0))} cores ({platform.machine()}), {memory:.0f} GB, Python "
        f"{platform.python_version()}, {programs}"
    )


def table(results: dict[str, list[dict[str, float]]], inputs: int) -> str:
    """Lay out medians over the runs."""
    middle = {w: {k: median(r[k] for r in runs) for k in runs[0]} for w, runs in results.items()}
    lines = ["way        seconds  imports  x floor  peak GB  read GB  disk GB  written GB"]
    base = middle.get("floor", {}).get("seconds", float("nan"))
    for way, found in middle.items():
        lines.append(
            f"{way:9} {found['seconds']:8.2f} {found['imports']:8.2f} "
            f"{found['seconds'] / base:8.2f} {found['peak'] / 1e9:8.2f}"
            + "".join(f" {found.get(k, 0) / 1e9:8.2f}" for k in ("rchar", "read_bytes", "wchar"))
        )
    if "ours" in middle and "mergekit" in middle:
        one, other = middle["ours"], middle["mergekit"]
        lines.append(
            f"against mergekit: {other['seconds'] / one['seconds']:.1f} times its speed, "
            f"{one['peak'] / other['peak']:.3f} of its memory"
        )
    if "four" in middle:
        share = middle["four"].get("rchar", 0) / inputs
        lines.append(f"four ratios read {share:.2f} times the bytes of the two inputs")
    return "\n".join(lines)


def main() -> None:
    """Make the pair, run each way, check what they made, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="tiny")
    parser.add_argument("--dir", type=Path, help="where the models go; default: a temporary one")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--cache", choices=("cold", "warm"), default="cold")
    parser.add_argument("--mergekit", help="a Python that has mergekit")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--run", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        child(args.run, args.dir)
        return
    from espnet_plugin.checkpoint import tensor_hashes, write_json
    from tests.fixtures.random_model import whisper_config, write_random_model

    ways = [way for way in args.ways if way != "mergekit" or args.mergekit]
    if len(ways) < len(args.ways):
        print("mergekit: not run; --mergekit names a Python that has it")
    results: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(dir=args.dir) as made:
        directory = Path(made)
        width, layers, tokens, mels = SCALES[args.scale]
        config = whisper_config(width, layers, vocab_size=tokens, mels=mels)
        write_random_model(directory / "base", config)
        write_random_model(directory / "tuned", config, seed=1, max_shard_bytes=SHARD)
        inputs = sum(path.stat().st_size for path in directory.glob("*/*.safetensors"))
        print(f"{machine()}; {args.scale}: two models of {inputs / 2e9:.2f} GB, cache {args.cache}")
        expected: dict[str, str] = {}
        first = ""
        for repeat in range(args.repeats):
            for way in ways:
                python = args.mergekit if way == "mergekit" else sys.executable
                results[way].append(run(way, directory, args.cache, python))
                if repeat == 0 and way != "floor":
                    output = directory / "out" / (str(RATIO) if way == "four" else "")
                    hashes = tensor_hashes(output)
                    if not expected:
                        expected, first = hashes, way
                    same = sum(hashes.get(name) == digest for name, digest in expected.items())
                    print(f"{way}: {same} of {len(expected)} tensors as {first} makes them")
                shutil.rmtree(directory / "out")
    print(table(results, inputs))
    if args.output:
        write_json(args.output, {"machine": machine(), "scale": args.scale, "results": results})


if __name__ == "__main__":
    main()
