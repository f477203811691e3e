#!/usr/bin/env bash
# Stage 1 for real corpora: from what people download to data/<corpus>_<split>/.
#
#   NSC=/data/nsc local/data.sh --corpora "nsc"
#   local/data.sh --corpora "nsc" --corpus_options "nsc.parts=1,4 nsc.join=20"
#   local/data.sh --sets "train_paired valid_paired"      # as the recipe calls it, with the corpora of db.sh
#
# Where a corpus is stands in db.sh or in the environment. A set that is in data/ already (wav.scp, text, utt2spk,
# utt2lang) is taken as it is: your own, in Kaldi's form, will do. A set of the recipe that db.sh names prepared sets
# for, e.g. train_paired="nsc_cs_train nsc_part1_train", is made of them. Run again, it does what is unfinished.
set -euo pipefail

# options
corpora=${corpora:-}        # corpora to prepare, by name; empty: those of db.sh
sets=${sets:-}              # the sets that the recipe needs
datadir=data                # where sets go
nj=${nj:-0}                 # processes; 0 is one a processor
corpus_options=             # CORPUS.OPTION=VALUE ...: what a corpus offers
accept_non_commercial=false # true: prepare corpora that must not be used commercially
valid_share=0.02            # of the seconds of a corpus without official splits
test_share=0.02             # the same
max_hours=10                # of a set that is held out
split_seed=0                # of the split by speaker
shared_words=0              # sentences of up to so many words may be in training and test sets
keep_out=                   # data directories whose sentences must not be trained on
compressed=extract          # audio compressed in zips: extract it, or refer to it by a pipe through unzip
# end of options
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/parse_options.sh" "$@"
cd "$here/../egs2_asyncswitch/asr1"
. ./path.sh
set -a  # Python reads the variables of the corpora
. ./db.sh
set +a
if ((nj == 0)); then nj=$(getconf _NPROCESSORS_ONLN); fi

fail() {
    echo "data.sh: error: $1" >&2
    exit 2
}

# parts_of SET: the prepared sets that db.sh makes it of; nothing, where it does not.
parts_of() {
    case $1 in *[!A-Za-z0-9_]* | [0-9]*) return 0 ;; esac  # no variable can be called so
    local part
    for part in ${!1:-}; do echo "$datadir/$part"; done
}

# there SET: is it in data/, whole, and if it was combined, of what db.sh says now?
there() {
    local file parts
    for file in wav.scp text utt2spk utt2lang; do [ -s "$datadir/$1/$file" ] || return 1; done
    parts=$(parts_of "$1")
    [ -z "$parts" ] || ! [ -f "$datadir/$1/combined_from" ] || [ "$parts" = "$(cat "$datadir/$1/combined_from")" ]
}

# missing SETS: those that are not there.
missing() {
    local set absent=
    for set in $1; do there "$set" || absent="$absent $set"; done
    echo "${absent# }"
}

plugin() { "$python" -m espnet_plugin.bin.prepare_corpus "$@"; }

lacking=  # sets that are not there, nor all of what they are made of
for set in $(missing "$sets"); do
    if [ -z "$(parts_of "$set")" ] || [ -n "$(missing "${!set}")" ]; then lacking="$lacking $set"; fi
done
if [ -n "$sets" ] && [ -z "$lacking" ]; then
    echo "data.sh: all sets are there, or what they are made of: $sets"
    echo "data.sh: corpora are not read again; where files or options have changed: local/data.sh --corpora NAME ..."
else
    if [ -z "$corpora" ] && [ -n "$sets" ]; then
        echo "data.sh: these sets are not in $datadir, and no corpora are named:$lacking" >&2
    fi
    plugin prepare --corpora "$corpora" --datadir "$datadir" --nj "$nj" --corpus_options "$corpus_options" \
        --accept_non_commercial "$accept_non_commercial" --valid_share "$valid_share" --test_share "$test_share" \
        --max_hours "$max_hours" --seed "$split_seed" --shared_words "$shared_words" --keep_out "$keep_out" \
        --compressed "$compressed"
fi

# Sets of several: made, or made again where the parts are others, or have changed.
for set in $sets; do
    parts=$(parts_of "$set")
    [ -n "$parts" ] || continue
    absent=$(missing "${!set}")
    if there "$set"; then
        if [ -n "$absent" ]; then continue; fi  # the parts were removed, and were these
        if ! [ -f "$datadir/$set/combined_from" ]; then
            echo "$datadir/$set: taken as it is; it was not made of ${!set}, which db.sh says (remove it to have it made)"
            continue
        fi
    fi
    [ -z "$absent" ] || fail "db.sh makes $set of ${!set}; there is no $datadir/${absent%% *}"
    plugin combine --input "${parts//$'\n'/,}" --output "$datadir/$set"
done

absent=$(missing "$sets")
[ -z "$absent" ] || fail "the corpora are prepared, and the recipe needs sets that are not in $datadir: $absent
  In db.sh, say which prepared sets they are made of, e.g. ${absent%% *}=\"nsc_cs_train nsc_part1_train\";
  or name prepared sets to the recipe: --train_set nsc_cs_train --valid_set nsc_cs_valid --test_sets nsc_cs_test"
