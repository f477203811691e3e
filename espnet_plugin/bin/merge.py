r"""Merge an adapted Whisper with the original: ratio * tuned + (1 - ratio) * base.

python -m espnet_plugin.bin.merge --base exp/init --tuned exp/adapt_full --output exp/merge_0.4
python -m espnet_plugin.bin.merge --base exp/init --tuned exp/adapt_full \
    --ratios 0.2,0.4,0.6,0.8 --output_prefix exp/merge_
python -m espnet_plugin.bin.merge --base exp/init --tuned exp/adapt_full --output exp/merge_mixed \
    --ratio 0.4 --group_ratio encoder=0.2 cross_attn=0.6 --layer_ratio decoder.0-11=0.2 ffn.31=1
"""

from __future__ import annotations

from collections.abc import Sequence

from espnet_plugin.cli import parser, run

RULES = (
    ("--group_ratio", "GROUP=RATIO", "such as encoder=0.2, in place of the common ratio"),
    (
        "--layer_ratio",
        "LAYERS=RATIO",
        "such as decoder.0-11=0.2, encoder.31=0.6 or ffn.3=0 (layers count from 0); the narrower "
        "rule wins: ffn.3, then decoder.0-11, then the group, then the common ratio",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and merge."""
    options = parser(__doc__)
    add = options.add_argument
    add("--base", required=True, help="directory of the original model")
    add("--tuned", required=True, help="directory of the adapted model")
    add("--ratio", type=float, help="share of the adapted model (default: 0.4)")
    add("--output", help="directory to make")
    add("--ratios", help="several ratios, such as 0.2,0.4; the inputs are read once")
    add("--output_prefix", help="with --ratios: directories are this + the ratio")
    for option, form, text in RULES:
        add(option, nargs="+", action="extend", default=[], metavar=form, help=text)
    add("--dtype", help="stored type (default: as in the base)")
    add("--max_shard_size", help="cut the weights into files of at most, such as 2GB")
    add("--threads", type=int, help="default: by the machine")
    add("--no_hashes", action="store_true", help="do not hash the inputs")
    args = options.parse_args(argv)
    from espnet_plugin import merge

    paths = merge.merge_sweep(
        args.base,
        args.tuned,
        merge.outputs_of(args.ratio, args.output, args.ratios, args.output_prefix),
        merge.parse_ratios(args.group_ratio, "--group_ratio"),
        merge.parse_ratios(args.layer_ratio, "--layer_ratio"),
        dtype=args.dtype,
        max_shard_size=args.max_shard_size,
        threads=args.threads,
        hash_inputs=not args.no_hashes,
        show_progress=True,
    )
    print(*paths, sep="\n")
    return 0


if __name__ == "__main__":
    run(main)
