#!/usr/bin/env bash
# AsyncSwitch: adapt Whisper to code-switched speech in three stages (arXiv 2506.14190), from corpora to error rates.
#
#   ./asyncswitch.sh --stage 1 --stop_stage 13 --source openai/whisper-large-v3 --train_set train --valid_set valid \
#       --test_sets "test_cs test_ms test_en" --ngpu 1
#
# run.sh calls it for real corpora and large-v3, run_demo.sh for the demo. Every stage can be run again: it takes up
# what is unfinished, and says which stage makes what it misses. Paths are relative to this folder.
#
#    1 data        corpora -> data/<set>/ and data/text/
#    2 synthetic   text lines mixed from phrases, code-switched text and speech, speed perturbation
#    3 format      data/<set>/ -> dump/raw/<set>/: checked, 16 kHz, one channel
#    4 filter      drop training utterances that are too short, too long or empty
#    5 import      the base model -> exp/init/ (the demo adapts it acoustically first)
#    6 text store  data/text/ -> dump/text/: tokens, memory-mapped
#    7 statistics  hours, languages, lengths
#    8 adapt_text  stage 1 of the method: the decoder, on text without audio
#    9 adapt_align stage 2: cross-attention, on paired speech
#   10 adapt_full  stage 3: everything, on paired speech; and the ablations
#   11 merge       ratio * adapted + (1 - ratio) * original -> exp/merge_<ratio>/
#   12 decode      every system on every set -> exp/<system>/decode_<tag>/<set>/
#   13 score       exp/RESULTS.md, exp/results.json, exp/images/
#   14 export      one system -> exp/<system>/export_<format>/ for other programs, verified by decoding with them
#   15 upload      its exports and a model card -> a hub, private by default
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# options
stage=1                       # the first stage to run
stop_stage=13                 # the last stage to run
ngpu=1                        # GPUs for training and decoding, of a node; 0 is the CPU
num_nodes=1                   # nodes for training; cmd.sh says how they are reached
nj=0                          # processes for preparing data; 0 is one a processor
python=                       # the Python to use; empty: that of .venv, else python3
seed=0                        # of everything random
expdir=exp                    # where models and results go
dumpdir=dump                  # where formatted data goes
datadir=data                  # where prepared data is
data_script=local/data.sh     # what stage 1 runs, with --datadir; sets, nj and python are in its environment
source=openai/whisper-large-v3  # the base model: hub id, model directory, OpenAI .pt, CTranslate2 directory, or demo
train_set=train               # paired speech for stages 2 and 3 of the method
valid_set=valid               # validation of the same, and the set that the merge ratio is chosen on
test_sets=                    # sets to report, separated by spaces
example_sets=                 # sets to decode and show, too small to score
acoustic_train_set=           # speech to adapt the base model on before everything else; empty: not at all
acoustic_valid_set=           # validation of the same
text_train=                   # unpaired text, a file, folder or glob in any format of text_corpus; empty: DATADIR/text/train.jsonl
text_valid=                   # validation of the same, or held_out: a share of it; empty: DATADIR/text/valid.jsonl
text_corpus_config=conf/text_corpus.yaml # how unpaired text is cleaned and filtered
text_options=                 # more of text_corpus prepare, e.g. "--executor dask --scheduler tcp://host:8786"
mix_input=                    # text to widen by phrase mixing into text_train; empty: text_train is there already
mix_phrases=                  # bilingual phrase lists for it, separated by spaces
mix_lines=20000               # how many lines to make
switch_text=                  # options of synth_data switch that makes text_train, e.g. "--parallel a.ms.txt a.en.txt"; empty: not at all
switch_speech=                # synth_data splice or speak with options: TRAIN_SET_cs, trained on with TRAIN_SET; empty: not at all
max_faulty=0.01               # share of a training or validation set that stage 3 may leave out, its audio unusable; more is an error
speed_perturb_factors=        # e.g. "0.9 1.0 1.1": train on TRAIN_SET_sp; empty: not at all
lang_tokens="cs:ms ms:ms en:en" # language of an utterance or line -> Whisper's language token
text_style=as_is              # casing and punctuation of the training text: as_is, or spoken (normalised)
pad_train=30s                 # audio in training: 30s is Whisper's own; batch is as long as needed, masked, cheaper
pad_decode=30s                # the same in decoding
acoustic_config=conf/demo/train_acoustic.yaml # optimiser and data of the acoustic adaptation
train_text_config=conf/train_text.yaml        # of stage 1 of the method
train_align_config=conf/train_align.yaml      # of stage 2
train_full_config=conf/train_full.yaml        # of stage 3
train_workers=1               # trainings side by side, which share a CPU; on a CPU stage 8 trains ahead for 9 and 10
ablations="direct_full text_full align_full"  # systems that leave stages out; empty: none
merge_ratios="0.2 0.4 0.6 0.8" # share of the adapted model; adapt_full and direct_full are merged
merge_in_memory=false         # true: stage 11 writes no models; stage 12 merges as it decodes, for a sweep of large ones
systems=                      # systems to decode and score; empty: all that the stages before make
valid_systems=                # patterns, e.g. "init adapt_full merge_*": only these are decoded on VALID_SET; empty: all are
decode_tag=greedy             # name of this decoding
decode_batch=32               # utterances decoded together
decode_workers=               # processes that decode: a GPU each, or a share of the processors; empty: NGPU, at least 1
decode_override=              # SYSTEM:OPTION=VALUE ...: decode it otherwise, e.g. whisper_base:tail=8, or all: *:dtype=float16
keep_checkpoints=true         # false: once a system is finished, delete its checkpoints (the model itself stays)
export_system=merge_0.4       # the system that stages 14 and 15 export and upload
export_formats="hf openai ct2:float16 ct2:int8 espnet" # to what; FORMAT or FORMAT:TYPE
export_utts=8                 # utterances of each test set that an export is verified with; 0: all
export_device=cpu             # where that is done; cuda is quicker for large models
hub_repo=                     # OWNER/NAME on the hub for stage 15; the token is HF_TOKEN's, or that of hf auth login
hub_card=conf/card.yaml       # what a model card says that only people know: a copy of this file, filled in
hub_private=true              # false: make the repository public
hub_dry_run=false             # true: stage 15 writes the card and shows what it would send
require=false                 # true: stage 13 fails unless the demo's required results are there
stage_seconds=                # seconds that stages 1 to 13 took somewhere, to estimate the time left; empty: no estimate
# end of options
. local/parse_options.sh "$@"
. ./path.sh
. ./cmd.sh

