"""Kill -9 a training again and again; do the resumed runs end with the uninterrupted one's weights?

python -m tests.bench.kill --kills 20                       # stages 1 (text) and 3 (paired speech)
python -m tests.bench.kill --kills 8 --signal USR1 --stages adapt_full

A tiny random Whisper trains on the CPU, in processes forked from this one, since importing ESPnet
takes long. Half of the kills come at random moments, from the first second on; the others wait for
the temporary file of a checkpoint and come a random moment later, while it is written (slowly: the
child sleeps at each piece). A temporary file that is left proves a kill inside a write. Runs that
end before they are killed enough times begin again in a new directory. Compared, bit for bit: the
finished model, the weights of the last epoch, the average of the best two, and the curve.

With `--signal USR1` or `TERM` each run is asked to stop instead, at random moments, most of them in
the middle of an epoch; it has to exit with 75. A request before the run listens ends it as usual.
With `--ranks 2` two processes (gloo) train together; one of them is asked, or both are killed.
`--damage` flips a byte of the last checkpoint after every third kill that left two.
"""

import argparse
import contextlib
import hashlib
import os
import random
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

CONFIG = """
optim: adamw
optim_conf: {lr: 1.0e-3, weight_decay: 0.1}
scheduler: freeze
scheduler_conf: {inner: warmuplinear, inner_conf: {warmup_steps: 2}}
max_epoch: 5
num_iters_per_epoch: 6
accum_grad: 2
keep_nbest_models: 2
batch_type: sorted
batch_size: 4
batch_bins: 100
autocast: none
num_workers: 0
"""
SPECAUG = """
specaug: specaug
specaug_conf: {apply_time_warp: false, apply_freq_mask: true, freq_mask_width_range: [0, 20],
  num_freq_mask: 2, apply_time_mask: true, time_mask_width_range: [0, 10], num_time_mask: 2}
"""
STAGES = ("adapt_text", "adapt_full")
COLUMNS = ("epoch", "updates", "train_loss", "valid_loss", "valid_acc")


@dataclass
class Tally:
    """What happened to the runs of a stage."""

    kills: int = 0
    in_checkpoint: int = 0  # while checkpoint.pth was written
    in_other: int = 0  # while another file was
    midway: int = 0  # stopped by a signal, with 75
    damaged: int = 0
    runs: int = 0
    differ: list[str] = field(default_factory=list)


def command(stage: str, root: Path, output: Path) -> list[str]:
    """Return the options of a training; makes data and a model where they are missing."""
    from tests.fixtures.pairs import write_pairs, write_text_store
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    model = root / "tiny"
    if not model.exists():
        build_tiny_whisper(model)
        write_pairs(root / "train", 12)
        write_pairs(root / "valid", 4, seed=1)
        write_text_store(root / "text_train", model, 40)
        write_text_store(root / "text_valid", model, 6, seed=1)
    text = stage == "adapt_text"
    config = root / f"{stage}.yaml"
    config.write_text(CONFIG + ("" if text else SPECAUG))
    made = ["--config", str(config), "--adaptation_stage", stage]
    made += ["--init_dir", str(model), "--output_dir", str(output)]
    kind, prefix = ("text", "text_") if text else ("data", "")
    for part in ("train", "valid"):
        made += [f"--{part}_{kind}", str(root / f"{prefix}{part}")]
    return made


