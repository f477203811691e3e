#!/usr/bin/env bash
# Run an experiment of several steps with one command.
#
#   local/run_experiment.sh seeds 3                     # the demo with seeds 1 to 3: means and spreads
#   local/run_experiment.sh seeds 3 --stop_stage 10     # options after that go to each run
#   local/run_experiment.sh text1m                      # stage 1 on 1 M lines of dump/text/train (recipe stage 6)
#   local/run_experiment.sh text1m --input "web/*.jsonl.zst" --ngpu 4    # of a corpus of its own
#
# seeds: the demo's corpus is made once, and every run works on it; run K has the seed K and the directory exp/seed_K.
# A run that misses the demo's requirements counts as well. The table is exp/SEEDS.md.
#
# text1m: does the decoder adapt without its cross-attention, and does it forget a language? Draws the lines, trains
# stage 1 over them, validates ten times a pass, code-switched, Malay and English text apart, and writes exp/TEXT1M.md
# with the curve. text1m --help lists its options; what follows -- goes to ESPnet's trainer.
#
# What is finished is not repeated.
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../egs2_asyncswitch/asr1"

fail() {
    echo "run_experiment.sh: error: $1" >&2
    exit 2
}

case ${1:-} in
    seeds) ;;
    text1m) exec "$here/text1m.sh" "${@:2}" ;;
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$here/run_experiment.sh"
        exit 0
        ;;
    "") fail "which experiment? there is: seeds NUMBER, text1m" ;;
    *) fail "no experiment is called '$1'; there is: seeds NUMBER, text1m" ;;
esac
count=${2:-}
case $count in "" | *[!0-9]* | 0 | 1) fail "seeds wants a number of runs, two or more; got '$count'" ;; esac
shift 2

. ./path.sh
results=()
for ((seed = 1; seed <= count; seed++)); do
    echo "##### seed $seed of $count"
    ./run_demo.sh --require false "$@" --expdir "exp/seed_$seed" --seed "$seed"
    results+=("exp/seed_$seed/results.json")
done
"$python" -m espnet_plugin.bin.report --seeds "${results[@]}" --output exp/SEEDS.md
echo "means and spreads: $PWD/exp/SEEDS.md"
