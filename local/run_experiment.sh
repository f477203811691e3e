#!/usr/bin/env bash
# Run an experiment made of several runs of the demo, and put its runs into one table.
#
#   local/run_experiment.sh seeds 3                     # the demo with seeds 1 to 3: means and spreads
#   local/run_experiment.sh seeds 3 --stop_stage 10     # options after that go to each run
#
# The corpus is made once, and every run works on it; run K has the seed K and the directory exp/seed_K. What is
# finished is not repeated. A run that misses the demo's requirements counts as well. The table is exp/SEEDS.md.
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../egs2_asyncswitch/asr1"

fail() {
    echo "run_experiment.sh: error: $1" >&2
    exit 2
}

case ${1:-} in
    seeds) ;;
    --help | -h)
        sed -n '2,/^set /{/^#/s/^# \{0,1\}//p;}' "$here/run_experiment.sh"
        exit 0
        ;;
    "") fail "which experiment? there is: seeds NUMBER" ;;
    *) fail "no experiment is called '$1'; there is: seeds NUMBER" ;;
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
