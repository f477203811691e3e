# shellcheck shell=bash disable=SC2034
# Where the corpora are. Fill in those you have, and name them in `corpora`; local/data.sh checks each of the named.
# The licences differ, and some forbid redistribution or commercial use: read them where you get the data.

corpora=${corpora:-"NSC FLEURS"}

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
