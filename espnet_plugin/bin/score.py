"""Score recognised text: WER and CER by sclite, normalised, with the raw WER beside them.

python -m espnet_plugin.bin.score --ref dump/raw/test_cs/text \
    --hyp exp/init/decode_greedy/test_cs/text --output exp/init/decode_greedy/test_cs
"""

from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.cli import parser, run
from espnet_plugin.score.files import score_files


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, score, and print one line."""
    options = parser(__doc__)
    options.add_argument("--ref", type=Path, required=True, help="references, 'utt text' a line")
    options.add_argument("--hyp", type=Path, required=True, help="hypotheses, the same way")
    options.add_argument("--output", type=Path, required=True, help="directory for the results")
    options.add_argument("--tags", type=Path, help="utt2tags: a tag for each normalised word")
    options.add_argument("--name", default="", help="the system's name")
    options.add_argument("--lang", default="", help="language of all utterances: cs, ms, en, ...")
    options.add_argument("--utt2lang", type=Path, help="of each; default: the file beside --ref")
    a = options.parse_args(argv)
    r = score_files(a.ref, a.hyp, a.output, a.name, a.lang, a.utt2lang, a.tags)
    low, high = r["wer_ci95"]
    raw = "-" if r["wer_raw"] is None else f"{r['wer_raw']:.2f}"
    print(
        f"{r['system']} on {r['test_set']}: WER {r['wer']:.2f} % [{low:.2f}, {high:.2f}], "
        f"CER {r['cer']:.2f} %, raw WER {raw} %; {r['sub']} sub, {r['del']} del, {r['ins']} ins "
        f"of {r['n_ref']} words in {r['n_utt']} utterances; see {a.output}/score_wer/result.txt"
    )


if __name__ == "__main__":
    run(main)
