"""The options of ``prepare_data`` and what they call."""

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from espnet_plugin.cli import nearest, parser

USER_ERRORS = (ValueError, FileNotFoundError)


def boolean(value: str) -> bool:
    """Read ``true`` or ``false``, as the recipe's options are written."""
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{value}' is neither true nor false")
    return value == "true"


def words(value: str) -> list[str]:
    """Split a list given as one option, at spaces or commas."""
    return value.replace(",", " ").split()


def _flag(options: argparse.ArgumentParser, name: str, text: str) -> None:
    options.add_argument(
        name, type=boolean, nargs="?", const=True, default=False, metavar="true|false", help=text
    )


def build_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``prepare_data``; the parsed options have their function in `call`."""
    root = parser(description, prog="python -m espnet_plugin.bin.prepare_data")
    commands = root.add_subparsers(dest="command", required=True)

    options = commands.add_parser("format", help="data/SET to dump/raw/SET: 16 kHz mono audio")
    options.add_argument("--input", help="one data directory; with --output")
    options.add_argument("--output", help="the directory to make")
    options.add_argument("--sets", type=words, default=[], help="several sets of --datadir")
    options.add_argument("--datadir", default="data", help="where the sets are")
    options.add_argument("--dumpdir", default="dump/raw", help="where formatted sets go")
    options.add_argument("--channel", default="mean", help="of several: a number from 0, or mean")
    _flag(options, "--copy", "copy audio that needs no conversion, too")
    _flag(options, "--allow_pipes", "run the shell commands in wav.scp")
    options.add_argument("--language", help="of all utterances, where there is no utt2lang")
    options.add_argument("--languages", type=words, help="the languages that are allowed")
    text = "the same, as training and decoding are told: 'cs:ms ms:ms en:en'"
    options.add_argument("--lang_tokens", help=text)
    options.add_argument(
        "--max_faulty",
        type=float,
        default=0.01,
        help="share of a set's utterances that may be left out, their audio unusable; tests: none",
    )
    text = "test sets among them, of which nothing is left out (so, too, where a name has test)"
    options.add_argument("--test_sets", type=words, default=[], help=text)
    options.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")
    options.set_defaults(call=run_format)

    options = commands.add_parser("filter", help="drop what cannot be trained on; no test sets")
    options.add_argument("--sets", type=words, required=True, help="training and validation sets")
    options.add_argument("--dumpdir", default="dump/raw", help="where formatted sets are")
    options.add_argument("--min_seconds", type=float, default=0.1, help="shortest utterance")
    options.add_argument("--max_seconds", type=float, default=30.0, help="longest utterance")
    options.add_argument("--model", help="model directory, to count tokens")
    options.add_argument(
        "--prompt_tokens", type=int, default=6, help="places of the 448 that prompt and end take"
    )
    text = "sets to validate or test on: what training sets share with them is said"
    options.add_argument("--held_out", type=words, default=[], help=text)
    _flag(options, "--strict", "fail instead of dropping")
    options.set_defaults(call=run_filter)

    options = commands.add_parser("stats", help="hours, utterances, words; ESPnet's shape files")
    options.add_argument("--sets", type=words, required=True, help="formatted sets")
    options.add_argument("--dumpdir", default="dump/raw", help="where formatted sets are")
    options.add_argument("--output", default="exp/stats", help="the directory to make")
    options.add_argument("--model", help="model directory, to count tokens")
    options.set_defaults(call=run_stats)
    return root


def _each(names: list[str], work: Callable[[str], object], dumpdir: str | None) -> None:
    """Do all sets before failing, so that one run shows the faults of all; then report them."""
    from espnet_plugin.data.faults import write_report

    faults: list[Exception] = []
    for name in names:
        try:
            print(work(name), flush=True)
        except USER_ERRORS as error:
            faults.append(error)
    if dumpdir is not None and Path(dumpdir).is_dir():
        print(f"what was found about the audio: {write_report(dumpdir)}", flush=True)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        raise ValueError("\n".join(map(str, faults)))


def run_format(options: argparse.Namespace) -> None:
    """Format one directory, or several sets."""
    from espnet_plugin.data.audio import AudioOptions
    from espnet_plugin.data.formatting import format_set

    if bool(options.sets) == bool(options.input) or bool(options.input) != bool(options.output):
        raise ValueError("give either --input DIR --output DIR, or --sets 'A B'")
    languages = options.languages
    if options.lang_tokens is not None:
        from espnet_plugin.prompt import parse_lang_tokens

        languages = list(parse_lang_tokens(options.lang_tokens))
    if options.nj < 1:
        raise ValueError(f"nj is at least 1, got {options.nj}")
    audio = AudioOptions(options.channel, options.copy, options.allow_pipes)
    pairs = {
        name: (Path(options.datadir, name), Path(options.dumpdir, name)) for name in options.sets
    }
    if options.input:
        pairs = {options.input: (Path(options.input), Path(options.output))}

    def work(name: str) -> object:
        source, output = pairs[name]
        if not source.is_dir():
            known = [p.name for p in source.parent.glob("*") if p.is_dir()]
            raise FileNotFoundError(
                f"{source}: no such data directory{nearest(source.name, known)}; stages 1 and 2 "
                "make it"
            )
        return format_set(
            source,
            output,
            audio,
            nj=options.nj,
            language=options.language,
            languages=languages,
            max_faulty=options.max_faulty,
            test=name in options.test_sets,
        )

    _each(list(pairs), work, options.dumpdir if options.sets else None)


def run_filter(options: argparse.Namespace) -> None:
    """Filter training and validation sets."""
    from espnet_plugin.data.filtering import Limits, filter_set

    limits = Limits(
        options.min_seconds,
        options.max_seconds,
        options.prompt_tokens,
        options.model,
        options.strict,
    )
    _each(options.sets, lambda name: filter_set(options.dumpdir, name, limits), options.dumpdir)
    if options.held_out:
        from espnet_plugin.data.overlap import write_overlaps

        training = [name for name in options.sets if name not in options.held_out]
        if found := write_overlaps(options.dumpdir, training, options.held_out):
            print(found, flush=True)


def run_stats(options: argparse.Namespace) -> None:
    """Count sets."""
    from espnet_plugin.data.statistics import statistics

    print(statistics(options.dumpdir, options.sets, options.output, options.model), end="")
