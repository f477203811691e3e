"""Batches of text a second, and memory: the token store against ESPnet's own text dataset.

python -m tests.bench.text_loader                           # 1 M lines, all three loaders
python -m tests.bench.text_loader --lines 38000000 --loaders store --dir /somewhere/large

The loaders read the same lines, with the same budget, in separate processes, one after the other:

    store        the token store, by `TextIterFactory`, in the process itself
    espnet_ids   ESPnet's dataset of type text_int: tokens made beforehand, prompt and end included
    espnet_text  ESPnet's dataset of type text: a Whisper tokenizer in its preprocessor

ESPnet's loaders get their default sampler for token budgets (`batch_type: numel`) and one worker
process, as they do in training. Tokens are counted without padding, prompt and end included (which
espnet_text, as ESPnet's preprocessor makes it, does not have).
Memory is proportional set size of the process and its workers, less what the imports take.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

LOADERS = ("store", "espnet_ids", "espnet_text")
LANGS = ["cs", "ms", "en"]
SHARD = 1 << 20  # lines
SYLLABLES = ("ba", "ca", "da", "ga", "ka", "la", "ma", "na", "pa", "sa", "ta", "ang", "er", "in")
SYLLABLES += ("kan", "me", "nya", "ter", "ing", "ed", "ya", "ja", "ha", "ra")


def vocabulary(builder: Any) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Make words, their tokens end to end and the number of tokens of each."""
    rng = np.random.default_rng(0)
    made = ("".join(rng.choice(SYLLABLES, int(n))) for n in rng.integers(1, 5, 4000))
    words = sorted(set(made))
    ids = builder.encode_batch(words)
    return words, np.concatenate(ids), np.asarray([len(i) for i in ids])


def make_data(directory: Path, lines: int, loaders: list[str], model: Path) -> None:
    """Write the corpus in the form that each loader reads; lengths as in web text (log-normal)."""
    from espnet_plugin.checkpoint import sha256_file
    from espnet_plugin.prompt import PromptBuilder
    from espnet_plugin.text_store import finish_store, write_shard
    from espnet_plugin.text_store.store import ranges

    builder = PromptBuilder(model)
    words, flat, width = vocabulary(builder)
    first = np.cumsum(width) - width
    common = 1 / np.arange(1, len(words) + 1)
    espnet = any(name != "store" for name in loaders)
    names = ("text", "ids", "shape") if espnet else ()
    files = {name: open(directory / f"espnet_{name}", "w") for name in names}  # noqa: SIM115
    prompt = {lang: builder.prompt(lang) for lang in LANGS}
    facts = []
    for shard, low in enumerate(range(0, lines, SHARD)):
        rng = np.random.default_rng([1, shard])
        n = min(SHARD, lines - low)
        count = np.clip(rng.lognormal(np.log(11), 0.7, n), 1, 80).astype(np.int64)
        chosen = rng.choice(len(words), int(count.sum()), p=common / common.sum())
        tokens = flat[ranges(first[chosen], width[chosen])].astype(np.uint16)
        ends = np.cumsum(count)
        lengths = np.add.reduceat(width[chosen], ends - count)
        keep = np.minimum(lengths, 440)  # very long ones end early
        tokens = tokens[ranges(np.cumsum(lengths) - lengths, keep)]
        codes = rng.integers(0, len(LANGS), n).astype(np.uint8)
        facts.append(write_shard(directory / "store", shard, tokens, keep, codes))
        if espnet:
            at = 0
            for i, (end, size) in enumerate(zip(ends.tolist(), keep.tolist(), strict=True)):
                utt = f"line{low + i:09d}"
                line = " ".join(words[w] for w in chosen[end - count[i] : end])
                body = tokens[at : at + size].tolist()
                ids = [*prompt[LANGS[codes[i]]], *body, builder.end]
                at += size
                files["text"].write(f"{utt} {line}\n")
                files["ids"].write(f"{utt} {' '.join(map(str, ids))}\n")
                files["shape"].write(f"{utt} {len(ids)}\n")
    for file in files.values():
        file.close()
    digest = sha256_file(model / "tokenizer.json")
    finish_store(directory / "store", facts, LANGS, digest, "as_is")


def open_store(directory: Path, bins: int, builder: Any) -> Callable[[int], Iterable[Any]]:
    """Open the token store as training does; there, the builder exists already."""
    from espnet_plugin.iterators import TextIterFactory
    from espnet_plugin.text_store import TextStore

    return TextIterFactory(TextStore(directory / "store"), builder, bins).build_iter


