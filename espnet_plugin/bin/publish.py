"""Upload a model with its exports and its card to a hub; private by default (recipe stage 15).

python -m espnet_plugin.bin.publish --system merge_0.4 --repo you/whisper-ms-en \
    --card conf/card.yaml --dry_run

The access token is huggingface_hub's: HF_TOKEN in the environment, or 'hf auth login'.
"""

from collections.abc import Sequence

from espnet_plugin.cli import run
from espnet_plugin.export.commands import build_publish_parser, run_publish


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options and upload."""
    run_publish(build_publish_parser(__doc__).parse_args(argv))


if __name__ == "__main__":
    run(main)