fail() {
    echo "asyncswitch.sh: error: $*" >&2
    exit 2
}

# need STAGE FILE...: these have to be there, and STAGE makes them.
need() {
    local maker=$1 file
    shift
    for file in "$@"; do
        [ -s "$file" ] || fail "$file is missing or empty; stage $maker makes it (--stage $maker)"
    done
}

# need_sets STAGE FOLDER SETS: the same for sets of speech.
need_sets() {
    local set
    for set in $3; do need "$1" "$2/$set"/{wav.scp,text,utt2spk,utt2lang}; done
}

# need_models SYSTEMS: the same for model directories.
need_models() {
    local system maker
    for system in $1; do
        case $system in
            whisper_base | init) maker=5 ;;
            adapt_text) maker=8 ;;
            adapt_align | align_only) maker=9 ;;
            adapt_full | direct_full | text_full | align_full) maker=10 ;;
            merge_* | direct_merge_*) maker=11 ;;
            *) fail "no system is called $system; there are whisper_base, init, adapt_text, adapt_align, adapt_full," \
                "direct_full, text_full, align_only, align_full, merge_<ratio> and direct_merge_<ratio>" ;;
        esac
        need $maker "$expdir/$system/config.json"
    done
}

has_word() { case " $1 " in *" $2 "*) return 0 ;; *) return 1 ;; esac; }

# words LIST...: all words, one space between.
# shellcheck disable=SC2048,SC2086
words() { echo $*; }