def open_espnet(directory: Path, bins: int, ids: bool) -> Callable[[int], Iterable[Any]]:
    """Open ESPnet's dataset as `AbsTask.build_sequence_iter_factory` does."""
    from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
    from espnet2.samplers.build_batch_sampler import build_batch_sampler
    from espnet2.train.collate_fn import CommonCollateFn
    from espnet2.train.dataset import ESPnetDataset
    from espnet2.train.preprocessor import CommonPreprocessor

    shapes = [str(directory / "espnet_shape")]
    sampler = build_batch_sampler("numel", batch_size=0, batch_bins=bins, shape_files=shapes)
    batches = list(sampler)
    preprocess = None
    if not ids:
        model = str(directory / "model")
        tokens = (directory / "model" / "tokens.txt").read_text(encoding="utf-8").splitlines()
        preprocess = CommonPreprocessor(
            True, token_type="hugging_face", token_list=tokens, bpemodel=model
        )
    kind = ("espnet_ids", "text_int") if ids else ("espnet_text", "text")
    dataset = ESPnetDataset([(str(directory / kind[0]), "text", kind[1])], preprocess)
    collate = CommonCollateFn(int_pad_value=-1)
    return SequenceIterFactory(
        dataset, batches, shuffle=True, num_workers=1, collate_fn=collate
    ).build_iter


def measure(loader: str, directory: Path, bins: int, seconds: float) -> dict[str, float]:
    """Open a loader and iterate over the first batches of two epochs, for some seconds each."""
    import espnet2.samplers.build_batch_sampler
    import espnet2.train.collate_fn
    import espnet2.train.dataset
    import espnet2.train.preprocessor  # noqa: F401
    import torch

    import espnet_plugin.iterators  # noqa: F401
    from espnet_plugin.prompt import PromptBuilder
    from espnet_plugin.resources import tree_bytes

    torch.set_num_threads(1)
    builder = PromptBuilder(directory / "model")
    builder.prompt("ms")  # reads the tokenizer
    before, peak = tree_bytes(os.getpid()), 0
    start = time.perf_counter()
    if loader == "store":
        build = open_store(directory, bins, builder)
    else:
        build = open_espnet(directory, bins, loader == "espnet_ids")
    opened = time.perf_counter() - start
    batches = tokens = positions = 0
    spent, begun = 0.0, []
    for epoch in (1, 2):
        start = last = time.perf_counter()
        for number, (_, batch) in enumerate(build(epoch)):
            now = time.perf_counter()
            if number == 0:  # a worker's start is not its pace
                begun.append(now - start)
                start = last = now
                continue
            batches += 1
            tokens += int(batch["text_lengths"].sum())
            positions += batch["text"].numel()
            if now - last > 1:  # measuring memory takes some time, which is not counted
                peak = max(peak, tree_bytes(os.getpid()))
                start += time.perf_counter() - now
                last = time.perf_counter()
            if now - start > seconds:
                break
        spent += time.perf_counter() - start
        peak = max(peak, tree_bytes(os.getpid()))
    return {
        "open_s": opened,
        "first_batch_s": max(begun),
        "batches": batches,
        "batches_s": batches / spent,
        "tokens_s": tokens / spent,
        "padding": 1 - tokens / positions,
        "memory_mb": (peak - before) / 1e6,
    }


def machine() -> str:
    """Name the machine's shape and the programs."""
    from importlib.metadata import version

    import psutil

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 1e9
    programs = ", ".join(f"{name} {version(name)}" for name in ("espnet", "torch", "numpy"))
    return (
        f"{cores} cores ({platform.machine()}), {memory:.0f} GB, Python "
        f"{platform.python_version()}, {programs}"
    )


def run(
    lines: int, bins: int, seconds: float, loaders: list[str], parent: Path | None = None
) -> dict[str, dict[str, float]]:
    """Make the data, run each loader in a process of its own, and print the figures."""
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    results: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(dir=parent) as made:
        directory = Path(made)
        start = time.perf_counter()
        model = build_tiny_whisper(directory / "model")
        make_data(directory, lines, loaders, model)
        print(machine())
        spent = time.perf_counter() - start
        print(f"{lines:,} lines, {bins:,} positions a batch; made in {spent:.0f} s")
        for name in loaders:
            command = [sys.executable, "-m", "tests.bench.text_loader", "--run", name]
            command += ["--dir", made, "--bins", str(bins), "--seconds", str(seconds)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            results[name] = json.loads(done.stdout.splitlines()[-1])
    columns = list(results[loaders[0]])
    print("".join(f"{text:>15}" for text in ("", *columns)))
    for name, found in results.items():
        print(f"{name:>15}" + "".join(f"{found[column]:>15,.4g}" for column in columns))
    for name in [n for n in loaders if n != "store" and "store" in results]:
        ratios = ", ".join(
            f"{column} x {results['store'][column] / results[name][column]:.3g}"
            for column in ("open_s", "batches_s", "tokens_s", "memory_mb")
        )
        print(f"store against {name}: {ratios}")
    return results


def main() -> None:
    """Read the options and run, all loaders or, in a child process, one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--bins", type=int, default=16_000, help="positions of a batch")
    parser.add_argument("--seconds", type=float, default=20, help="for each of two epochs")
    parser.add_argument("--loaders", nargs="+", default=list(LOADERS), choices=LOADERS)
    parser.add_argument("--dir", type=Path, help="where the data go; default: a temporary one")
    parser.add_argument("--run", choices=LOADERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(measure(args.run, args.dir, args.bins, args.seconds)))
    else:
        run(args.lines, args.bins, args.seconds, args.loaders, args.dir)


if __name__ == "__main__":
    main()
