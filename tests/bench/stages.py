"""Stages 1, 2 and 3 by the training entry, as users run it: updates/s, MFU, peak memory.

python -m tests.bench.stages --size large-v3 --device cuda     # bfloat16, the batch of bin.plan
python -m tests.bench.stages --size large-v3 --device cuda --options compile=true
python -m tests.bench.stages --size tiny --target 2000 40 --options autocast=none    # on a CPU

A random model of a released one's size; random lines of web text's lengths, noise of 1 to 10 s
for speech. Each stage is trained in a process of its own by `asr_train`, with the batch that
`espnet_plugin.bin.plan` prints for this machine and update, until enough updates are measured;
reading, features and the log are included, validation and checkpoints are not.

MFU counts the model's operations (`monitor/flops.py`) against the data sheet's dense peak of a GPU
(`monitor/peaks.py`), on a CPU against the fastest product measured. Memory of a GPU is what tensors
take at the most, planned for the worst batch and measured; of a CPU, the whole process.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.memory import build
from tests.bench.running import MALLOC, give_out
from tests.bench.stage1 import machine, peak, write_lines

STAGES = ("adapt_text", "adapt_align", "adapt_full")
LINES, UTTERANCES, LONGEST = 20_000, 400, 10.0  # of the data; seconds
WORDS = 2.5  # a second of speech
CONFIG = """
optim: adamw
optim_conf: {lr: 1.0e-6, weight_decay: 0.01}
scheduler: freeze
scheduler_conf: {inner: warmuplinear, inner_conf: {warmup_steps: 0}}
max_epoch: 1
num_workers: 2
log_interval: 5
"""


class Enough(BaseException):
    """All updates were measured; no handler of training's errors is to catch this."""


def of_this(device: str) -> Any:
    """Describe this machine for the plan."""
    import psutil
    import torch

    from espnet_plugin.planning import parse_machine

    if device == "cuda":
        memory = torch.cuda.get_device_properties(0).total_memory
        return parse_machine(f"1x{memory / 1e9:.2f}")
    return parse_machine(f"cpu:{psutil.virtual_memory().available / 1e9:.2f}")


def batch_options(
    size: str, stage: str, device: str, target: int, given: dict[str, str]
) -> tuple[dict[str, str], float]:
    """Return the training options of a batch that fits, and the peak that is planned for it."""
    from espnet_plugin.groups import select
    from espnet_plugin.planning import plan_stage, read_shape
    from espnet_plugin.planning.fit import LONGEST as MORE
    from espnet_plugin.planning.fit import RATE, worst
    from espnet_plugin.planning.shapes import parameters
    from espnet_plugin.stages import STAGES as TABLE

    shape, where = read_shape(size), of_this(device)
    autocast = given.get("autocast", "bfloat16" if device == "cuda" else "auto")
    pad = given.get("pad", "batch")
    plan = plan_stage(shape, where, TABLE[stage], pad=pad, autocast=autocast, target=target)
    if plan.chosen is None or plan.options is None:
        raise ValueError(f"no batch of {stage} fits {where}")
    setup, lines = plan.chosen.setup, {k: str(v) for k, v in plan.options.lines.items()}
    found = {"autocast": "bfloat16" if setup.half else "none"} | lines
    found |= {"checkpointing": "all"} if setup.checkpointing else {}
    found |= {"optim": "adamw8bit"} if setup.eight_bit else {}
    unit, bins = plan.chosen.fit.unit, int(lines["batch_bins"])
    if unit == "utterances":
        bins //= MORE * RATE
    bins += MORE * RATE if unit == "samples" else 0  # one utterance more at most
    moving = frozenset(select(plan.trains, parameters(shape)))
    return found | given, worst(shape, moving, where, setup, unit, bins).peak


def train(stage: str, options: dict[str, str], args: argparse.Namespace) -> dict[str, Any]:
    """Train in this process until enough updates are measured; return their work."""
    from espnet_plugin.bin.asr_train import main as asr_train
    from espnet_plugin.monitor.meter import Meter, Work, peak_memory

    accumulate, steps = int(options.get("accum_grad", "1")), []
    skipped, needed = args.warm * accumulate, (args.warm + args.updates) * accumulate
    plain = Meter.done

    def done(self: Meter, work: Work) -> None:
        plain(self, work)
        steps.append(work)
        if len(steps) == needed:
            raise Enough

    Meter.done = done  # type: ignore[method-assign]
    folder = Path(args.folder)
    options = {"num_iters_per_epoch": str(needed + accumulate)} | options
    command = ["--config", str(folder / "bench.yaml"), "--adaptation_stage", stage]
    command += ["--init_dir", str(folder / "model"), "--output_dir", str(folder / stage)]
    command += ["--ngpu", "1" if args.device == "cuda" else "0"]
    for part in ("train", "valid"):
        kind = "text" if stage == "adapt_text" else "data"
        command += [f"--{part}_{kind}", str(folder / f"{part}_{kind}")]
    for name, value in options.items():
        command += [f"--{name}", value]
    with contextlib.suppress(Enough):
        asr_train(command)
    found = Work()
    for work in steps[skipped:]:
        found += work
    if len(steps) != needed:
        raise RuntimeError(f"{stage} ended after {len(steps)} of {needed} batches")
    return asdict(found) | {"options": options, "memory": peak_memory(args.device) * 1e9}