# plugin MODULE option...: a command of the package, here.  job NAME MODULE option...: one that cmd.sh may send away.
plugin() { "$python" -m "espnet_plugin.bin.$1" "${@:2}"; }
job() { run_job "$ngpu" "$expdir/logs/$1.log" "$python" -m "espnet_plugin.bin.$2" "${@:3}"; }

clock() { printf '%d:%02d' $(($1 / 60)) $(($1 % 60)); }

# begin NUMBER TITLE: true, with a heading, if this stage is to run. Where stage_seconds says how long the stages took
# somewhere, the heading estimates the time left from how long those so far took here.
current=0 began=0 planned=0 taken=0
begin() {
    local number=0 seconds left=0
    ((stage <= $1 && $1 <= stop_stage)) || return 1
    for seconds in $stage_seconds; do
        number=$((number + 1))
        # a stage that found its work done says nothing about the machine
        if ((number == current && 5 * (SECONDS - began) > seconds)); then
            planned=$((planned + seconds)) taken=$((taken + SECONDS - began))
        fi
        if ((number >= $1 && number <= stop_stage)); then left=$((left + seconds)); fi
    done
    # a minute of the planned speed is mixed in, so that the first short stages do not decide
    left=$((left * (taken + 60) / (planned + 60)))
    current=$1 began=$SECONDS
    echo "===== $(clock $SECONDS)  stage $1: $2$( ((left == 0)) || echo "  (about $(clock $left) left)")"
}

# filter_training_sets MODEL: drop what cannot be trained on; too long a text, too, once there is a model's tokenizer.
filter_training_sets() {
    local counted=()
    if [ -s "$1/config.json" ]; then counted=(--model "$1"); fi
    plugin prepare_data filter --sets "$training_sets" --held_out "$valid_set $test_sets $acoustic_valid_set" --dumpdir "$dumpdir/raw" ${counted[@]+"${counted[@]}"}
}

train_systems() {
    run_training "$ngpu" "$expdir/logs/$1.log" "$python" -m espnet_plugin.bin.train_systems --systems "$2" --expdir "$expdir" --dumpdir "$dumpdir" \
        --train_set "$train_set" --valid_set "$valid_set" \
        --acoustic_train_set "$acoustic_train_set" --acoustic_valid_set "$acoustic_valid_set" \
        --text_store "$dumpdir/text/train" --valid_text_store "$dumpdir/text/valid" \
        --acoustic_config "$acoustic_config" --text_config "$train_text_config" \
        --align_config "$train_align_config" --full_config "$train_full_config" \
        --lang_tokens "$lang_tokens" --text_style "$text_style" --pad "$pad_train" --ngpu "$ngpu" --seed "$seed" \
        --keep_checkpoints "$keep_checkpoints" --workers "$train_workers"
}

# ---- what follows from the options, and what no stage can do without
((stage <= stop_stage)) || fail "--stage $stage comes after --stop_stage $stop_stage"
((stop_stage <= 15)) || fail "there are 15 stages, and --stop_stage is $stop_stage"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null ||
    fail "$python does not run as Python 3.12 or newer; make env builds .venv, or give --python"
if ((stage <= 13 && stop_stage >= 13)) && ! command -v sclite >/dev/null; then
    fail "sclite, which stage 13 scores with, is not on the PATH; make env installs it (Debian: apt-get install sctk)"
fi
[ -n "$train_set" ] || fail "--train_set is empty"
[ -n "$valid_set" ] || fail "--valid_set is empty"
if ((stop_stage >= 12)) && [ -z "$test_sets" ]; then fail "--test_sets is empty: stages 12 to 14 have nothing to do"; fi
if [ -n "$acoustic_train_set" ] && [ -z "$acoustic_valid_set" ]; then fail "--acoustic_train_set needs --acoustic_valid_set"; fi

