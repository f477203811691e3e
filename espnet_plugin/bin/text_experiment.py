"""Stage 1 on a subset of the text (local/run_experiment.sh text1m runs these one after another).

python -m espnet_plugin.bin.text_experiment subset --store dump/text/train --output dump/text1m
python -m espnet_plugin.bin.text_experiment plan --store dump/text1m --config conf/train_text.yaml \
    --output exp/text1m.yaml
python -m espnet_plugin.bin.text_experiment report --system exp/text1m --store dump/text1m \
    --output exp/TEXT1M.md
"""

from collections.abc import Sequence

from espnet_plugin.cli import parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and run one of the commands."""
    options = parser(__doc__)
    commands = options.add_subparsers(dest="command", required=True, parser_class=type(options))
    for name, does in (
        ("subset", "draw lines of a store into a store of their own"),
        ("plan", "write a training configuration as long as some passes over a store"),
        ("report", "write what a finished run shows"),
    ):
        add = commands.add_parser(name, help=does).add_argument
        add("--store", required=True, help="a token store")
        add("--output", required=True, help="what to make")
        if name == "subset":
            add("--lines", type=int, default=1_000_000)
            add("--seed", type=int, default=0)
        elif name == "plan":
            add("--config", required=True, help="what else holds, as conf/train_text.yaml")
            add("--passes", type=int, default=2)
            add("--checks", type=int, default=10, help="validations in each pass")
        else:
            add("--system", required=True, help="a finished system of stage 1")
    args = vars(options.parse_args(argv))
    from espnet_plugin import text_experiment

    made = getattr(text_experiment, args.pop("command"))(**args)
    print(made if isinstance(made, str) else f"{args['output']}: made")
    return 0


if __name__ == "__main__":
    run(main)
