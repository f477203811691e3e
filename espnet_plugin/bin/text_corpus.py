"""Unpaired text to a token store (recipe stage 6), and what a store holds (stage 7).

python -m espnet_plugin.bin.text_corpus prepare --input data/text/train.jsonl \
    --output dump/text/train --model exp/init
python -m espnet_plugin.bin.text_corpus stats --store dump/text/train
python -m espnet_plugin.bin.text_corpus sample --store dump/text/train --model exp/init
"""

from collections.abc import Sequence

from espnet_plugin.cli import parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and run one of the commands."""
    options = parser(__doc__)
    commands = options.add_subparsers(dest="command", required=True, parser_class=type(options))
    prepare = commands.add_parser("prepare", help="tokenise text into a store")
    prepare.add_argument("--input", nargs="+", required=True, help=".jsonl, .txt, or Kaldi dirs")
    prepare.add_argument("--output", required=True, help="the store to make")
    prepare.add_argument("--model", required=True, help="model directory, for its tokenizer")
    prepare.add_argument("--lang_tokens", default="cs:ms ms:ms en:en")
    prepare.add_argument("--text_style", default="as_is", help="as_is or spoken")
    prepare.add_argument("--lang", help="language of inputs that do not say theirs (.txt)")
    stats = commands.add_parser("stats", help="print what stores hold")
    stats.add_argument("--store", nargs="+", required=True)
    sample = commands.add_parser("sample", help="print lines of a store")
    sample.add_argument("--store", required=True)
    sample.add_argument("--model", required=True)
    sample.add_argument("--lines", type=int, default=10)
    sample.add_argument("--seed", type=int, default=0)
    args = vars(options.parse_args(argv))
    from espnet_plugin import text_input

    getattr(text_input, args.pop("command"))(**args)
    return 0


if __name__ == "__main__":
    run(main)
