"""What a training step of stage 1 takes, against plain transformers code, on this machine.

python -m tests.bench.stage1                    # Whisper base's size, random weights, two rounds
python -m tests.bench.stage1 --batches 3 --rounds 1 --systems a b

All systems train the same groups on the same lines, with the same optimiser (fused AdamW, gradient
clipping) and as many updates, in one process, taking turns round by round. The
lines are those of some batches of a corpus of 20 000, at even distances from the shortest to the
longest, so that lengths and padding are the corpus's.

    a        transformers, a zero encoder output of 1 500 frames, shuffled padded batches, fp32:
             what a user would write
    a1       transformers, an encoder output of 1 frame, batches of similar length, fp32: the best
             that a careful user would write
    a1_bf16  the same under bfloat16 autocast
    b        ours, fp32: token store, exact constant for cross-attention, chunked loss
    c        ours, bfloat16
    b_comp   ours, fp32, with `compile: true` (not by default: compiling takes a minute)
    c_comp   ours, bfloat16, with `compile: true`

Tokens are counted without padding, prompt and end included. GFLOP are those that the lines need
(matrix products of the trained decoder, forward and backward, no padding, no logits of the prompt),
the same for all systems. The matrix products' peak is measured between the rounds, on the largest
shapes of the step. The environment is the recipe's (path.sh: glibc keeps freed memory), for all.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.running import give_out, start_with_malloc

SIZES = {  # width, decoder layers, heads
    "tiny": (64, 2, 2),
    "base": (512, 6, 8),
    "small": (768, 12, 12),
    "large-v3": (1280, 32, 20),
}
SYSTEMS = ("a", "a1", "a1_bf16", "b", "c", "b_comp", "c_comp")
FRAMES = 1500
CORPUS = 20_000  # lines


@dataclass
class Measured:
    """One system's figures; `seconds` of each round are for the same lines."""

    name: str
    dtype: str
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(self.seconds)


def write_lines(directory: Path, model: Path, lines: int) -> Any:
    """Write a store of random tokens; lengths as in web text (log-normal, mean 21)."""
    from espnet_plugin.checkpoint import sha256_file
    from espnet_plugin.text_store import TextStore, finish_store, write_shard

    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(2.9, 0.55, lines)).astype(np.int32), 2, 200)
    tokens = rng.integers(300, 50_000, int(lengths.sum())).astype(np.uint16)
    codes = rng.integers(0, 3, lines).astype(np.uint8)
    shard = write_shard(directory, 0, tokens, lengths, codes)
    digest = sha256_file(model / "tokenizer.json")
    finish_store(directory, [shard], ["cs", "ms", "en"], digest, "as_is", {})
    return TextStore(directory)


def choose_lines(store: Any, builder: Any, bins: int, number: int) -> list[np.ndarray]:
    """Choose batches of stage 1, from the shortest lines to the longest; return their lines."""
    from espnet_plugin.iterators import TextIterFactory

    every = list(TextIterFactory(store, builder, bins, seed=1).lines_of_epoch(1))
    every.sort(key=lambda lines: len(store[int(lines[0])][0]))
    return [every[int((i + 0.5) * len(every) / number)] for i in range(number)]


def padded(store: Any, builder: Any, lines: np.ndarray) -> dict[str, Any]:
    """Read lines into a batch as the model takes it."""
    import torch

    rows = []
    for line in lines:
        tokens, lang = store[int(line)]
        rows.append(torch.tensor([*builder.prompt(lang), *tokens.tolist(), builder.end]))
    text = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
    return {"text": text, "text_lengths": torch.tensor([len(r) for r in rows])}


def transformers_loss(whisper: Any, batch: dict[str, Any], frames: int, half: bool) -> Any:
    """Run transformers' Whisper as its documentation does, with an encoder output of zeros."""
    import torch

    text = batch["text"]
    memory = torch.zeros(len(text), frames, whisper.config.d_model, device=text.device)
    labels = text[:, 1:].masked_fill(text[:, 1:] < 0, -100)
    labels[:, :3] = -100  # language, task, no-timestamps
    with torch.autocast(text.device.type, torch.bfloat16, enabled=half):
        return whisper(
            encoder_outputs=(memory,), decoder_input_ids=text[:, :-1].clamp(min=0), labels=labels
        ).loss


