#!/usr/bin/env python3
"""Merge an adapted Whisper with the original; the same as python -m espnet_plugin.bin.merge.

local/merge.py --base exp/init --tuned exp/adapt_full --ratio 0.4 --output exp/merge_0.4
"""

from espnet_plugin.bin.merge import main
from espnet_plugin.cli import run

if __name__ == "__main__":
    run(main)
