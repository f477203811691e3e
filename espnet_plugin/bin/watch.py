"""Run a command and print the time it took and the most memory its processes held together.

python -m espnet_plugin.bin.watch --max_gb 8 -- ./asyncswitch.sh --stage 8
"""

from pathlib import Path

from espnet_plugin import cli, resources


def main(argv: list[str] | None = None) -> int:
    """Parse the options, run the command, report; the exit code is the command's."""
    parser = cli.parser(__doc__)
    parser.add_argument("--max_gb", type=float, help="fail where more memory than this was held")
    parser.add_argument("--output", type=Path, help="write the figures here too, as JSON")
    parser.add_argument("command", nargs="+", help="after --: the command and its arguments")
    args = parser.parse_args(argv)
    return resources.report(resources.watch(args.command), args.max_gb, args.output)


if __name__ == "__main__":
    cli.run(main)
