"""The report of a whole experiment (recipe stage 13): what `bin.report` runs."""

import argparse
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.score.bootstrap import RESAMPLES
from espnet_plugin.score.check import check_demo, print_checks
from espnet_plugin.score.report import shown_sets, write_report
from espnet_plugin.score.results import score_all
from espnet_plugin.score.seeds import seeds_table
from espnet_plugin.score.vocabulary import text_only_words


def names(text: str) -> list[str]:
    """Split a list of names given as one argument, by spaces or commas."""
    return list(dict.fromkeys(text.replace(",", " ").split()))


def add_options(options: argparse.ArgumentParser) -> None:
    """Declare the options of `bin.report`."""
    add = options.add_argument
    add("--expdir", type=Path, default=Path("exp"), help="systems; gets RESULTS.md")
    add("--dumpdir", type=Path, default=Path("dump/raw"), help="sets")
    add("--systems", default="", help="names, separated by spaces or commas")
    add("--sets", default="", help="test sets; those of --valid_sets are left out")
    add("--valid_sets", default="", help="sets to choose the merge ratio on")
    add("--example_sets", default="", help="sets that are shown, too small to score")
    add("--tag", default="greedy", help="which decoding: decode_TAG")
    add("--text_lines", nargs="*", type=Path, default=[], help="text-only corpora")
    add("--speech_sets", default="", help="training sets with speech, in --dumpdir")
    add("--resamples", type=int, default=RESAMPLES, help="of the bootstrap")
    add("--seed", type=int, default=0, help="of the bootstrap")
    add("--require", action="store_true", help="fail unless the demo shows what it must")
    add("--seeds", nargs="+", type=Path, help="only summarise these results.json")
    add("--output", type=Path, help="with --seeds: write the table here, not to stdout")


def report(args: argparse.Namespace) -> int:
    """Score, report and, if asked, check the demo's requirements.

    Returns:
        The exit code: 1 if a requirement failed, else 0.

    Raises:
        FileNotFoundError: something that an earlier stage makes is missing.
        ValueError: options that do not fit together, or malformed files.
    """
    if args.seeds:
        table = seeds_table(args.seeds)
        if args.output is None:
            print(table, end="")
        else:
            with atomic_write(args.output, "w") as file:
                file.write(table)
        return 0
    systems, valid_sets = names(args.systems), names(args.valid_sets)
    sets = [name for name in names(args.sets) if name not in valid_sets]
    if not systems or not sets:
        raise ValueError("--systems and --sets are needed, each with at least one name")
    speech = [args.dumpdir / name for name in names(args.speech_sets)]
    if bool(args.text_lines) != bool(speech):
        raise ValueError("--text_lines and --speech_sets belong together: give both or neither")
    vocabulary = text_only_words(args.text_lines, speech) if speech else None
    scores = score_all(
        args.expdir,
        args.dumpdir,
        systems,
        sets,
        args.tag,
        valid_sets,
        vocabulary,
        args.resamples,
        args.seed,
    )
    shown = shown_sets(args.expdir, args.dumpdir, names(args.example_sets), args.tag)
    choice = write_report(scores, args.expdir, valid_sets, shown=shown)
    for line in scores.meta["decoded_otherwise"]:
        print(f"decoded otherwise: {line}")
    for name in sets:
        line = (f"{system} {scores.result(system, name)['wer']:.1f}" for system in systems)
        print(f"WER on {name}: {', '.join(line)}")
    if choice is not None:
        print(f"recommended merge ratio: {choice.ratio:g} (validation: {', '.join(choice.sets)})")
    print(f"report: {args.expdir / 'RESULTS.md'}")
    return 0 if not args.require or print_checks(check_demo(scores, args.expdir), scores) else 1
