"""Export a model for other programs, verified by decoding with them (recipe stage 14).

python -m espnet_plugin.bin.export --model exp/merge_0.4 --format ct2 --dtype int8 --output exp/ct2
python -m espnet_plugin.bin.export --model exp/merge_0.4 --data dump/raw/test_cs \
    --formats "hf openai ct2:float16 ct2:int8 espnet" --output_prefix exp/merge_0.4/export_
python -m espnet_plugin.bin.export --model exp/merge_0.4 --matrix exp/formats.md
"""

from collections.abc import Sequence

from espnet_plugin.cli import run
from espnet_plugin.export.commands import build_parser, run_export


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options and export."""
    run_export(build_parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run(main)
