"""ESPnet's training entry with the plugin registered; one adaptation stage.

python -m espnet_plugin.bin.asr_train --config conf/train_text.yaml --adaptation_stage adapt_text \
    --init_dir exp/init --train_text dump/text/train --valid_text dump/text/valid \
    --output_dir exp/adapt_text --ngpu 0
"""

from collections.abc import Sequence

from espnet_plugin.cli import run


def main(argv: Sequence[str] | None = None) -> int:
    """Train as ESPnet does; options are ESPnet's and those of `espnet_plugin.task`."""
    from espnet_plugin.quick_start import quick_start

    quick_start()
    from espnet_plugin.task import AsyncSwitchTask

    AsyncSwitchTask.main(cmd=argv)
    return 0


if __name__ == "__main__":
    run(main)
