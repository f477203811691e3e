#!/usr/bin/env python3
"""Merge an adapted Whisper with the original; the same as python -m espnet_plugin.bin.merge.

local/merge.py --base exp/init --tuned exp/adapt_full --ratio 0.4 --output exp/merge_0.4

Runs with the checkout's .venv, where there is one, like the shell scripts here.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

if __name__ == "__main__":
    environment = ROOT / ".venv"
    python = environment / "bin/python"
    if python.is_file() and Path(sys.prefix).resolve() != environment.resolve():
        os.execv(python, [str(python), *sys.argv])
    sys.path.insert(0, str(ROOT))
    from espnet_plugin.bin.merge import main
    from espnet_plugin.cli import run

    run(main)
