#!/usr/bin/env bash
# The demo: Whisper base learns Malay-English code-switching in three stages on two CPU cores. `make demo` runs it.
#
#   ./run_demo.sh                                       # all stages, exp/RESULTS.md at the end
#   ./run_demo.sh --stage 11                            # merge, decode and score again
#   ./run_demo.sh --expdir exp/seed_1 --seed 1          # another seed
#
# The speech is espeak-ng's. What this miniature shows and what it cannot show stands in README.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

case " $* " in *" --help "* | *" -h "*) ./asyncswitch.sh --help; exit 0 ;; esac
expdir=exp python='' previous=''  # what this script needs of asyncswitch.sh's options
for argument in "$@"; do
    case $previous in --expdir) expdir=$argument ;; --python) python=$argument ;; esac
    case $argument in --expdir=*) expdir=${argument#*=} ;; --python=*) python=${argument#*=} ;; esac
    previous=$argument
done
. ./path.sh
for program in espeak-ng sclite; do
    if ! command -v $program >/dev/null; then
        echo "run_demo.sh: error: $program is missing; make env installs it, or says how" >&2
        exit 2
    fi
done
mkdir -p exp
touch exp/.demo  # make clean may remove what a demo made

# Watched: at the end stand the time and the most memory that all processes held together.
"$python" -m espnet_plugin.bin.watch --max_gb 8 --output "$expdir/resources.json" -- ./asyncswitch.sh \
    --ngpu 0 \
    --source demo \
    --data_script local/prepare_demo.sh \
    --train_set train_paired \
    --valid_set valid_paired \
    --test_sets "test_cs test_ms test_en test_es" \
    --example_sets examples_an4 \
    --acoustic_train_set train_acoustic \
    --acoustic_valid_set valid_acoustic \
    --mix_input data/text/hand.jsonl \
    --mix_phrases "local/demo/seen/phrases.tsv local/demo/unseen/phrases.tsv local/demo/compounds.tsv" \
    --mix_lines 24000 \
    --lang_tokens "cs:ms ms:ms en:en es:es" \
    --pad_train batch \
    --pad_decode batch \
    --train_workers 1 \
    --valid_systems "init adapt_full merge_*" \
    --decode_batch 64 \
    --decode_workers 2 \
    --decode_override whisper_base:tail=4 \
    --keep_checkpoints false \
    --acoustic_config conf/demo/train_acoustic.yaml \
    --train_text_config conf/demo/train_text.yaml \
    --train_align_config conf/demo/train_align.yaml \
    --train_full_config conf/demo/train_full.yaml \
    --ablations "direct_full text_full align_full" \
    --merge_ratios "0.2 0.4 0.6 0.8" \
    --hub_card conf/demo/card.yaml \
    --require true \
    --stage_seconds "24 1 4 1 85 10 2 252 2 2 8 370 14" \
    "$@"