def start(options: list[str], log: Path, pause: float, ranks: int = 1) -> list[int]:
    """Fork a training's processes; returns their ids. A piece of a file takes `pause` seconds."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pids = []
    for rank in range(ranks):
        if pid := os.fork():
            pids.append(pid)
            continue
        more: list[str] = []
        if ranks > 1:
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            more = ["--dist_backend", "gloo", "--dist_world_size", str(ranks)]
            more += ["--dist_rank", str(rank), "--multiprocessing_distributed", "false"]
        _train([*options, *more], log, pause)
    return pids


def _train(options: list[str], log: Path, pause: float) -> NoReturn:
    code = 1
    try:
        with open(log, "ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        from espnet_plugin.task import AsyncSwitchTask
        from espnet_plugin.training import saving

        plain = saving._Hashed.write

        def slowly(self: saving._Hashed, data: bytes) -> int:
            time.sleep(pause)
            return plain(self, data)

        saving._Hashed.write = slowly  # type: ignore[method-assign]
        AsyncSwitchTask.main(cmd=options)
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(ValueError, OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def wait(pids: list[int], seconds: float, until: Path | None = None) -> int | None:
    """Wait for the end of processes, some seconds, or a file `.checkpoint.pth.*` in a directory.

    Returns:
        Their exit code (the one that is not 0, if any), negative for a signal; None if one still
        runs. Processes that have ended are taken from the list.
    """
    end, codes = time.monotonic() + seconds, [0]
    while pids and time.monotonic() < end:
        for pid in list(pids):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                pids.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))
        if pids and until is not None and any(until.glob(".checkpoint.pth.*.tmp")):
            return None
        time.sleep(0.002)
    return None if pids else min(codes) or max(codes)


def digests(output: Path) -> dict[str, str]:
    """Return hashes of what a finished run has to have in common with another."""
    from espnet_plugin.training.curve import read_curve

    names = ("model.safetensors", "latest.pth", "valid.loss.best.pth", "valid.loss.ave_2best.pth")
    found = {name: _tensors(output / name) for name in names}
    rows = [[row[c] for c in COLUMNS] for row in read_curve(output / "curve.csv")]
    return found | {"curve.csv": repr(rows), "latest": os.readlink(output / "latest.pth")}


def _tensors(path: Path) -> str:
    import torch
    from safetensors.torch import load_file

    safe = path.suffix == ".safetensors"
    state = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    whole = hashlib.sha256()
    for name in sorted(state):
        whole.update(name.encode() + state[name].contiguous().numpy().tobytes())
    return whole.hexdigest()


def torment(stage: str, root: Path, tally: Tally, options: argparse.Namespace) -> None:
    """Train a stage without and then with interruptions, and compare."""
    draw = random.Random(f"{options.seed} {stage}")
    number = signal.Signals[f"SIG{options.signal}"]
    began, log = time.monotonic(), root / f"{stage}.log"
    whole = root / f"{stage}_whole"
    pids = start(command(stage, root, whole), log, options.pause, options.ranks)
    if code := wait(pids, 600):
        raise RuntimeError(f"the uninterrupted run failed with {code}:\n{_tail(log)}")
    expected, seconds = digests(whole), time.monotonic() - began
    print(f"{stage}: uninterrupted in {seconds:.1f} s", flush=True)
    while tally.kills < options.kills:
        tally.runs += 1
        output = root / f"{stage}_{tally.runs}"
        for code in _run_to_end(stage, root, output, tally, draw, number, seconds, options):
            if code not in (0, 75, -number):
                raise RuntimeError(f"{output.name} failed with {code}:\n{_tail(log)}")
        found = digests(output)
        tally.differ += [f"{output.name}/{k}" for k in expected if expected[k] != found[k]]
        print(f"{stage}: run {tally.runs} ended; {tally}", flush=True)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _run_to_end(
    stage: str,
    root: Path,
    output: Path,
    tally: Tally,
    draw: random.Random,
    number: signal.Signals,
    seconds: float,
    options: argparse.Namespace,
) -> Iterator[int]:
    """Yield the exit codes of the processes of one run, the last of which ends by itself."""
    while True:
        log = root / f"{stage}.log"
        pids = start(command(stage, root, output), log, options.pause, options.ranks)
        if tally.kills >= options.kills:
            code = wait(pids, 600)
        else:
            in_write = number == signal.SIGKILL and draw.random() < 0.5
            if in_write:
                code = wait(pids, 600, until=output)
                code = wait(pids, draw.uniform(0, options.write)) if code is None else code
            else:
                code = wait(pids, draw.uniform(0, 0.8 * seconds))
            if code is None:
                for pid in pids if number == signal.SIGKILL else [draw.choice(pids)]:
                    os.kill(pid, number)
                code = wait(pids, 600)
                tally.kills += 1
                tally.midway += code == 75
                left = [p.name for p in output.glob(".*.tmp")] if output.exists() else []
                tally.in_checkpoint += any(n.startswith(".checkpoint.pth.") for n in left)
                tally.in_other += any(not n.startswith(".checkpoint.pth.") for n in left)
                if options.damage and tally.kills % 3 == 0:
                    tally.damaged += _damage(output, draw)
        if code is None:
            raise RuntimeError(f"{output.name} hangs: processes {pids}\n{_tail(log)}")
        yield code
        if code == 0:
            return


def _damage(output: Path, draw: random.Random) -> bool:
    last = output / "checkpoint.pth"
    if not last.exists() or not (output / "checkpoint.previous.pth").exists():
        return False
    content = bytearray(last.read_bytes())
    content[draw.randrange(len(content))] ^= 1
    last.unlink()  # it may be a link to the previous one
    last.write_bytes(content)
    return True


def main() -> int:
    """Parse the options, torment each stage, and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--kills", type=int, default=20, help="of all stages together")
    options.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    options.add_argument("--signal", default="KILL", choices=("KILL", "TERM", "USR1"))
    options.add_argument("--ranks", type=int, default=1, help="processes of a training")
    options.add_argument("--seed", default="0", help="of the moments")
    options.add_argument("--pause", type=float, default=0.002, help="seconds a piece of a file")
    options.add_argument("--write", type=float, default=0.3, help="seconds into a write, at most")
    options.add_argument("--damage", action="store_true", help="damage last checkpoints")
    args = options.parse_args()
    import espnet_plugin.task  # noqa: F401  # once, before the forks

    kills, tallies = args.kills, {}
    with tempfile.TemporaryDirectory() as folder:
        for at, stage in enumerate(args.stages):
            args.kills = kills * (at + 1) // len(args.stages) - kills * at // len(args.stages)
            tallies[stage] = Tally()
            torment(stage, Path(folder), tallies[stage], args)
    for stage, tally in tallies.items():
        same = "all identical" if not tally.differ else f"DIFFER: {', '.join(tally.differ)}"
        print(
            f"{stage}: {tally.kills} x SIG{args.signal}, {tally.in_checkpoint} inside a "
            f"checkpoint's write, {tally.in_other} inside another file's, {tally.midway} exits "
            f"with 75, {tally.damaged} checkpoints damaged; {tally.runs} run(s) to the end: {same}"
        )
    return int(any(tally.differ for tally in tallies.values()))


if __name__ == "__main__":
    raise SystemExit(main())