def our_loss(model: Any, batch: dict[str, Any]) -> Any:
    return model(**batch)[0][0]


@dataclass
class System:
    """A model, its optimiser, its batches and how a batch's loss is computed."""

    model: Any
    optimizer: Any
    batches: list[dict[str, Any]]
    loss: Callable[[dict[str, Any]], Any]

    def run(self) -> tuple[float, float]:
        """Train one pass; return its seconds and its last loss."""
        import torch

        trained = [p for p in self.model.parameters() if p.requires_grad]
        _wait()
        start = time.perf_counter()
        for batch in self.batches:
            loss = self.loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        _wait()
        return time.perf_counter() - start, float(loss)


def _wait() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def build(name: str, directory: Path, data: Any, args: argparse.Namespace) -> System:
    """Build one system; every one starts from the same weights."""
    import torch

    from espnet_plugin.freeze import FreezeSchedule
    from espnet_plugin.model import AsyncSwitchModel
    from espnet_plugin.optim import build_optimizer
    from espnet_plugin.stages import STAGES

    store, builder, chosen = data
    half = name in ("a1_bf16", "c", "c_comp")
    if name.startswith("a"):
        from transformers import WhisperForConditionalGeneration

        model: Any = WhisperForConditionalGeneration.from_pretrained(directory)
    else:
        model = AsyncSwitchModel(
            directory, autocast="bfloat16" if half else "none", compile=name.endswith("comp")
        )
    model.to(args.device).train()
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-5, "fused": True})
    FreezeSchedule(optimizer, trainable=list(STAGES["adapt_text"].trains)).begin_epoch(1)
    if name == "a":  # as a plain DataLoader does
        lines = np.random.default_rng(1).permutation(np.concatenate(chosen))
        chosen = np.array_split(lines, len(chosen))
    batches = [padded(store, builder, lines) for lines in chosen]
    batches = [{k: v.to(args.device) for k, v in b.items()} for b in batches]
    if name.startswith("a"):
        frames = FRAMES if name == "a" else 1
        return System(
            model, optimizer, batches, lambda b: transformers_loss(model, b, frames, half)
        )
    return System(model, optimizer, batches, lambda b: our_loss(model, b))


def store_lengths(store: Any, lines: np.ndarray) -> np.ndarray:
    """Return the positions of some lines, prompt and end included."""
    return np.asarray([len(store[int(line)][0]) for line in lines]) + 5


def needed_gflop(lengths: np.ndarray, width: int, layers: int, vocab: int) -> float:
    """Count the matrix products that the lines need, forward and backward, in GFLOP."""
    inputs, counted = lengths - 1, lengths - 4
    body = 2 * inputs * layers * 12 * width**2  # attention 4 width^2, feed-forward 8 width^2
    attention = 2 * layers * width * inputs * (inputs + 1)  # scores and values, causal half
    output = 2 * counted * vocab * width
    return 3 * float((body + attention + output).sum()) / 1e9


def peak(dtype_name: str, width: int, rows: int, vocab: int, device: str) -> float:
    """Measure matrix products: GFLOP/s, the best of some shapes of the step."""
    import torch

    dtype, best = getattr(torch, dtype_name), 0.0
    shapes = [(rows, width, vocab), (rows, vocab, width), (vocab, rows, width), (2048, 2048, 2048)]
    for m, k, n in shapes:
        a, b = (torch.randn(s, device=device).to(dtype) for s in ((m, k), (k, n)))
        for _ in range(3):
            _wait()
            start = time.perf_counter()
            a @ b
            _wait()
            best = max(best, 2 * m * k * n / (time.perf_counter() - start) / 1e9)
    return best