text_train=${text_train:-$datadir/text/train.jsonl}
text_valid=${text_valid:-$datadir/text/valid.jsonl}
prepared_train=$train_set  # what stage 1 makes; what training uses may be its perturbed copies
if [ -n "$switch_speech" ]; then train_set=${train_set}_synth; fi
spoken_train=$train_set
if [ -n "$speed_perturb_factors" ]; then train_set=${train_set}_sp; fi
acoustic_sets=$(words "$acoustic_train_set" "$acoustic_valid_set")
prepared_sets=$(words "$prepared_train" "$valid_set" "$acoustic_sets" "$test_sets")
training_sets=$(words "$train_set" "$valid_set" "$acoustic_sets")
decoded_sets=$(words "$valid_set" "$test_sets" "$example_sets")
if ((nj == 0)); then nj=$(getconf _NPROCESSORS_ONLN); fi
if [ -z "$systems" ]; then
    systems="init adapt_text adapt_align adapt_full"
    if [ -n "$acoustic_train_set" ]; then systems="whisper_base $systems"; fi
    systems=$(words "$systems" "$ablations")
    for ratio in $merge_ratios; do systems="$systems merge_$ratio"; done
    if has_word "$ablations" direct_full; then
        for ratio in $merge_ratios; do systems="$systems direct_merge_$ratio"; done
    fi
fi

# ---- the stages
if begin 1 "data: corpora -> $datadir"; then
    sets=$prepared_sets nj=$nj python=$python "$data_script" --datadir "$datadir"
fi

if begin 2 "synthetic data"; then
    if [ -n "$mix_input" ]; then
        [ -n "$mix_phrases" ] || fail "--mix_input needs --mix_phrases"
        [ "$text_valid" != held_out ] || fail "--mix_input needs a file as --text_valid: nothing of it may be mixed"
        need 1 "$mix_input" "$text_valid"
        mix=(--input "$mix_input" --output "$text_train" --lines "$mix_lines")
        for file in $mix_phrases; do need 1 "$file"; mix+=(--phrases "$file"); done
        mix+=(--exclude "$text_valid")  # nothing that is validated or tested on may be mixed
        for set in $valid_set $test_sets; do need 1 "$datadir/$set/text"; mix+=("$datadir/$set/text"); done
        plugin synth_data mix "${mix[@]}"
    fi
    if [ -n "$switch_text$switch_speech" ]; then
        [ -z "$switch_text" ] || [ -z "$mix_input" ] || fail "--mix_input and --switch_text both make $text_train; give one"
        made=(--seed "$seed" --nj "$nj" --exclude)
        if [ "$text_valid" != held_out ]; then need 1 "$text_valid"; made+=("$text_valid"); fi
        for set in $valid_set $test_sets; do need 1 "$datadir/$set/text"; made+=("$datadir/$set/text"); done
    fi
    if [ -n "$switch_text" ]; then
        read -ra options <<<"$switch_text"
        plugin synth_data switch "${options[@]}" --output "$text_train" "${made[@]}"
    fi
    if [ -n "$switch_speech" ]; then
        need_sets 1 "$datadir" "$prepared_train"
        read -ra options <<<"$switch_speech"
        plugin synth_data "${options[@]}" --output "$datadir/${prepared_train}_cs" "${made[@]}"
        plugin prepare_corpus combine --input "$datadir/$prepared_train,$datadir/${prepared_train}_cs" --output "$datadir/$spoken_train"
    fi
    if [ -n "$speed_perturb_factors" ]; then
        need_sets 1 "$datadir" "$prepared_train"
        plugin synth_data speed --input "$datadir/$spoken_train" --output "$datadir/$train_set" \
            --factors "$speed_perturb_factors"
    fi
    [ -n "$mix_input$switch_text$switch_speech$speed_perturb_factors" ] ||
        echo "nothing to make: no --mix_input, --switch_text, --switch_speech or --speed_perturb_factors"
fi

if begin 3 "format: $datadir -> $dumpdir/raw"; then
    need_sets 1 "$datadir" "$prepared_sets"
    need_sets 2 "$datadir" "$train_set"
    plugin prepare_data format --sets "$training_sets $test_sets $example_sets" --datadir "$datadir" --dumpdir "$dumpdir/raw" --nj "$nj" \
        --max_faulty "$max_faulty" --test_sets "$test_sets $example_sets" --lang_tokens "$lang_tokens"
