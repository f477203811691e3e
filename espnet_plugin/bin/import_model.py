"""Import Whisper into a directory that ESPnet and transformers read.

python -m espnet_plugin.bin.import_model --source openai/whisper-large-v3 --output exp/init
python -m espnet_plugin.bin.import_model --source demo --output exp/whisper_base
"""

from __future__ import annotations

from collections.abc import Sequence

from espnet_plugin.cli import parser, run


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the options and import."""
    options = parser(__doc__)
    options.add_argument(
        "--source",
        required=True,
        help="hub id, Hugging Face directory, openai-whisper .pt, CTranslate2 directory, packed "
        "ESPnet .zip, or 'demo'",
    )
    options.add_argument("--output", required=True, help="directory to make")
    options.add_argument("--dtype", default="float32", help="float32, float16 or bfloat16")
    options.add_argument("--revision", help="branch, tag or commit of a hub id")
    args = options.parse_args(argv)
    from espnet_plugin.importers import import_model

    import_model(args.source, args.output, dtype=args.dtype, revision=args.revision)
    return 0


if __name__ == "__main__":
    run(main)
