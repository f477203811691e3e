"""Whisper's tokens of many lines at a time, a cache of words in front of the tokenizer.

Byte-level BPE never joins what a space parts: the tokens of a line are those of `" " + chunk` for
each of its space-separated chunks. A corpus repeats its words, so most chunks come from a cache and
the tokenizer sees each new one once (a tenth of the time of encoding every line).
"""

import json
import os
from collections.abc import Sequence
from itertools import chain, compress
from pathlib import Path
from typing import Any

import numpy as np

# One process a core does the parallel work; the library's own threads would only compete. Set
# before the library is imported, which reads it once.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("RAYON_NUM_THREADS", "1")

CACHE_CHUNKS = 400_000  # about 80 MB of words and tokens; then it starts anew
BATCH = 4096  # lines or chunks that the tokenizer gets at a time
CACHED_LENGTH = 40  # characters; longer chunks hardly come again


class Encoder:
    """Encodes lines to token ids, exactly as `PromptBuilder.encode_batch` does."""

    def __init__(self, model_dir: str | Path) -> None:
        """Load the tokenizer of a model directory.

        Raises:
            FileNotFoundError: If the directory has none.
            ValueError: If it cannot be read, or has more tokens than uint16 holds.
        """
        from espnet_plugin.prompt import text_tokenizer

        self._tokenizer = text_tokenizer(model_dir)
        if self._tokenizer.get_vocab_size() > 1 << 16:
            raise ValueError(
                f"{model_dir}/tokenizer.json has {self._tokenizer.get_vocab_size()} tokens, the "
                "token store holds ids up to 65535"
            )
        self._by_chunk = _spaces_part(json.loads(self._tokenizer.to_str()))
        self._cache: dict[str, bytes] = {}

    def encode(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode lines, each with a leading space; an empty one gives no tokens.

        Args:
            lines: Text without outer white space.

        Returns:
            All tokens in order `(tokens,)` uint16, and the number of each line `(lines,)` int64.
        """
        if not self._by_chunk:
            return self._whole(lines)
        # runs of spaces, and those at the ends, are tokens of their own: such a line is one chunk
        pieces = [
            [line]
            if not line or "  " in line or line[0] == " " or line[-1] == " "
            else line.split(" ")
            for line in lines
        ]
        found = self._look_up(list(chain.from_iterable(pieces)))
        sizes = np.fromiter(map(len, found), np.int64, len(found)) // 2
        total = np.concatenate([[0], np.cumsum(sizes)])
        ends = np.cumsum([0, *map(len, pieces)])
        return np.frombuffer(b"".join(found), np.uint16), np.diff(total[ends])

    def _look_up(self, chunks: list[str]) -> list[bytes]:
        """Return the tokens of each chunk as uint16 bytes."""
        found: list[Any] = list(map(self._cache.get, chunks))
        missing = [entry is None for entry in found]
        if not any(missing):
            return found
        new = list(dict.fromkeys(compress(chunks, missing)))
        ids, lengths = self._whole(new)
        raw, ends = ids.tobytes(), np.cumsum(lengths * 2).tolist()
        tokens = [raw[a:b] for a, b in zip([0, *ends], ends, strict=False)]
        here = dict(zip(new, tokens, strict=True))
        for place in np.flatnonzero(missing).tolist():
            found[place] = here[chunks[place]]
        if len(self._cache) > CACHE_CHUNKS:
            self._cache.clear()
        self._cache.update((c, t) for c, t in here.items() if len(c) <= CACHED_LENGTH)
        return found

    def _whole(self, lines: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        ids: list[list[int]] = []
        for low in range(0, len(lines), BATCH):
            batch = lines[low : low + BATCH]
            encoded = self._tokenizer.encode_batch_fast(
                [" " + line for line in batch], add_special_tokens=False
            )
            ids += [e.ids if line else [] for e, line in zip(encoded, batch, strict=True)]
        lengths = np.fromiter(map(len, ids), np.int64, len(ids))
        flat = np.fromiter(chain.from_iterable(ids), np.uint16, int(lengths.sum()))
        return flat, lengths


def _spaces_part(spec: dict[str, Any]) -> bool:
    """Say whether a tokenizer's specification is that for which chunks can be encoded alone."""
    before = spec.get("pre_tokenizer") or {}
    return (
        spec.get("normalizer") is None
        and before.get("type") == "ByteLevel"
        and before.get("use_regex", True)
        and not before.get("add_prefix_space")
        and spec["model"].get("type") == "BPE"
        and not spec["model"].get("dropout")
    )