fi

if begin 4 "filter the training sets (test sets stay whole)"; then
    need_sets 3 "$dumpdir/raw" "$training_sets"
    filter_training_sets "$expdir/init"
fi

if begin 5 "import $source -> $expdir/init${acoustic_train_set:+, adapted acoustically}"; then
    need_sets 3 "$dumpdir/raw" "$training_sets"
    imported=$expdir/init
    if [ -n "$acoustic_train_set" ]; then imported=$expdir/whisper_base; fi
    plugin import_model --source "$source" --output "$imported"
    filter_training_sets "$imported"
    if [ -n "$acoustic_train_set" ]; then train_systems init "init"; fi
fi

if begin 6 "text store: $text_train -> $dumpdir/text"; then
    need_models init
    compgen -G "$text_train" >/dev/null || fail "$text_train is missing: --text_train names your text; stage 2 makes it from --mix_input or --switch_text"
    # prepare INPUT STORE [option...]: a store made from the same text in the same way is kept
    prepare() {
        # shellcheck disable=SC2086  # a list of options
        plugin text_corpus prepare $text_options --input "$1" --output "$dumpdir/text/$2" --model "$expdir/init" \
            --config "$text_corpus_config" --lang_tokens "$lang_tokens" --text_style "$text_style" --nj "$nj" "${@:3}"
    }
    exclude=()  # nothing that is validated or tested on may be trained on
    for set in $valid_set $test_sets; do
        need 3 "$dumpdir/raw/$set/text"
        exclude+=("$dumpdir/raw/$set/text")
    done
    if [ "$text_valid" = held_out ]; then
        prepare "$text_train" train --valid_output "$dumpdir/text/valid" ${exclude[@]+--exclude "${exclude[@]}"}
    else
        need 1 "$text_valid"
        prepare "$text_train" train --exclude "$text_valid" ${exclude[@]+"${exclude[@]}"}
        prepare "$text_valid" valid
    fi
fi

if begin 7 "statistics"; then
    need_models init
    need_sets 3 "$dumpdir/raw" "$training_sets $test_sets"
    plugin prepare_data stats --sets "$training_sets $test_sets" --dumpdir "$dumpdir/raw" --model "$expdir/init" \
        --output "$expdir/stats"
    plugin text_corpus stats --store "$dumpdir/text/train" "$dumpdir/text/valid"
fi

if begin 8 "adapt_text: the decoder, on text alone"; then
    need_models init
    for part in train valid; do
        [ -d "$dumpdir/text/$part" ] || fail "$dumpdir/text/$part is missing; stage 6 makes it (--stage 6)"
    done
    ahead=  # what stages 9 and 10 would train: side by side as soon as it can begin, and on a CPU with one start of ESPnet
    if ((stop_stage >= 10 && (train_workers > 1 || ngpu == 0))); then
        ahead=$(words adapt_align "$(has_word "$ablations" align_full && echo align_only)" adapt_full "$ablations")
    fi
    train_systems adapt_text "$(words adapt_text "$ahead")"
fi

if begin 9 "adapt_align: cross-attention, on paired speech"; then
    need_models "init adapt_text"
    need_sets 3 "$dumpdir/raw" "$train_set $valid_set"
    train_systems adapt_align "adapt_align$(has_word "$ablations" align_full && echo " align_only")"
fi

if begin 10 "adapt_full: everything, on paired speech${ablations:+; ablations $ablations}"; then
    need_models "init adapt_text adapt_align"
    if has_word "$ablations" align_full; then need_models align_only; fi
    need_sets 3 "$dumpdir/raw" "$train_set $valid_set"
    train_systems adapt_full "$(words adapt_full "$ablations")"
fi