def machine(device: str) -> dict[str, Any]:
    """Describe the machine."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        names = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        cpu = names[0].partition(":")[2].strip() if names else cpu
    features = [
        name
        for name in ("_is_avx512_supported", "_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if getattr(torch.cpu, name, lambda: False)()
    ]
    return {
        "cpu": cpu,
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "has": [f.removeprefix("_is_").removesuffix("_supported") for f in features],
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
    }


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Build the systems, let them take turns, and return all figures."""
    import torch

    from espnet_plugin.prompt import PromptBuilder
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    width, layers, heads = SIZES[args.size]
    vocab = 51866 if args.size == "large-v3" else 51865
    with tempfile.TemporaryDirectory() as folder:
        directory = build_tiny_whisper(
            Path(folder) / "model",
            d_model=width,
            layers=layers,
            heads=heads,
            ffn=4 * width,
            vocab_size=vocab,
        )
        store = write_lines(Path(folder) / "store", directory, CORPUS)
        builder = PromptBuilder(directory)
        bins = int(args.batch_lines * store_lengths(store, np.arange(1000)).mean())
        chosen = choose_lines(store, builder, bins, args.batches)
        data = (store, builder, chosen)
        built = {name: build(name, directory, data, args) for name in args.systems}
        lengths = store_lengths(store, np.concatenate(chosen))
        half = ("a1_bf16", "c", "c_comp")
        results = {
            name: Measured(name, "bfloat16" if name in half else "float32") for name in built
        }
        rows = min(1024, int(args.batch_lines * lengths.mean()))
        peaks = {"float32": 0.0, "bfloat16": 0.0}
        for name, system in built.items():  # warm-up: memory, oneDNN's and torch.compile's caches
            whole = system.batches
            system.batches = whole if name.endswith("comp") else whole[:1]
            system.run()
            system.batches = whole
        for number in range(args.rounds):
            for dtype in peaks:
                measured = peak(dtype, width, rows, vocab, args.device)
                peaks[dtype] = max(peaks[dtype], measured)
            for name, system in built.items():
                seconds, loss = system.run()
                results[name].seconds.append(seconds)
                results[name].losses.append(loss)
                print(f"round {number + 1} {name}: {seconds:.2f} s", file=sys.stderr, flush=True)
        padding = {
            name: 1 - lengths.sum() / sum(b["text"].numel() for b in system.batches)
            for name, system in built.items()
        }
        updates = {name: len(system.batches) for name, system in built.items()}
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    gflop = needed_gflop(lengths, width, layers, vocab)
    return {
        "machine": machine(args.device),
        "size": args.size,
        "lines": len(lengths),
        "tokens": int(lengths.sum()),
        "batch_lines": args.batch_lines,
        "gflop": gflop,
        "peak_gflops": peaks,
        "systems": {
            name: asdict(m)
            | {
                "tokens_per_second": int(lengths.sum()) / m.best,
                "gflops": gflop / m.best,
                "of_peak": gflop / m.best / peaks[m.dtype],
                "padding": padding[name],
                "updates": updates[name],
            }
            for name, m in results.items()
        },
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    about = found["machine"]
    yield (
        f"Whisper {found['size']}, {found['lines']} lines, {found['tokens']} tokens, about "
        f"{found['batch_lines']} lines an update; {about['device']}, {about['cpu']}, "
        f"{about['threads']} threads, {' '.join(about['has'])}; torch {about['torch']}"
    )
    peaks = ", ".join(f"{name} {value:.0f}" for name, value in found["peak_gflops"].items())
    yield f"matrix products, measured: {peaks} GFLOP/s"
    head = ("tokens/s", "x a", "GFLOP/s", "of peak", "padding", "updates")
    yield f"{'system':<9}{'dtype':<10}" + "".join(f"{h:>10}" for h in head)
    systems = found["systems"]
    for name, s in systems.items():
        ratio = systems["a"]["tokens_per_second"] if "a" in systems else float("nan")
        yield (
            f"{name:<9}{s['dtype']:<10}{s['tokens_per_second']:>10.0f}"
            f"{s['tokens_per_second'] / ratio:>10.2f}{s['gflops']:>10.1f}{s['of_peak']:>10.0%}"
            f"{s['padding']:>10.1%}{s['updates']:>10}"
        )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--batches", type=int, default=12)
    parser.add_argument("--batch_lines", type=int, default=32, help="lines of an update, about")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS[:5])
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", help="write the figures there as well")
    args = parser.parse_args(argv)
    found = measure(args)
    return give_out(found, table(found), args.json)


if __name__ == "__main__":
    start_with_malloc("tests.bench.stage1")
    main()
