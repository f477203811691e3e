"""Score all systems on all sets, and write results.json, RESULTS.md and images (recipe stage 13).

python -m espnet_plugin.bin.report --systems "init adapt_full" --sets "test_cs test_en"
python -m espnet_plugin.bin.report --seeds exp/seed_1/results.json exp/seed_2/results.json
"""

from collections.abc import Sequence

from espnet_plugin.cli import parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and report; 1 if --require is not met."""
    from espnet_plugin.score.commands import add_options, report

    options = parser(__doc__)
    add_options(options)
    return report(options.parse_args(argv))


if __name__ == "__main__":
    run(main)
