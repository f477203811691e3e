"""Make synthetic training data: mixed or switched text, its speech, recordings at other speeds.

python -m espnet_plugin.bin.synth_data mix --input data/text/hand.jsonl --phrases phrases.tsv \
    --output data/text/train.jsonl --lines 20000 --seed 0 --exclude data/test_cs/text
python -m espnet_plugin.bin.synth_data patterns --input real.jsonl --output patterns.json
python -m espnet_plugin.bin.synth_data switch --parallel corpus.ms.txt corpus.en.txt \
    --output data/text/switched.jsonl --patterns patterns.json --exclude data/test_cs/text
python -m espnet_plugin.bin.synth_data splice --input data/ms_train data/en_train \
    --lines data/text/switched.jsonl --output data/spliced
python -m espnet_plugin.bin.synth_data speak --lines data/text/switched.jsonl --output data/spoken
python -m espnet_plugin.bin.synth_data speed --input data/train --output data/train_sp \
    --factors "0.9 1.0 1.1"
"""

from pathlib import Path

from espnet_plugin.cli import parser, run
from espnet_plugin.corpora import mix_file, speed, switch_text_commands, synthesiser_commands


def main(argv: list[str] | None = None) -> None:
    """Run a subcommand."""
    options = parser(__doc__)
    commands = options.add_subparsers(dest="command", required=True)
    mix_file.add_options(commands.add_parser("mix", help="widen sentences by phrase mixing"))
    switch_text_commands.add_patterns(
        commands.add_parser("patterns", help="measure how real text switches")
    )
    switch_text_commands.add_switch(
        commands.add_parser("switch", help="code-switched text from parallel text or a lexicon")
    )
    synthesiser_commands.add_splice(
        commands.add_parser("splice", help="code-switched speech out of monolingual recordings")
    )
    synthesiser_commands.add_speak(commands.add_parser("speak", help="speech by a synthesiser"))
    change = commands.add_parser("speed", help="speed perturbation of a data directory")
    change.add_argument("--input", type=Path, required=True, help="data directory")
    change.add_argument("--output", type=Path, required=True, help="data directory")
    change.add_argument("--factors", default="0.9 1.0 1.1")
    args = options.parse_args(argv)
    if args.command == "mix":
        print(mix_file.mix_with(args))
    elif args.command == "speed":
        count = speed.perturb_speed(args.input, args.output, speed.parse_factors(args.factors))
        print(f"{args.output}: {count} utterances")
    else:
        print(args.call(args))


if __name__ == "__main__":
    run(main)
