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

# Pseudo-labelled Malaysian YouTube (mesolitica): pseudolabel.jsonl and its audio. No licence declared.
MALAYSIAN_YOUTUBE=${MALAYSIAN_YOUTUBE:-}

# mesolitica/IMDA-STT: the National Speech Corpus as JSONL. Singapore Open Data Licence.
IMDA_STT=${IMDA_STT:-}

# MERaLiON/Multitask-National-Speech-Corpus-v1: parquet. Singapore Open Data Licence.
MNSC=${MNSC:-}

# yyhenggg/EN-MALAY-CS-FILTERED: parquet, derived from the National Speech Corpus.
EN_MALAY_CS=${EN_MALAY_CS:-}

# malaysia-ai/malay-conversational-speech-corpus: parquet. CC BY-NC-ND 4.0.
MALAY_CONVERSATIONAL=${MALAY_CONVERSATIONAL:-}

# emhaihsan/Synth-Manglish: parquet, synthetic. CC BY 4.0.
SYNTH_MANGLISH=${SYNTH_MANGLISH:-}

# hf-audio/esb-datasets-test-only-sorted: English test sets, for forgetting. Each its own licence.
ESB=${ESB:-}

# Mozilla's Common Voice and Spontaneous Speech, unpacked: a language's folder each. CC0.
COMMON_VOICE=${COMMON_VOICE:-}
SPONTANEOUS_SPEECH=${SPONTANEOUS_SPEECH:-}

# LibriSpeech: the folder that holds train-clean-100, test-clean, ... CC BY 4.0.
LIBRISPEECH=${LIBRISPEECH:-}

# A table of your own (JSONL, CSV, TSV, parquet), a saved Hugging Face data set, or Lhotse cuts.
MANIFEST=${MANIFEST:-}

# malaysia-ai/dedup-text-dataset: Malay, English, Chinese and Tamil text, a JSONL a source. No licence shown.
DEDUP_TEXT=${DEDUP_TEXT:-}
