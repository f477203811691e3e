"""Make synthetic training data: mixed text, or recordings at other speeds.

python -m espnet_plugin.bin.synth_data mix --input data/text/hand.jsonl --phrases phrases.tsv \
    --output data/text/train.jsonl --lines 20000 --seed 0 --exclude data/test_cs/text
python -m espnet_plugin.bin.synth_data speed --input data/train --output data/train_sp \
    --factors "0.9 1.0 1.1"
"""

from pathlib import Path

from espnet_plugin.cli import parser, run
from espnet_plugin.corpora import mix_file, speed


def main(argv: list[str] | None = None) -> None:
    """Run a subcommand."""
    options = parser(__doc__)
    commands = options.add_subparsers(dest="command", required=True)
    mix_file.add_options(commands.add_parser("mix", help="widen sentences by phrase mixing"))
    change = commands.add_parser("speed", help="speed perturbation of a data directory")
    change.add_argument("--input", type=Path, required=True, help="data directory")
    change.add_argument("--output", type=Path, required=True, help="data directory")
    change.add_argument("--factors", default="0.9 1.0 1.1")
    args = options.parse_args(argv)
    if args.command == "mix":
        print(mix_file.mix_with(args))
    else:
        count = speed.perturb_speed(args.input, args.output, speed.parse_factors(args.factors))
        print(f"{args.output}: {count} utterances")


if __name__ == "__main__":
    run(main)
