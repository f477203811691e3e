"""Format, filter and count speech data (recipe stages 3, 4 and 7).

python -m espnet_plugin.bin.prepare_data format --sets "train valid test_cs"
python -m espnet_plugin.bin.prepare_data filter --sets "train valid" --model exp/init
python -m espnet_plugin.bin.prepare_data stats --sets "train valid test_cs" --model exp/init
"""

from collections.abc import Sequence

from espnet_plugin.cli import run
from espnet_plugin.data.commands import build_parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run one of ``format``, ``filter``, ``stats``."""
    options = build_parser(__doc__).parse_args(argv)
    options.call(options)


if __name__ == "__main__":
    run(main)
