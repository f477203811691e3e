"""The options of ``bin.export`` and ``bin.publish``. Needs no torch: `--help` is quick."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.cli import parser
from espnet_plugin.data.commands import boolean, words
from espnet_plugin.export.formats import FORMATS, Target, parse_targets, target

CARD = "MODEL_CARD.md"  # in the system's directory; README.md where it is published

if TYPE_CHECKING:
    from espnet_plugin.export.verify import Verifier


def build_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``bin.export``."""
    options = parser(description, prog="python -m espnet_plugin.bin.export")
    add = options.add_argument
    add("--model", required=True, help="model directory")
    add("--format", help=f"one of {', '.join(FORMATS)}")
    add("--dtype", help="stored type (float32, float16, bfloat16; ct2: int8, int8_float16 as well)")
    add("--output", help="directory to make, or the name of the .pt or .zip file")
    add("--formats", type=words, help="several, such as 'hf openai ct2:float16 ct2:int8 espnet'")
    add("--output_prefix", help="with --formats: directories are this + format_dtype")
    add("--matrix", help="write the table of formats and programs to this file instead")
    add(
        "--verify",
        type=boolean,
        default=True,
        help="decode with the target's program; else only the weights are compared",
    )
    add(
        "--data",
        nargs="+",
        default=[],
        help="formatted sets to decode (dump/raw/test_cs); "
        "default: the recordings in ESPnet's wheel",
    )
    add("--num_utts", type=int, default=8, help="utterances of each set; 0: all")
    add("--lang_tokens", default="cs:ms ms:ms en:en", help="data language:Whisper language")
    add("--max_tokens", type=int, default=224, help="the most tokens of a text, 4 to 224")
    add(
        "--tolerance",
        type=float,
        help="percent of words that may differ (default: the format's, "
        "none where no weight is rounded)",
    )
    add("--device", default="cpu", help="cpu or cuda")
    return options


def _outputs(args: argparse.Namespace) -> list[tuple[Target, Path]]:
    """Return what to export, and where to.

    Raises:
        ValueError: The options contradict each other, or one is missing.
    """
    if args.formats is not None:
        if args.format or args.output or args.dtype:
            raise ValueError("give --formats and --output_prefix, or --format and --output")
        if not args.output_prefix:
            raise ValueError("--formats needs --output_prefix, such as exp/merge_0.4/export_")
        targets = parse_targets(args.formats)
        return [(made, Path(f"{args.output_prefix}{made.name}")) for made in targets]
    if args.output_prefix:
        raise ValueError("--output_prefix is for --formats; give --output")
    if not args.format or not args.output:
        raise ValueError(f"give --format ({', '.join(FORMATS)}) and --output, or --formats")
    return [(target(args.format, args.dtype), Path(args.output))]


def _verifier(args: argparse.Namespace) -> Verifier:
    from espnet_plugin.export.audio import clips_of
    from espnet_plugin.export.verify import Verifier
    from espnet_plugin.prompt import parse_lang_tokens

    clips = clips_of(args.data, args.num_utts, args.model, parse_lang_tokens(args.lang_tokens))
    return Verifier(clips, args.max_tokens, args.device, args.tolerance)


def run_export(args: argparse.Namespace) -> None:
    """Export as the parsed options say."""
    if args.matrix:
        from espnet_plugin.export.matrix import TARGETS, round_trips

        if args.output or args.output_prefix or args.format:
            raise ValueError("--matrix exports nothing: leave --format and --output out")
        table = round_trips(args.model, parse_targets(args.formats or TARGETS), _verifier(args))
        with atomic_write(args.matrix, "w") as file:
            file.write(table)
        print(table, end="")
        return
    outputs = _outputs(args)
    from espnet_plugin.export import export_model

    verifier = _verifier(args) if args.verify else None
    for made, output in outputs:
        export_model(args.model, made, output, verifier)


def build_publish_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``bin.publish``."""
    options = parser(description, prog="python -m espnet_plugin.bin.publish")
    add = options.add_argument
    add("--expdir", default="exp", help="where systems and results.json are")
    add("--system", required=True, help="the model to publish")
    add("--exports", nargs="+", help="its exports (default: EXPDIR/SYSTEM/export_*)")
    add("--repo", required=True, help="owner/name on the hub")
    add("--card", required=True, help="what only people know, YAML like conf/card.yaml")
    add("--private", type=boolean, default=True, help="make the repository private")
    add("--dry_run", action="store_true", help="write the card and show what would be sent")
    return options


def run_publish(args: argparse.Namespace) -> None:
    """Write the card of a system and upload it with its exports, as the parsed options say."""
    from espnet_plugin.export.card import card
    from espnet_plugin.export.facts import gather, read_info
    from espnet_plugin.export.plan import plan
    from espnet_plugin.export.publish import RECORD, publish

    system = Path(args.expdir) / args.system
    info = read_info(args.card)
    exports = [Path(path) for path in args.exports or ()]
    exports = exports or sorted(path.parent for path in system.glob("export_*/export.json"))
    text = card(gather(args.expdir, args.system, exports), info, args.repo)
    with atomic_write(system / CARD, "w") as file:
        file.write(text)
    print(f"{system / CARD}: written")
    publish(
        plan(exports, text),
        args.repo,
        private=args.private,
        dry_run=args.dry_run,
        record=system / RECORD,
        message=f"{args.system}, exported by espnet-asyncswitch",
    )