def write_inputs(folder: Path, size: str) -> None:
    """Write model, lines, speech and configuration."""
    from tests.fixtures.pairs import write_pairs

    build(size, folder / "model")
    for part, share in (("train", 1.0), ("valid", 0.01)):
        write_lines(folder / f"{part}_text", folder / "model", int(LINES * share))
        number = int(UTTERANCES * share)
        write_pairs(folder / f"{part}_data", number, int(share), LONGEST, WORDS)
    (folder / "bench.yaml").write_text(CONFIG, encoding="utf-8")


def top_rate(device: str, half: bool, width: int, vocab: int) -> tuple[float, str]:
    """Return what MFU is measured against, in operations a second, and where it is from."""
    from espnet_plugin.monitor.meter import find_peak

    if known := find_peak(device, None):
        return known, "data sheet"
    dtype = "bfloat16" if half else "float32"
    return 1e9 * peak(dtype, width, 1024, vocab, device), f"measured in {dtype}"


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all stages, each in a process of its own."""
    from espnet_plugin.planning import read_shape

    shape, found = read_shape(args.size), []
    given = dict(one.split("=", 1) for one in args.options)
    with tempfile.TemporaryDirectory(dir=args.dir) as folder:
        write_inputs(Path(folder), args.size)
        for stage in args.stages:
            target = args.target[stage != "adapt_text"]
            options, planned = batch_options(args.size, stage, args.device, target, given)
            half = options["autocast"] == "bfloat16"
            rate, source = top_rate(args.device, half, shape.width, shape.vocab)
            command = [sys.executable, "-m", "tests.bench.stages", "--case", stage]
            command += [json.dumps(options), "--folder", folder, "--device", args.device]
            command += ["--updates", str(args.updates), "--warm", str(args.warm)]
            subprocess.run(command, stdout=sys.stderr, check=True, env=os.environ | MALLOC)
            work = json.loads((Path(folder) / f"{stage}.json").read_text(encoding="utf-8"))
            work |= {"stage": stage, "planned": planned, "peak": rate, "peak_source": source}
            work["updates_per_s"] = args.updates / work["seconds"]
            work["mfu"] = 100 * work["flops"] / work["seconds"] / rate
            found.append(work)
            print("\n".join(table({"stages": [work]})), file=sys.stderr, flush=True)
    about = machine(args.device)
    return {"machine": about, "size": args.size, "updates": args.updates, "stages": found}


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table for people."""
    if "machine" in found:
        about = found["machine"]
        yield (
            f"Whisper {found['size']}, {found['updates']} updates; {about['device']}, "
            f"{about['cpu']}, {about['threads']} threads; torch {about['torch']}"
        )
    yield (
        "| stage | batch | updates/s | utterances/s | tokens/s | audio s/s | MFU | of | "
        "planned / measured GB |"
    )
    yield "| --- " * 9 + "|"
    for one in found["stages"]:
        options, seconds = one["options"], one["seconds"]
        batch = f"{options['batch_bins']} x {options.get('accum_grad', 1)} {options['autocast']}"
        yield (
            f"| {one['stage']} | {batch} | {one['updates_per_s']:.3g} "
            f"| {one['utterances'] / seconds:.1f} | {one['tokens'] / seconds:.0f} "
            f"| {one['audio'] / seconds:.0f} | {one['mfu']:.1f} % "
            f"| {one['peak'] / 1e12:.3g} TFLOP/s {one['peak_source']} "
            f"| {one['planned'] / 1e9:.2f} / {one['memory'] / 1e9:.2f} |"
        )


def main(argv: list[str] | None = None) -> dict[str, Any] | None:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--size", default="tiny", help="tiny ... large-v3")
    add("--stages", nargs="+", choices=STAGES, default=STAGES)
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--updates", type=int, default=20, help="that are measured")
    add("--warm", type=int, default=5, help="updates before")
    add(
        "--target",
        type=int,
        nargs=2,
        default=(16_000, 480),
        help="of an update: positions of text, seconds of audio",
    )
    add("--options", nargs="+", default=[], help="of training, name=value")
    add("--dir", type=Path, help="for model and data (large-v3 takes 7 GB); default: temporary")
    add("--json", help="write the figures there as well")
    add("--case", nargs=2, help=argparse.SUPPRESS)
    add("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.case:
        stage, options = args.case
        work = train(stage, json.loads(options), args)
        Path(args.folder, f"{stage}.json").write_text(json.dumps(work), encoding="utf-8")
        return None
    found = measure(args)
    return give_out(found, table(found), args.json)


if __name__ == "__main__":
    main()
