# shellcheck shell=bash disable=SC2154
# What local/train_text.sh, train_align.sh and train_full.sh share: check the inputs, then train by ESPnet's trainer.
# They source this file after their options, in egs2_asyncswitch/asr1.

# require PATH MAKER: the path has to be there.
require() {
    if [ ! -e "$1" ]; then
        echo "${0##*/}: error: $1 is missing; $2" >&2
        exit 2
    fi
}

# train_stage SYSTEM option...: train SYSTEM with the caller's options and these.
train_stage() {
    local system=$1 distributed=()
    shift
    require "$config" "--config names the training configuration"
    if [ "$ngpu" -gt 1 ]; then distributed=(--multiprocessing_distributed true); fi
    run_training "$ngpu" "$expdir/logs/$system.log" "$python" -m espnet_plugin.bin.asr_train \
        --config "$config" --adaptation_stage "$system" --init_dir "$init_dir" --output_dir "$output_dir" \
        --ngpu "$ngpu" --seed "$seed" "$@" ${distributed[@]+"${distributed[@]}"} ${rest[@]+"${rest[@]}"}
}
