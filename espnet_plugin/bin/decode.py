"""Decode systems on sets, all in one process (recipe stage 12).

python -m espnet_plugin.bin.decode --expdir exp --systems "init adapt_full" --sets "test_cs test_en"
"""

from collections.abc import Sequence

from espnet_plugin.cli import run
from espnet_plugin.decode.options import decode_parser, run_decode


def main(argv: Sequence[str] | None = None) -> None:
    """Decode, and write `exp/<system>/decode_<tag>/<set>/text` and `decode.json`."""
    run_decode(decode_parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run(main)
