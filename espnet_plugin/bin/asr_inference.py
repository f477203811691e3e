"""ESPnet's inference with the plugin's models: its options, its beam search, its output files.

python -m espnet_plugin.bin.asr_inference --model_dir exp/adapt_full --language cs \
    --data_path_and_name_and_type dump/raw/test_cs/wav.scp,speech,sound --output_dir exp/inference

For whole sets and many systems, bin.decode is faster.
"""

import sys
from collections.abc import Sequence

from espnet_plugin.cli import run


def main(argv: Sequence[str] | None = None) -> None:
    """Decode; results are in `output_dir/1best_recog/{text,token,token_int,score}`."""
    from espnet_plugin.quick_start import quick_start

    quick_start()
    from espnet_plugin.decode.inference import infer, inference_parser, underscores

    given = underscores(sys.argv[1:] if argv is None else argv)
    infer(inference_parser(__doc__).parse_args(given))


if __name__ == "__main__":
    run(main)
