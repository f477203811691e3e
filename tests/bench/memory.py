"""Peak memory of real training steps against the plan's (`espnet_plugin.bin.plan`).

python -m tests.bench.memory                               # tiny and base, all stages, on the CPU
python -m tests.bench.memory --sizes tiny --stages adapt_full --seconds 20
python -m tests.bench.memory --ways plain checkpointing 8bit lora
python -m tests.bench.memory --device cuda --sizes small large-v3 --precisions bf16

Each case is a process of its own: a random model of the size, `AsyncSwitchModel` with the stage's
groups, AdamW as in training, three updates of one batch as large as asked. Measured are the last
two updates, when the optimiser's state is there:

    torch    the allocator's own peak: torch.cuda.max_memory_allocated on a GPU; on a CPU the sum of
             the profiler's memory events, from the model's first byte on
    process  growth of the resident set since before the model was built (CPU); glibc keeps
             freed memory for later, so this is above torch's
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

SIZES = ("tiny", "base")
STAGES = ("adapt_text", "adapt_align", "adapt_full")
PRECISIONS = ("fp32", "bf16")
WAYS = ("plain", "checkpointing", "8bit", "lora")
RANK = 8  # of adapters, in all groups of a stage that can have them
POSITIONS = 2000  # of a batch of text
UTTERANCE = 10  # seconds
LINE = 25  # positions of a line of text
TOKENS_PER_SECOND = 4


def build(size: str, directory: Path) -> Path:
    """Write a random model of a released model's shape."""
    from espnet_plugin.planning import read_shape
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    shape = read_shape(size)
    assert shape.encoder_layers == shape.decoder_layers, "the builder makes equal numbers"
    return build_tiny_whisper(
        directory,
        n_mels=shape.mels,
        vocab_size=shape.vocab,
        d_model=shape.width,
        layers=shape.encoder_layers,
        heads=shape.encoder_heads,
        ffn=shape.encoder_ffn,
    )


