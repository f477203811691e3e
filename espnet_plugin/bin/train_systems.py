"""Train systems of an experiment (recipe stages 5, 8, 9, 10).

python -m espnet_plugin.bin.train_systems --expdir exp --systems "adapt_full direct_full" \
    --train_set train_paired --valid_set valid_paired
"""

from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.cli import parser, run

# What espnet2.bin.launch adds to a command.
LAUNCHER = (
    "multiprocessing_distributed",
    "local_rank",
    "dist_rank",
    "dist_world_size",
    "dist_master_addr",
    "dist_master_port",
    "dist_init_method",
    "dist_backend",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and train."""
    options = parser(__doc__)
    options.add_argument("--systems", required=True, help="names, in order")
    options.add_argument("--expdir", default="exp")
    options.add_argument("--dumpdir", default="dump")
    for name in ("train_set", "valid_set", "acoustic_train_set", "acoustic_valid_set"):
        options.add_argument(f"--{name}", default="", help="a set in dumpdir/raw")
    options.add_argument("--text_store", default="dump/text/train")
    options.add_argument("--valid_text_store", default="dump/text/valid")
    for name in ("text", "align", "full"):
        options.add_argument(f"--{name}_config", default=f"conf/train_{name}.yaml")
    options.add_argument("--acoustic_config", default="conf/demo/train_acoustic.yaml")
    for name, value in (("lang_tokens", "cs:ms ms:ms en:en"), ("text_style", "as_is")):
        options.add_argument(f"--{name}", default=value)
    options.add_argument("--pad", default="batch")
    options.add_argument("--ngpu", default="0")
    options.add_argument("--seed", default="0")
    options.add_argument("--keep_checkpoints", default="true")
    text = "trainings side by side, which share a CPU; more than one needs memory for as many"
    options.add_argument("--workers", type=int, default=1, help=text)
    for name in LAUNCHER:
        options.add_argument(f"--{name}", help="as a launcher of several processes says")
    args = options.parse_args(argv)
    from espnet_plugin.systems import Plan
    from espnet_plugin.training.side_by_side import train_side_by_side

    raw = Path(args.dumpdir) / "raw"
    pair = (str(raw / args.train_set), str(raw / args.valid_set))
    acoustic = (str(raw / args.acoustic_train_set), str(raw / args.acoustic_valid_set))
    shared = ("lang_tokens", "text_style", "pad", "ngpu", "seed", "keep_checkpoints")
    plan = Plan(
        Path(args.expdir),
        {
            "adapt_text": args.text_config,
            "adapt_align": args.align_config,
            "adapt_full": args.full_config,
            "acoustic": args.acoustic_config,
        },
        {"adapt_align": pair, "adapt_full": pair, "acoustic": acoustic},
        (args.text_store, args.valid_text_store),
        {name: getattr(args, name) for name in shared},
        {name: value for name in LAUNCHER if (value := getattr(args, name)) is not None},
    )
    train_side_by_side(args.systems.replace(",", " ").split(), plan, args.workers)
    return 0


if __name__ == "__main__":
    run(main)
