"""Drop pseudo-labels that are not good enough to train on.

python -m espnet_plugin.bin.filter_labels --input data/x_train --output data/x_train_good
python -m espnet_plugin.bin.filter_labels --input data/x_train --output data/x_train_good \
    --hypotheses exp/init/decode_x/x_train/text --max_wer 0.3 --kinds "compression speed language"
"""

from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.cli import parser, run
from espnet_plugin.corpora.pseudo_label_dir import filter_data_dir
from espnet_plugin.corpora.pseudo_labels import KINDS, Limits


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.replace(",", " ").split())


def main(argv: Sequence[str] | None = None) -> None:
    """Filter a data directory."""
    options = parser(__doc__, prog="python -m espnet_plugin.bin.filter_labels")
    options.add_argument("--input", type=Path, required=True, help="data directory, sorted")
    options.add_argument("--output", type=Path, required=True, help="directory to make")
    options.add_argument("--hypotheses", type=Path, help="text that the model to be trained heard")
    options.add_argument(
        "--kinds", type=_words, default=Limits.kinds, help=f"tests, of {' '.join(KINDS)}"
    )
    options.add_argument("--languages", type=_words, default=Limits.languages, help="wanted")
    options.add_argument("--pair", default=Limits.pair, help="of the word tagger")
    for name in ("max_compression", "min_speed", "max_speed", "max_foreign", "max_wer"):
        options.add_argument(f"--{name}", type=float, default=getattr(Limits, name), help=" ")
    options.add_argument("--max_repeats", type=int, default=Limits.max_repeats, help=" ")
    given = vars(options.parse_args(argv))
    source, output, heard = (given.pop(name) for name in ("input", "output", "hypotheses"))
    print(filter_data_dir(source, output, Limits(**given), heard))


if __name__ == "__main__":
    run(main)