if begin 11 "merge with init at $merge_ratios"; then
    need_models "init adapt_full"
    if $merge_in_memory; then
        echo "merge_in_memory: stage 12 merges as it decodes; write the model you choose with espnet_plugin.bin.merge"
    else
        plugin merge --base "$expdir/init" --tuned "$expdir/adapt_full" --ratios "${merge_ratios// /,}" \
            --output_prefix "$expdir/merge_"
        if has_word "$ablations" direct_full; then
            need_models direct_full
            plugin merge --base "$expdir/init" --tuned "$expdir/direct_full" --ratios "${merge_ratios// /,}" \
                --output_prefix "$expdir/direct_merge_"
        fi
    fi
fi

if begin 12 "decode $decoded_sets"; then
    merges=
    if $merge_in_memory; then merges="merge_=init:adapt_full direct_merge_=init:direct_full"; fi
    for system in $systems; do
        case $merge_in_memory:$system in true:merge_* | true:direct_merge_*) ;; *) need_models "$system" ;; esac
    done
    need_sets 3 "$dumpdir/raw" "$decoded_sets"
    job decode decode --expdir "$expdir" --systems "$systems" --sets "$decoded_sets" --dumpdir "$dumpdir/raw" \
        --tag "$decode_tag" --batch_size "$decode_batch" --pad "$pad_decode" --lang_tokens "$lang_tokens" \
        --workers "${decode_workers:-$((ngpu > 1 ? ngpu : 1))}" --device "$( ((ngpu > 0)) || echo cpu)" \
        --override "$decode_override" --merges "$merges" --only "${valid_systems:+$valid_set:${valid_systems// /,}}"
fi

if begin 13 "score and report"; then
    need_sets 3 "$dumpdir/raw" "$decoded_sets"
    for system in $systems; do
        for set in $test_sets $example_sets; do need 12 "$expdir/$system/decode_$decode_tag/$set/text"; done
    done
    known=()  # without the text there is no error on words that occur in the text alone
    if compgen -G "$text_train" >/dev/null; then known=(--text_lines "$text_train" --speech_sets "$train_set $acoustic_train_set"); fi
    if $require; then known+=(--require); fi
    plugin report --expdir "$expdir" --dumpdir "$dumpdir/raw" --systems "$systems" --sets "$test_sets" \
        --valid_sets "$valid_set" --example_sets "$example_sets" --tag "$decode_tag" ${known[@]+"${known[@]}"}
fi

if begin 14 "export $export_system to $export_formats"; then
    need_sets 3 "$dumpdir/raw" "$test_sets"
    model=$expdir/$export_system
    if $merge_in_memory && [[ $export_system =~ ^merge_([01](\.[0-9]+)?)$ ]] && ! [ -s "$model/config.json" ]; then
        need_models "init adapt_full"
        plugin merge --base "$expdir/init" --tuned "$expdir/adapt_full" --ratio "${BASH_REMATCH[1]}" --output "$model"
    fi
    need_models "$export_system"
    heard=()
    for set in $test_sets; do heard+=("$dumpdir/raw/$set"); done
    job export export --model "$model" --formats "$export_formats" --output_prefix "$model/export_" \
        --data "${heard[@]}" --num_utts "$export_utts" --lang_tokens "$lang_tokens" --device "$export_device"
fi

if begin 15 "upload $export_system to ${hub_repo:-the hub}"; then
    [ -n "$hub_repo" ] || fail "--hub_repo is empty: OWNER/NAME of the repository, e.g. --hub_repo you/whisper-ms-en"
    need_models "$export_system"
    need 13 "$expdir/results.json"
    publish=(--expdir "$expdir" --system "$export_system" --repo "$hub_repo" --card "$hub_card" --private "$hub_private")
    if $hub_dry_run; then publish+=(--dry_run); fi
    publish+=(--exports)
    for format in $export_formats; do
        exported=$expdir/$export_system/export_${format/:/_}
        need 14 "$exported/export.json"
        publish+=("$exported")
    done
    plugin publish "${publish[@]}"
fi

echo "===== $(clock $SECONDS)  done: stages $stage to $stop_stage"
