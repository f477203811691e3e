"""Prepare speech corpora (recipe stage 1), list them, or check data directories.

python -m espnet_plugin.bin.prepare_corpus list
NSC=/data/nsc python -m espnet_plugin.bin.prepare_corpus prepare --corpora nsc --datadir data
python -m espnet_plugin.bin.prepare_corpus validate --input data/nsc_cs_train --mend true
"""

from collections.abc import Sequence

from espnet_plugin.cli import run
from espnet_plugin.corpora.commands import build_parser


def main(argv: Sequence[str] | None = None) -> int | None:
    """Run one of ``list``, ``prepare``, ``validate``."""
    options = build_parser(__doc__).parse_args(argv)
    code: int | None = options.call(options)
    return code


if __name__ == "__main__":
    run(main)
