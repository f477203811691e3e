"""A store from lines of text in one go: tokenised and written by this process alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import atomic_dir, sha256_file
from espnet_plugin.prompt import MAX_TOKENS, PromptBuilder
from espnet_plugin.text_store.shards import SHARD_LINES, write_shard
from espnet_plugin.text_store.store import finish_store

BATCH = 4096  # lines tokenised at a time


@dataclass(frozen=True)
class Line:
    """One line of text with its language and, for messages, its origin (`file:line`)."""

    text: str
    lang: str
    origin: str


def write_store(
    lines: Iterable[Line],
    output: str | Path,
    builder: PromptBuilder,
    extra: Mapping[str, Any] | None = None,
    shard_lines: int = SHARD_LINES,
) -> dict[str, Any]:
    """Tokenise lines into a store, which appears as a whole when it is finished.

    Args:
        lines: In order; a line whose language is not in the builder's table is an error.
        output: The store's directory, which must not exist yet.
        builder: Gives tokenizer, text style and languages.
        extra: More entries of the manifest.
        shard_lines: About how many lines a shard gets.

    Returns:
        The manifest: lines read = lines kept + lines dropped for each reason.

    Raises:
        ValueError: If a language is unknown, or no line is left; names the origin.
    """
    langs = list(builder.lang_tokens)
    counts = {"read": 0, "empty": 0, "too_long": 0}
    with atomic_dir(output) as directory:
        shards: list[dict[str, Any]] = []
        held: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

        def flush() -> None:
            if held:
                tokens, lengths, codes = map(np.concatenate, zip(*held, strict=True))
                shards.append(write_shard(directory, len(shards), tokens, lengths, codes))
                held.clear()

        for batch in batched(lines, BATCH):
            held.append(_encode(batch, builder, langs, counts))
            if sum(len(lengths) for _, lengths, _ in held) >= shard_lines:
                flush()
        flush()
        dropped = {reason: counts[reason] for reason in ("empty", "too_long")}
        if not any(facts["lines"] for facts in shards):
            raise ValueError(f"{output}: no line of text is left of {counts['read']}: {dropped}")
        return finish_store(
            directory,
            shards,
            langs,
            sha256_file(Path(builder.model_dir) / "tokenizer.json"),
            builder.text_style,
            {"read": counts["read"], "dropped": dropped, **(extra or {})},
        )


def _encode(
    batch: Sequence[Line], builder: PromptBuilder, langs: list[str], counts: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return tokens, lengths and language codes of the lines to keep; `counts` is kept up."""
    prompt_length = len(builder.prompt(langs[0])) + 1  # and the end token
    counts["read"] += len(batch)
    for line in batch:
        builder.lang_code(line.lang, line.origin)
    tokens: list[int] = []
    lengths, codes = [], []
    styled = [builder.style(line.text, line.lang) for line in batch]
    for line, ids in zip(batch, builder.encode_batch(styled), strict=True):
        if not ids:
            counts["empty"] += 1
        elif len(ids) + prompt_length > MAX_TOKENS:
            counts["too_long"] += 1
        else:
            tokens += ids
            lengths.append(len(ids))
            codes.append(langs.index(line.lang))
    return np.asarray(tokens, np.uint16), np.asarray(lengths, np.int64), np.asarray(codes, np.uint8)
