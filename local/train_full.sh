#!/usr/bin/env bash
# Train stage 3 of the method: everything, on paired speech.
#
#   local/train_full.sh                               # on one GPU
#   local/train_full.sh --ngpu 0                      # on the CPU
#   local/train_full.sh --ngpu 4 -- --max_epoch 3     # on four; what follows -- goes to ESPnet's trainer
#
# In egs2_asyncswitch/asr1 this runs
#
#   python -m espnet_plugin.bin.asr_train --config conf/train_full.yaml --adaptation_stage adapt_full \
#       --init_dir exp/adapt_align --train_data dump/raw/train_paired --valid_data dump/raw/valid_paired \
#       --output_dir exp/adapt_full --ngpu 1 --seed 0
#
# Run it again after an interruption: it goes on from the last checkpoint.
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../egs2_asyncswitch/asr1"

# options
init_dir=exp/adapt_align       # where the stage starts (recipe stage 9 makes it)
train=dump/raw/train_paired    # paired speech (recipe stage 3 makes it)
valid=dump/raw/valid_paired    # the same for validation
output_dir=exp/adapt_full      # where the adapted model goes
config=conf/train_full.yaml    # optimiser, data, epochs
expdir=exp                     # its logs/ gets the log
ngpu=1                         # GPUs of a node; 0 is the CPU
num_nodes=1                    # nodes; cmd.sh says how they are reached
seed=0                         # of everything random
python=                        # the Python to use; empty: that of .venv, else python3
# end of options
. "$here/parse_options.sh" "$@"
. ./path.sh
. ./cmd.sh
. "$here/train_stage.sh"

require "$init_dir/config.json" "recipe stage 9 makes it (./asyncswitch.sh --stage 9)"
require "$train" "recipe stage 3 makes it (./asyncswitch.sh --stage 3)"
require "$valid" "recipe stage 3 makes it (./asyncswitch.sh --stage 3)"
train_stage adapt_full --train_data "$train" --valid_data "$valid"
