"""Whether transcripts still have the National Speech Corpus's tags of languages (``<malay>``).

Where they do, words without a tag are English; where they were taken out, nobody knows. One
utterance does not tell: it may be English throughout. So a table is asked as a whole.
"""

import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from espnet_plugin.corpora.row_files import parts, records

ASKED = 5_000  # records at a table's start
_TAG = re.compile(
    r"<\s*>?\s*/?\s*(?:malay|mandarin|chinese|tamil)\b|\b(?:malay|mandarin|chinese|tamil)\s*>",
    re.IGNORECASE,
)


def has_language_tags(text: str) -> bool:
    """Tell whether a transcript has such a tag, complete or broken."""
    return _TAG.search(text) is not None


def keeps_language_tags(table: str | Path, column: str) -> bool:
    """Tell whether any transcript at the start of a table has such a tag.

    Args:
        table: A file of `row_files`.
        column: Of the transcript, or of an object that has it under ``text``.
    """
    for part in islice(parts(table), 1):
        for _, _, record in islice(records(part, [column]), ASKED):
            text = record.get(column) if isinstance(record, dict) else None
            if isinstance(text, Mapping):
                text = text.get("text")
            if isinstance(text, str) and has_language_tags(text):
                return True
    return False
