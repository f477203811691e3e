# shellcheck shell=bash disable=SC2034
# Where the corpora are, and which of them make the recipe's sets. The environment overrides what stands here:
# NSC=/data/nsc local/data.sh --corpora nsc. The licences differ, and some forbid redistribution or commercial use;
# local/data.sh shows each before it begins. `python -m espnet_plugin.bin.prepare_corpus list` lists all that it knows.

# The corpora to prepare in stage 1, by name, e.g. "nsc fleurs_ms". A second one of a kind is ALIAS=NAME, with a
# variable ALIAS (upper case) of its own.
corpora=${corpora:-}

# Which prepared sets the recipe's own are made of, e.g. train_paired="nsc_cs_train nsc_part1_train".
train_paired=${train_paired:-}
valid_paired=${valid_paired:-}
test_cs=${test_cs:-}
test_ms=${test_ms:-}
test_en=${test_en:-}

# IMDA National Speech Corpus: the folder that holds "IMDA - National Speech Corpus". On request, Singapore Open Data
# Licence. Part 4 has the Malay-English code-switching conversations.
NSC=${NSC:-}

# google/fleurs, ms_my and en_us: the folder that holds data/ms_my/{train,dev,test}.tsv. CC BY 4.0.
FLEURS=${FLEURS:-}

# mesolitica/Malaysian-STT-Whisper: JSONL with Whisper's tokens, mp3 in split zips. No licence declared.
MALAYSIAN_STT=${MALAYSIAN_STT:-}

# malaysia-ai/malay-conversational-speech-corpus: parquet. CC BY-NC-ND 4.0.
MALAY_CONVERSATIONAL=${MALAY_CONVERSATIONAL:-}

# emhaihsan/Synth-Manglish: parquet, synthetic. CC BY 4.0.
SYNTH_MANGLISH=${SYNTH_MANGLISH:-}

# hf-audio/esb-datasets-test-only-sorted: English test sets, for forgetting. Each its own licence.
ESB=${ESB:-}

# malaysia-ai/dedup-text-dataset: Malay, English, Chinese and Tamil text, a JSONL a source. No licence shown.
DEDUP_TEXT=${DEDUP_TEXT:-}
