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

# there SET: is it in data/, whole?
there() {
    local file
    for file in wav.scp text utt2spk utt2lang; do [ -s "$datadir/$1/$file" ] || return 1; done
}

# missing SETS: those that are not there.
missing() {
    local set absent=
    for set in $1; do there "$set" || absent="$absent $set"; done
    echo "${absent# }"
}

plugin() { "$python" -m espnet_plugin.bin.prepare_corpus "$@"; }

if [ -n "$sets" ] && [ -z "$(missing "$sets")" ]; then
    echo "data.sh: all sets are there: $sets"
    exit 0
fi

if [ -z "$corpora" ] && [ -n "$sets" ]; then
    echo "data.sh: these sets are not in $datadir, and no corpora are named: $(missing "$sets")" >&2
fi
plugin prepare --corpora "$corpora" --datadir "$datadir" --nj "$nj" --corpus_options "$corpus_options" \
    --accept_non_commercial "$accept_non_commercial" --valid_share "$valid_share" --test_share "$test_share" \
    --max_hours "$max_hours" --seed "$split_seed" --shared_words "$shared_words" --keep_out "$keep_out" \
    --compressed "$compressed"

for set in $(missing "$sets"); do
    case $set in *[!A-Za-z0-9_]*) continue ;; esac  # no variable can be called so
    parts=${!set:-}
    [ -n "$parts" ] || continue
    absent=$(missing "$parts")
    [ -z "$absent" ] || fail "db.sh makes $set of $parts; there is no $datadir/${absent%% *}"
    input=
    for part in $parts; do input="$input $datadir/$part"; done
    plugin combine --input "${input# }" --output "$datadir/$set"
done

absent=$(missing "$sets")
[ -z "$absent" ] || fail "the corpora are prepared, and the recipe needs sets that are not in $datadir: $absent
  In db.sh, say which prepared sets they are made of, e.g. ${absent%% *}=\"nsc_cs_train nsc_part1_train\";
  or name prepared sets to the recipe: --train_set nsc_cs_train --valid_set nsc_cs_valid --test_sets nsc_cs_test"
