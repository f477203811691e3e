"""Unpaired text to a token store (recipe stage 6), and what a store holds (stage 7).

python -m espnet_plugin.bin.text_corpus prepare --input data/text/train.jsonl \
    --output dump/text/train --model exp/init
python -m espnet_plugin.bin.text_corpus prepare --input web/ "chat/*.jsonl.zst" --model exp/init \
    --output dump/text/train --valid_output dump/text/valid --config conf/text_corpus.yaml
python -m espnet_plugin.bin.text_corpus stats --store dump/text/train
python -m espnet_plugin.bin.text_corpus sample --store dump/text/train --model exp/init
"""

from argparse import SUPPRESS
from collections.abc import Sequence

from espnet_plugin.cli import parser, run

INPUTS = ".txt .jsonl .csv .tsv .parquet, plain or .gz .zst .xz; folders, globs, Kaldi directories"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and run one of the commands."""
    options = parser(__doc__)
    commands = options.add_subparsers(dest="command", required=True, parser_class=type(options))
    add = commands.add_parser("prepare", help="clean, filter and tokenise text").add_argument
    add("--input", nargs="+", required=True, help=INPUTS)
    add("--output", required=True, help="the store to make; its folder report says what became of")
    add("--model", required=True, help="model directory, for its tokenizer")
    add("--lang_tokens", default="cs:ms ms:ms en:en", help="language of a line -> Whisper's")
    add("--text_style", help="as_is or spoken; default: the configuration's")
    add("--lang", help="language of lines that do not say theirs; default: from their words")
    add("--config", help="limits and choices, as conf/text_corpus.yaml")
    add("--valid_output", help="a second store, for the share of the lines that is held out")
    add("--exclude", nargs="+", default=[], help="inputs whose lines are dropped, as test sets")
    add("--field", help="field that holds the text; default: the configuration's")
    add("--strict", action="store_true", default=None, help="fail at a line that cannot be read")
    add("--workers", "--nj", type=int, help="processes; default: one a processor")
    add("--executor", default="local", help="local, or dask")
    add("--scheduler", help="address (tcp://host:8786) or file of a Dask scheduler")
    add("--cluster", help="Dask workers as Slurm jobs, as conf/dask_slurm.yaml")
    add("--no_plots", dest="plots", default=SUPPRESS, action="store_false", help="draw no pictures")
    add("--keep_work", action="store_true", help="leave the directory of unfinished work")
    add = commands.add_parser("stats", help="print what stores hold").add_argument
    add("--store", nargs="+", required=True)
    add = commands.add_parser("sample", help="print lines of a store").add_argument
    add("--store", required=True)
    add("--model", required=True)
    add("--lines", type=int, default=10)
    add("--seed", type=int, default=0)
    args = vars(options.parse_args(argv))
    from espnet_plugin import text_input

    getattr(text_input, args.pop("command"))(**args)
    return 0


if __name__ == "__main__":
    run(main)
