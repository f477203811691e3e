"""Merge an adapted Whisper with the original: ratio * tuned + (1 - ratio) * base.

python -m espnet_plugin.bin.merge --base exp/init --tuned exp/adapt_full --output exp/merge_0.4
python -m espnet_plugin.bin.merge --base exp/init --tuned exp/adapt_full \
    --ratios 0.2,0.4,0.6,0.8 --output_prefix exp/merge_
"""

from __future__ import annotations

from collections.abc import Sequence

from espnet_plugin.cli import parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and merge."""
    options = parser(__doc__)
    options.add_argument("--base", required=True, help="directory of the original model")
    options.add_argument("--tuned", required=True, help="directory of the adapted model")
    options.add_argument("--ratio", type=float, help="share of the adapted model (default: 0.4)")
    options.add_argument("--output", help="directory to make")
    options.add_argument("--ratios", help="several ratios, such as 0.2,0.4")
    options.add_argument("--output_prefix", help="with --ratios: directories are this + the ratio")
    options.add_argument("--group_ratio", nargs="+", default=[], metavar="GROUP=RATIO")
    options.add_argument("--dtype", help="stored type (default: as in the base)")
    args = options.parse_args(argv)
    from espnet_plugin import merge

    outputs = merge.outputs_of(args.ratio, args.output, args.ratios, args.output_prefix)
    groups = merge.parse_group_ratios(args.group_ratio)
    for path in merge.merge_sweep(args.base, args.tuned, outputs, groups, dtype=args.dtype):
        print(path)
    return 0


if __name__ == "__main__":
    run(main)