def make_batch(stage: str, seconds: int, vocab: int, device: str) -> dict[str, Any]:
    """Make a batch of noise: `seconds` of speech in utterances of 10 s, or lines of text."""
    import torch

    size = POSITIONS // LINE if stage == "adapt_text" else max(1, seconds // UTTERANCE)
    length = LINE if stage == "adapt_text" else TOKENS_PER_SECOND * UTTERANCE + 5
    text = torch.randint(300, vocab - 2000, (size, length + 1))
    batch = {"text": text, "text_lengths": torch.full((size,), length + 1)}
    if stage != "adapt_text":
        lengths = torch.full((size,), UTTERANCE * 16000)
        lengths[-1] -= 1600  # so that there are masks
        speech = 0.1 * torch.randn(size, UTTERANCE * 16000)
        batch |= {"speech": speech, "speech_lengths": lengths}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def resident() -> int:
    """Return the resident set of this process, in bytes."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def highest_resident() -> int:
    """Return the largest resident set so far, in bytes (Linux: `ru_maxrss` is in KiB)."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_of_events(profile: Any) -> int:
    """Return the most that the CPU allocations of a profile held together, in bytes."""
    now = most = 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def measure(
    size: str, stage: str, half: bool, way: str, seconds: int, device: str, model: Path
) -> Any:
    """Run a case in this process; returns its figures in bytes."""
    from dataclasses import replace

    import torch

    from espnet_plugin.groups import ADAPTER, select
    from espnet_plugin.lora import LINEAR_GROUPS
    from espnet_plugin.model import AsyncSwitchModel
    from espnet_plugin.optim import build_optimizer
    from espnet_plugin.optim8bit import adamw8bit
    from espnet_plugin.planning import Setup, budget, parse_machine, read_shape
    from espnet_plugin.planning.activations import Batch
    from espnet_plugin.planning.shapes import parameters
    from espnet_plugin.stages import STAGES as TABLE

    torch.manual_seed(0)
    torch.zeros(8, 8) @ torch.zeros(8, 8)  # libraries allocate at their first use
    before = resident()

    def steps(number: int) -> None:
        for _ in range(number):
            whisper(**batch)[0].backward()
            torch.nn.utils.clip_grad_norm_(whisper.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    autocast = "bfloat16" if half else "none"
    trains = TABLE[stage].trains
    if way == "lora":
        trains = tuple(group for group in trains if group in LINEAR_GROUPS)
    options: dict[str, Any] = {"autocast": autocast, "loss_kernel": "chunked"}
    options["lora"] = dict.fromkeys(trains, RANK) if way == "lora" else None
    options["checkpointing"] = "all" if way == "checkpointing" else "none"
    whisper = AsyncSwitchModel(model, **options).to(device).train()
    names = dict(whisper.whisper.named_parameters())
    chosen = select(trains, names)
    for name, parameter in names.items():
        parameter.requires_grad_(name in chosen)
    optim: Any = adamw8bit if way == "8bit" else torch.optim.AdamW
    optimizer = build_optimizer(whisper, optim, {"lr": 1e-5})
    batch = make_batch(stage, seconds, whisper.vocab_size, device)
    steps(1)
    ranks = tuple((group, RANK) for group in trains) if way == "lora" else ()
    shape, text = replace(read_shape(size), lora=ranks), batch["text"]
    moving = frozenset(select(trains, parameters(shape)))
    assert sum(bool(ADAPTER.search(n)) for n in chosen) == sum(".lora_" in n for n in moving)
    state = {
        tensor.untyped_storage().data_ptr(): tensor.nbytes
        for values in optimizer.state.values()
        for tensor in values.values()
        if isinstance(tensor, torch.Tensor)
    }
    held = sum(p.nbytes for p in whisper.parameters()) + sum(state.values())
    figures: dict[str, Any] = {"size": size, "stage": stage, "way": way}
    figures["dtype"] = "bf16" if half else "fp32"
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        steps(2)
        figures["torch"] = torch.cuda.max_memory_allocated()
        figures["reserved"] = torch.cuda.max_memory_reserved()
        free, total = torch.cuda.mem_get_info()
        figures["context"] = total - free - torch.cuda.memory_reserved()
        machine = parse_machine(f"1x{torch.cuda.get_device_properties(0).total_memory / 1e9:.2f}")
    else:
        steps(1)
        figures["process"] = highest_resident() - before
        activity = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activity, profile_memory=True) as profile:
            steps(1)
        inputs = sum(t.nbytes for t in batch.values())
        figures["torch"] = peak_of_events(profile) + held + inputs
        machine = parse_machine("cpu:16")
    positions = UTTERANCE * 50 if "speech" in batch else 0
    of_batch = Batch(len(text), text.shape[1] - 1, positions)
    setup = Setup(half=half, checkpointing=way == "checkpointing", eight_bit=way == "8bit")
    planned = budget(shape, moving, of_batch, machine, setup)
    return figures | {"planned": planned.peak, "moment": planned.moment, "held": held}


def case(size: str, stage: str, dtype: str, way: str, args: argparse.Namespace, model: Path) -> Any:
    """Run a case in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.memory", "--case", size, stage, dtype, way]
    command += ["--seconds", str(args.seconds), "--device", args.device, "--model", str(model)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=os.environ)
    return json.loads(done.stdout.splitlines()[-1])


def table(found: list[dict[str, Any]]) -> str:
    """Return the figures as a table, in MB, with planned / measured."""
    extra = "reserved" if "reserved" in found[0] else "process"
    lines = [
        "| model | stage | dtype | way | planned MB | torch MB | planned / torch "
        f"| {extra} MB | peak at |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for one in found:
        lines.append(
            f"| {one['size']} | {one['stage']} | {one['dtype']} | {one['way']} | "
            f"{one['planned'] / 1e6:.0f} | "
            f"{one['torch'] / 1e6:.0f} | {one['planned'] / one['torch']:.3f} | "
            f"{one[extra] / 1e6:.0f} | {one['moment']} |"
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", nargs="+", default=SIZES)
    parser.add_argument("--stages", nargs="+", default=STAGES)
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--ways", nargs="+", default=WAYS[:2], choices=WAYS)
    parser.add_argument("--seconds", type=int, default=40, help="of speech in a batch")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--output", type=Path, help="write the figures here, as JSON")
    parser.add_argument("--case", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.case:
        size, stage, dtype, way = args.case
        found = measure(size, stage, dtype == "bf16", way, args.seconds, args.device, args.model)
        print(json.dumps(found))
        return
    found = []
    with tempfile.TemporaryDirectory() as directory:
        for size in args.sizes:
            model = build(size, Path(directory) / size)
            for stage in args.stages:
                for dtype, way in product(args.precisions, args.ways):
                    found.append(case(size, stage, dtype, way, args, model))
                    print(table(found[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(found))
    if args.output:
        args.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
