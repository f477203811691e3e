#!/usr/bin/env bash
# Make the demo corpus in data/ (about a minute; nothing where it is there already):
#   local/prepare_demo.sh --datadir data --seed 0 --nj 2
# Wants espeak-ng: sudo apt-get install espeak-ng, or on a Mac: brew install espeak-ng
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
python=${python:-$root/.venv/bin/python}
if ! command -v "$python" > /dev/null; then
    echo "error: no Python at $python: run make env, or set python" >&2
    exit 2
fi
PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" exec "$python" -m espnet_plugin.bin.prepare_demo "$@"
