#!/usr/bin/env bash
# Score decoded text with sclite: WER and CER of normalised text, and the raw WER.
#
#   local/score.sh exp/adapt_full                             # every set that was decoded
#   local/score.sh --tag beam5 --sets "test_cs test_en" exp/adapt_full exp/init
#
# For each SYSTEM/decode_TAG/SET/text this runs, in egs2_asyncswitch/asr1,
#
#   python -m espnet_plugin.bin.score --ref dump/raw/SET/text --hyp SYSTEM/decode_TAG/SET/text \
#       --output SYSTEM/decode_TAG/SET --name SYSTEM
#
# Recipe stage 13 does the same for a whole experiment, in one process, and writes the report.
set -euo pipefail
here=$(cd -P "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/../egs2_asyncswitch/asr1"

# options
dumpdir=dump/raw               # references: DUMPDIR/SET/{text,utt2lang[,utt2tags]}
tag=greedy                     # which decoding
sets=                          # sets to score, separated by spaces; empty: all that were decoded
python=                        # the Python to use; empty: that of .venv, else python3
# end of options
arguments=()
systems=()
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h | --*=*) arguments+=("$1") ;;
        --*) arguments+=("$1"); if [ $# -gt 1 ]; then shift; arguments+=("$1"); fi ;;
        *) systems+=("$1") ;;
    esac
    shift
done
. "$here/parse_options.sh" ${arguments[@]+"${arguments[@]}"}
. ./path.sh

fail() {
    echo "score.sh: error: $*" >&2
    exit 2
}

[ ${#systems[@]} -gt 0 ] || fail "name at least one system's directory, such as exp/adapt_full (--help)"
for system in "${systems[@]}"; do
    system=${system%/}
    found=$sets
    if [ -z "$found" ]; then
        for text in "$system/decode_$tag"/*/text; do
            if [ -e "$text" ]; then found="$found $(basename "$(dirname "$text")")"; fi
        done
    fi
    [ -n "${found// /}" ] || fail "$system/decode_$tag has no decoded set; recipe stage 12 makes them"
    for set in $found; do
        hyp=$system/decode_$tag/$set
        [ -e "$hyp/text" ] || fail "$hyp/text is missing; recipe stage 12 makes it"
        [ -e "$dumpdir/$set/text" ] || fail "$dumpdir/$set/text is missing; recipe stage 3 makes it"
        options=(--ref "$dumpdir/$set/text" --hyp "$hyp/text" --output "$hyp" --name "$(basename "$system")")
        if [ -e "$dumpdir/$set/utt2tags" ]; then options+=(--tags "$dumpdir/$set/utt2tags"); fi
        "$python" -m espnet_plugin.bin.score "${options[@]}"
    done
done
