#!/usr/bin/env bash
# Stage 1 of the method on 1 M lines of text: does the decoder adapt without its cross-attention, and what does it cost
# each language? (arXiv 2506.14190 trains on 38 M lines and asks this of a subset.)
#
#   local/run_experiment.sh text1m                      # 1 M lines of dump/text/train, validated on dump/text/valid
#   local/run_experiment.sh text1m --input "web/*.jsonl.zst" --ngpu 4          # of a corpus of its own
#   local/run_experiment.sh text1m --ngpu 0 --lines 5000 --train_config conf/demo/train_text.yaml  # on a CPU
#
# Steps: prepare --input, where given (its report lies in DUMPDIR/all/report); draw the lines; train over them by
# local/train_text.sh, as TRAIN_CONFIG says but as long as PASSES; write OUTPUT_DIR's curve and conclusions to REPORT.
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../egs2_asyncswitch/asr1"

# options
input=                         # text to prepare, separated by spaces: files, folders, globs; empty: TRAIN and VALID
train=dump/text/train          # token store to draw from, if there is no --input (recipe stage 6 makes it)
valid=dump/text/valid          # token store to validate on, if there is no --input
lines=1000000                  # how many lines to draw
passes=2                       # how often each line is seen
checks=10                      # validations, and checkpoints, in a pass
init_dir=exp/init              # where the stage starts (recipe stage 5 makes it)
train_config=conf/train_text.yaml     # optimiser, rates, size of a batch
corpus_config=conf/text_corpus.yaml   # how --input is prepared
lang_tokens="cs:ms ms:ms en:en" # language of a line -> Whisper's language token
dumpdir=dump/text1m            # where the stores go
output_dir=exp/text1m          # where the adapted model goes
report=exp/TEXT1M.md           # what it shows
expdir=exp                     # its logs/ gets the log
ngpu=1                         # GPUs; 0 is the CPU
seed=0                         # of everything random
python=                        # the Python to use; empty: that of .venv, else python3
# end of options
. "$here/parse_options.sh" "$@"
. ./path.sh

plugin() { "$python" -m "espnet_plugin.bin.$1" "${@:2}"; }
if [ ! -e "$init_dir/config.json" ]; then
    echo "text1m: error: $init_dir/config.json is missing; recipe stage 5 makes it (./asyncswitch.sh --stage 5)" >&2
    exit 2
fi
if [ -n "$input" ]; then
    train=$dumpdir/all valid=$dumpdir/valid
    read -r -a inputs <<<"$input"
    plugin text_corpus prepare --input "${inputs[@]}" --output "$train" --valid_output "$valid" --model "$init_dir" \
        --config "$corpus_config" --lang_tokens "$lang_tokens"
fi
for store in "$train" "$valid"; do
    if [ ! -e "$store" ]; then
        echo "text1m: error: $store is missing; recipe stage 6 makes it (./asyncswitch.sh --stage 6), or give --input" >&2
        exit 2
    fi
done
plugin text_experiment subset --store "$train" --output "$dumpdir/train" --lines "$lines" --seed "$seed"
plugin text_experiment plan --store "$dumpdir/train" --config "$train_config" --output "$dumpdir/train.yaml" \
    --passes "$passes" --checks "$checks"
# What is finished or begun with other settings is neither reported as these nor gone on with.
asked=$(cat "$dumpdir/train.yaml" && echo "# $lines lines of $train, seed $seed, from $init_dir")
if [ -e "$output_dir/text1m.yaml" ] && [ "$asked" != "$(cat "$output_dir/text1m.yaml")" ]; then
    echo "text1m: error: $output_dir was trained with other settings ($output_dir/text1m.yaml); give another --output_dir" >&2
    exit 2
fi
mkdir -p "$output_dir"
echo "$asked" >"$output_dir/text1m.yaml"
if [ -e "$output_dir/training.json" ]; then
    echo "$output_dir: finished earlier, skipped"
else
    "$here/train_text.sh" --init_dir "$init_dir" --train "$dumpdir/train" --valid "$valid" --output_dir "$output_dir" \
        --config "$dumpdir/train.yaml" --expdir "$expdir" --ngpu "$ngpu" --seed "$seed" --python "$python" \
        -- --lang_tokens "$lang_tokens" ${rest[@]+"${rest[@]}"}
fi
plugin text_experiment report --system "$output_dir" --store "$dumpdir/train" --output "$report"
