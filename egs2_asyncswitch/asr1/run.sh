#!/usr/bin/env bash
# Whisper-large-v3 on real Malay-English corpora: the paper's setting.
#
#   ./run.sh --ngpu 4                                   # set the corpora in db.sh first
#   ./run.sh --stage 8 --stop_stage 10 --ngpu 4         # the three stages of the method alone
#   ./run.sh --source openai/whisper-small --expdir exp_small --ngpu 1
#
# Options given here override those below; ./run.sh --help lists them all.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

./asyncswitch.sh \
    --source openai/whisper-large-v3 \
    --train_set train_paired \
    --valid_set valid_paired \
    --test_sets "test_cs test_ms test_en" \
    --lang_tokens "cs:ms ms:ms en:en" \
    --pad_train 30s \
    --pad_decode 30s \
    --train_text_config conf/train_text.yaml \
    --train_align_config conf/train_align.yaml \
    --train_full_config conf/train_full.yaml \
    --merge_ratios "0.2 0.4 0.6 0.8" \
    "$@"
