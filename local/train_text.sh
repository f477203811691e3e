#!/usr/bin/env bash
# Train stage 1 of the method: the decoder without its cross-attention, on unpaired text.
#
#   local/train_text.sh                               # on one GPU
#   local/train_text.sh --ngpu 0                      # on the CPU
#   local/train_text.sh --ngpu 4 -- --max_epoch 3     # on four; what follows -- goes to ESPnet's trainer
#
# In egs2_asyncswitch/asr1 this runs
#
#   python -m espnet_plugin.bin.asr_train --config conf/train_text.yaml --adaptation_stage adapt_text \
#       --init_dir exp/init --train_text dump/text/train --valid_text dump/text/valid \
#       --output_dir exp/adapt_text --ngpu 1 --seed 0
#
# Run it again after an interruption: it goes on from the last checkpoint.
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../egs2_asyncswitch/asr1"

# options
init_dir=exp/init              # where the stage starts (recipe stage 5 makes it)
train=dump/text/train          # token store of the text (recipe stage 6 makes it)
valid=dump/text/valid          # the same for validation
output_dir=exp/adapt_text      # where the adapted model goes
config=conf/train_text.yaml    # optimiser, data, epochs
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

require "$init_dir/config.json" "recipe stage 5 makes it (./asyncswitch.sh --stage 5)"
require "$train" "recipe stage 6 makes it (./asyncswitch.sh --stage 6)"
require "$valid" "recipe stage 6 makes it (./asyncswitch.sh --stage 6)"
train_stage adapt_text --train_text "$train" --valid_text "$valid"
