r"""Plan the memory of a stage: weights, gradients, optimiser, activations, the batch that fits.

python -m espnet_plugin.bin.plan --model large-v3 --stage 3 --gpus 1x80
python -m espnet_plugin.bin.plan --model exp/init --stage all --gpus 2x8x80 --json
python -m espnet_plugin.bin.plan --model large-v3 --stage 3 --gpus 4x24 \
    --trains cross_attn encoder.24-31
"""

from collections.abc import Sequence

from espnet_plugin.cli import parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options, print the plan."""
    options = parser(__doc__)
    add = options.add_argument
    add("--model", required=True, help="model directory, or tiny ... large-v3, turbo")
    add("--stage", default="all", help="1, 2, 3, all, or a name")
    add("--gpus", required=True, help="8x80 (GPUs x GB), 2x8x80 (with nodes), 1x16:T4 or cpu:24")
    add("--pad", default="batch", help="batch or 30s, as in training")
    add("--autocast", default="auto", help="bfloat16, none, or auto: as training decides")
    add("--trains", nargs="+", default=[], help="what moves, such as ffn.8-15, if not the stage's")
    add("--lora", help="adapters, as in training: 'cross_attn=8, ffn=8'")
    add("--tokens_per_second", type=float, default=8.0, help="of text, in speech; plan for much")
    add("--target", type=int, help="positions, or seconds of audio, of an update on all devices")
    add("--batch_bins", type=int, help="judge this batch too (utterances with --pad 30s)")
    add("--json", action="store_true", help="print JSON, sizes in bytes")
    args = options.parse_args(argv)
    from espnet_plugin import planning

    print(planning.plan(**vars(args)))
    return 0


if __name__ == "__main__":
    run(main)
