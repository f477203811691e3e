"""Make the demo corpus: hand-written sentences, spoken by espeak-ng, and mixed text.

python -m espnet_plugin.bin.prepare_demo --datadir data --seed 0 --nj 2
"""

import os
from pathlib import Path

from espnet_plugin.cli import parser, run
from espnet_plugin.corpora import demo


def main(argv: list[str] | None = None) -> None:
    """Prepare the corpus and print its table."""
    defaults = demo.DemoOptions()
    options = parser(__doc__)
    options.add_argument("--source", type=Path, default=demo.SOURCE, help="the hand-written files")
    options.add_argument("--datadir", type=Path, default=Path("data"))
    options.add_argument("--seed", type=int, default=defaults.seed)
    options.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="spoken at a time")
    options.add_argument(
        "--lines", type=int, default=defaults.lines, help="distinct text-only lines"
    )
    options.add_argument("--acoustic_repeats", type=int, default=defaults.acoustic_repeats)
    options.add_argument("--switch_rate", type=float, default=defaults.switch_rate)
    args = options.parse_args(argv)
    made = demo.DemoOptions(args.seed, args.lines, args.acoustic_repeats, args.switch_rate)
    print(demo.prepare(args.source, args.datadir, made, args.nj))


if __name__ == "__main__":
    run(main)
