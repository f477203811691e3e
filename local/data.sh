#!/usr/bin/env bash
# Stage 1 for real corpora: check where they are (db.sh) and which data directories exist.
#
#   local/data.sh --sets "train valid test_cs test_en"
#
# A set that is in data/ already (wav.scp, text, utt2spk, utt2lang) is taken as it is: put your own there in Kaldi's
# form, and stages 2 to 13 work on it. No corpus of db.sh is prepared by this script yet; it says so and stops.
set -euo pipefail

# options
sets=${sets:-}    # the sets that the recipe needs, separated by spaces
datadir=data      # where they belong
# end of options
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/parse_options.sh" "$@"
cd "$here/../egs2_asyncswitch/asr1"
. ./db.sh

fail() {
    echo "data.sh: error: $1" >&2
    exit 2
}

missing=
for set in $sets; do
    for file in wav.scp text utt2spk utt2lang; do
        if [ ! -s "$datadir/$set/$file" ]; then missing="$missing $set/$file"; fi
    done
done
if [ -n "$sets" ] && [ -z "$missing" ]; then
    echo "data.sh: all sets are there: $sets"
    exit 0
fi

[ -n "$corpora" ] || fail "db.sh: corpora is empty; name the corpora that you have, e.g. corpora=\"NSC FLEURS\""
for corpus in $corpora; do
    case $corpus in *[!A-Z0-9_]*) fail "db.sh: corpora names '$corpus'; a corpus is one of its variables, e.g. NSC" ;; esac
    [ -n "${!corpus+declared}" ] || fail "db.sh: corpora names $corpus, and db.sh declares no variable $corpus"
    [ -n "${!corpus}" ] ||
        fail "db.sh: $corpus is empty; set it to the folder of that corpus, or take $corpus out of corpora"
    [ -d "${!corpus}" ] || fail "db.sh: $corpus=${!corpus} is not a folder"
    echo "data.sh: $corpus is at ${!corpus}"
done
fail "the corpora are there, and this recipe cannot prepare them yet. Missing in $datadir:${missing:- the sets}
  Write them in Kaldi's form (wav.scp text utt2spk spk2utt utt2lang) and run the recipe again"
