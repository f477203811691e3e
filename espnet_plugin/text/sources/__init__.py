"""Text files as a stream of picklable blocks, and blocks as records; constant memory.

`expand` finds the files, `blocks` cuts them (in one process), `read` reads a block (in any).

| file | what is read |
| --- | --- |
| `.txt` | a text a line |
| `.jsonl` | an object a line, with a text field, perhaps fields of language and source |
| `.csv` `.tsv` | the columns of these names; the first line names the columns |
| `.parquet` | the columns of these names |
| `text` | Kaldi: `ID TEXT` a line, the languages from `utt2lang` beside it where there is one |

All but parquet may be compressed (`.gz .zst .xz`).
"""

from espnet_plugin.text.sources.cut import blocks, where
from espnet_plugin.text.sources.formats import expand, fingerprint, format_of
from espnet_plugin.text.sources.parse import read
from espnet_plugin.text.sources.records import REASONS, Block, Records, SourceSettings

__all__ = [
    "REASONS",
    "Block",
    "Records",
    "SourceSettings",
    "blocks",
    "expand",
    "fingerprint",
    "format_of",
    "read",
    "where",
]
