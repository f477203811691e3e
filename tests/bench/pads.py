"""Two ways to feed audio, in training and in decoding: word error rate and time of each pair.

python -m tests.bench.pads                        # the demo's Whisper base and data, half an hour
python -m tests.bench.pads --updates 2 --sets valid_paired --work /tmp/pads      # a quick look
python -m tests.bench.pads --start exp/init --stages "adapt_align adapt_full"

From the released model (which has only ever heard 30 s) three systems are adapted on the same
utterances in the same number of updates: padded to the batch, to 30 s, and by a mixture. Each of
them, and the start, decodes the sets with either padding, and padded to the batch with some
seconds of silence after each utterance (`tail`). Prints a Markdown table: errors in percent of the
reference words, normalised, and seconds. Interrupted with `--work`, it goes on where it was.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.bench.running import give_out, start_with_malloc
from tests.bench.stage1 import machine

RECIPE = Path(__file__).parents[2] / "egs2_asyncswitch" / "asr1"
TRAIN = {"batch": "batch", "30s": "30s", "mixture": "batch:0.75,30s:0.25"}
LANG_TOKENS = "cs:ms ms:ms en:en es:es"


def decodings(tail: float) -> dict[str, dict[str, Any]]:
    """Name the ways to decode."""
    return {
        "batch": {"pad": "batch"},
        f"batch + {tail:g} s": {"pad": "batch", "tail": tail},
        "30s": {"pad": "30s"},
    }


def write_config(path: Path, stage: str, updates: int, batch_size: int) -> Path:
    """Write the demo's configuration of a stage with another length and no checkpoints between."""
    name = {"adapt_align": "align", "adapt_full": "full"}[stage]
    source = Path(__file__).parents[2] / "conf" / "demo" / f"train_{name}.yaml"
    conf = yaml.safe_load(source.read_text(encoding="utf-8"))
    conf |= {"max_epoch": 1, "num_iters_per_epoch": updates, "batch_size": batch_size}
    conf["scheduler_conf"]["inner_conf"] = {"warmup_steps": min(5, updates // 6)}
    path.write_text(yaml.safe_dump(conf), encoding="utf-8")
    return path


def train(args: argparse.Namespace, work: Path, name: str) -> float:
    """Adapt a system by all stages, one after another; return its seconds."""
    from espnet_plugin.finish import is_finished
    from espnet_plugin.task import AsyncSwitchTask

    start, seconds = Path(args.start), 0.0
    for number, stage in enumerate(args.stages, 1):
        last = number == len(args.stages)
        output = work / (name if last else f"{name}_{stage}")
        config = write_config(work / f"{name}_{stage}.yaml", stage, args.updates, args.batch_size)
        clock = output / "bench_seconds.json"
        if not is_finished(output) or not clock.is_file():
            shutil.rmtree(output, ignore_errors=True)
            began = time.perf_counter()
            command = ["--config", str(config), "--adaptation_stage", stage]
            command += ["--init_dir", str(start), "--output_dir", str(output), "--pad", TRAIN[name]]
            command += ["--train_data", str(args.dumpdir / args.train_set)]
            command += ["--valid_data", str(args.dumpdir / args.sets[0]), "--keep", "last"]
            command += ["--keep_checkpoints", "false", "--lang_tokens", LANG_TOKENS, "--ngpu", "0"]
            AsyncSwitchTask.main(cmd=[*command, "--seed", "0"])
            clock.write_text(json.dumps(time.perf_counter() - began))
        seconds += json.loads(clock.read_text())
        start = output
    return seconds


def decode(args: argparse.Namespace, work: Path, systems: list[str]) -> dict[str, Any]:
    """Decode every system in every way; return errors, words and seconds by way and system."""
    from espnet_plugin.decode.options import Options
    from espnet_plugin.decode.runner import decode_sets

    found: dict[str, Any] = {}
    for way, options in decodings(args.tail).items():
        tag = way.replace(" ", "").replace("+", "_")
        chosen = Options(lang_tokens=LANG_TOKENS, **options)
        decode_sets(work, systems, args.sets, args.dumpdir, chosen, tag=tag)
        for system in systems:
            results = {s: score(args, work / system / f"decode_{tag}" / s) for s in args.sets}
            found.setdefault(system, {})[way] = results
    return found


def score(args: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Count the errors of a decoded set, and read how long it took."""
    from espnet_plugin.data.tables import read_table
    from espnet_plugin.score.alignment import align
    from espnet_plugin.score.testset import read_test_set

    test = read_test_set(args.dumpdir / directory.name)
    hyps = test.normalize_hypotheses(read_table(directory / "text", allow_empty=True))
    aligned = [align(words, hyps[utt]) for utt, words in test.words.items()]
    words = sum(one.n_ref for one in aligned)
    about = json.loads((directory / "decode.json").read_text(encoding="utf-8"))
    return {
        "wer": 100 * sum(one.errors for one in aligned) / words,
        "words": words,
        "seconds": about["seconds"],
        "limited": about["n_length_limited"],
    }


def measure(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Adapt and decode all; return all figures."""
    from espnet_plugin.quick_start import quick_start

    quick_start()
    work.mkdir(parents=True, exist_ok=True)
    released = work / "released"
    if not released.exists():
        released.symlink_to(Path(args.start).resolve(), target_is_directory=True)
    seconds = {name: train(args, work, name) for name in TRAIN}
    return {
        "machine": machine("cpu"),
        "start": str(args.start),
        "stages": list(args.stages),
        "updates": args.updates,
        "batch_size": args.batch_size,
        "training_seconds": seconds,
        "results": decode(args, work, ["released", *TRAIN]),
    }


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield a Markdown table and what belongs to it."""
    about, results = found["machine"], found["results"]
    ways = list(next(iter(results.values())))
    sets = list(results["released"][ways[0]])
    yield (
        f"{about['cpu']}, {about['threads']} threads, torch {about['torch']}; {found['start']}, "
        f"{' and '.join(found['stages'])}, {found['updates']} updates of {found['batch_size']} "
        "utterances each; word errors in percent, seconds of decoding in brackets"
    )
    yield ""
    heads = [f"{name}: {way}" for name in sets for way in ways]
    yield f"| trained with | seconds | {' | '.join(heads)} |"
    yield f"| --- | ---: |{' ---: |' * len(heads)}"
    for system, by_way in results.items():
        cells = [by_way[way][name] for name in sets for way in ways]
        name = {"mixture": TRAIN["mixture"], "released": "(not adapted)"}.get(system, system)
        seconds = found["training_seconds"].get(system)
        took = "" if seconds is None else f"{seconds:.0f}"
        shown = " | ".join(f"{cell['wer']:.1f} ({cell['seconds']:.0f})" for cell in cells)
        yield f"| {name} | {took} | {shown} |"


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--start", default=RECIPE / "exp" / "whisper_base", type=Path)
    parser.add_argument("--dumpdir", default=RECIPE / "dump" / "raw", type=Path)
    parser.add_argument("--train_set", default="train_paired")
    parser.add_argument("--sets", default="valid_paired test_cs", type=str.split)
    parser.add_argument("--stages", default="adapt_full", type=str.split)
    parser.add_argument("--updates", type=int, default=32, help="of each stage and system")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--tail", type=float, default=4.0, help="seconds")
    parser.add_argument("--work", help="keep models and results there; default: a temporary folder")
    parser.add_argument("--json", help="write the figures there as well")
    args = parser.parse_args(argv)
    for path in (args.start / "config.json", args.dumpdir / args.train_set / "wav.scp"):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: make demo makes it, or name another")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(args, Path(args.work or folder))
    return give_out(found, table(found), args.json)


if __name__ == "__main__":
    start_with_malloc("tests.bench.pads")
    main()
