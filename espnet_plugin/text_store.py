"""Memory-mapped token store: unpaired text, tokenised once, read without a copy.

A store is a directory: `tokens.bin` (uint16, the text's tokens without prompt and end),
`offsets.npy` (int64, lines + 1), `langs.bin` (uint8, index into the manifest's languages) and
`manifest.json` (counts, languages, tokenizer hash, text style, sizes). uint16 holds every Whisper
token (51 866).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import atomic_dir, read_json, sha256_file, write_json
from espnet_plugin.prompt import MAX_TOKENS, PromptBuilder

VERSION = 1
FILES = ("tokens.bin", "offsets.npy", "langs.bin")
BATCH = 4096  # lines tokenised at a time
POOL = 65_536  # lines that are sorted by length together


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
) -> dict[str, Any]:
    """Tokenise lines into a store, which appears as a whole when it is finished.

    Args:
        lines: In order; a line whose language is not in the builder's table is an error.
        output: The store's directory, which must not exist yet.
        builder: Gives tokenizer, text style and languages.
        extra: More entries of the manifest.

    Returns:
        The manifest: lines read = lines kept + lines dropped for each reason.

    Raises:
        ValueError: If a language is unknown, or no line is left; names the origin.
    """
    langs = list(builder.lang_tokens)
    dropped = {"empty": 0, "too_long": 0}
    offsets, codes, read = [0], bytearray(), 0
    prompt_length = len(builder.prompt(langs[0])) + 1  # and the end token
    with atomic_dir(output) as directory:
        with open(directory / "tokens.bin", "wb") as tokens:
            for batch in _batched(lines):
                read += len(batch)
                for line in batch:
                    builder.lang_code(line.lang, line.origin)
                styled = [builder.style(line.text, line.lang) for line in batch]
                encoded = builder.encode_batch(styled)
                for line, ids in zip(batch, encoded, strict=True):
                    if not ids:
                        dropped["empty"] += 1
                    elif len(ids) + prompt_length > MAX_TOKENS:
                        dropped["too_long"] += 1
                    else:
                        tokens.write(np.asarray(ids, dtype=np.uint16).tobytes())
                        offsets.append(offsets[-1] + len(ids))
                        codes.append(langs.index(line.lang))
        if not codes:
            raise ValueError(f"{output}: no line of text is left of {read}: {dropped}")
        np.save(directory / "offsets.npy", np.asarray(offsets, dtype=np.int64))
        (directory / "langs.bin").write_bytes(codes)
        counts = np.bincount(np.frombuffer(codes, np.uint8), minlength=len(langs))
        manifest = {
            "version": VERSION,
            "read": read,
            "lines": len(codes),
            "dropped": dropped,
            "tokens": offsets[-1],
            "langs": langs,
            "lines_by_lang": {k: int(n) for k, n in zip(langs, counts, strict=True)},
            "text_style": builder.text_style,
            "tokenizer_sha256": sha256_file(Path(builder.model_dir) / "tokenizer.json"),
            "files": {
                name: {
                    "bytes": (directory / name).stat().st_size,
                    "sha256": sha256_file(directory / name),
                }
                for name in FILES
            },
            **(extra or {}),
        }
        write_json(directory / "manifest.json", manifest)
    return manifest


def _batched(lines: Iterable[Line]) -> Iterator[list[Line]]:
    batch: list[Line] = []
    for line in lines:
        batch.append(line)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class TextStore:
    """A finished store, memory-mapped; opening takes milliseconds whatever its size."""

    def __init__(self, path: str | Path) -> None:
        """Open a store.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If a file is truncated or of another version; names the file.
        """
        self.path = Path(path)
        if not (self.path / "manifest.json").is_file():
            raise FileNotFoundError(
                f"{self.path} is not a token store: espnet_plugin.bin.text_corpus prepare makes "
                "one (recipe stage 6)"
            )
        self.manifest: dict[str, Any] = read_json(self.path / "manifest.json")
        if self.manifest.get("version") != VERSION:
            raise ValueError(
                f"{self.path}/manifest.json: version {self.manifest.get('version')}, "
                f"this program reads {VERSION}: make the store again"
            )
        for name, facts in self.manifest["files"].items():
            file = self.path / name
            size = file.stat().st_size if file.is_file() else -1
            if size != facts["bytes"]:
                raise ValueError(
                    f"{file}: {size} bytes, the manifest says {facts['bytes']}: truncated or "
                    "altered, make the store again"
                )
        self.tokens = np.memmap(self.path / "tokens.bin", dtype=np.uint16, mode="r")
        self.offsets = np.load(self.path / "offsets.npy", mmap_mode="r")
        self.codes = np.memmap(self.path / "langs.bin", dtype=np.uint8, mode="r")
        self.langs: list[str] = self.manifest["langs"]

    def __len__(self) -> int:
        """Return the number of lines."""
        return len(self.codes)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Return one line's tokens `(n,)` uint16 and its language."""
        low, high = self.offsets[index], self.offsets[index + 1]
        return self.tokens[low:high], self.langs[self.codes[index]]

    def check(self, builder: PromptBuilder) -> None:
        """Check that the store was made with a model's tokenizer and with the same choices.

        Raises:
            ValueError: If tokenizer or text style differ.
        """
        found = sha256_file(Path(builder.model_dir) / "tokenizer.json")
        if found != self.manifest["tokenizer_sha256"]:
            raise ValueError(
                f"{self.path} was made with another tokenizer than that of {builder.model_dir}: "
                "make the store again with this model (recipe stage 6)"
            )
        if builder.text_style != self.manifest["text_style"]:
            raise ValueError(
                f"{self.path} was made with text_style {self.manifest['text_style']}, this run "
                f"asks for {builder.text_style}"
            )

    def verify(self) -> None:
        """Compare every file with its checksum (reads all of the store).

        Raises:
            ValueError: Naming the first file that differs.
        """
        for name, facts in self.manifest["files"].items():
            if sha256_file(self.path / name) != facts["sha256"]:
                raise ValueError(f"{self.path / name}: the checksum differs: the file was altered")


def batches_of_pass(
    lengths: np.ndarray, budget: int, seed: int, number: int, shuffle: bool
) -> list[np.ndarray]:
    """Cut one pass over a corpus into batches of similar length.

    Args:
        lengths: `(lines,)` positions that each line takes, prompt and end included.
        budget: Largest number of positions of a batch, padding included.
        seed: With `number`, decides the order; nothing else does.
        number: Which pass over the corpus, from 0.
        shuffle: False gives the corpus by length, the longest first.

    Returns:
        Arrays of line numbers; together they hold each line once.

    Raises:
        ValueError: If a line is longer than the budget.
    """
    if len(lengths) and int(lengths.max()) > budget:
        raise ValueError(f"batch_bins {budget} is less than the longest line, {lengths.max()}")
    rng = np.random.default_rng([seed, number])
    order = rng.permutation(len(lengths)) if shuffle else np.arange(len(lengths))
    batches = []
    pool = POOL if shuffle else max(len(order), 1)
    for low in range(0, len(order), pool):
        lines = order[low : low + pool]
        lines = lines[np.argsort(-lengths[lines], kind="stable")]
        start = 0
        while start < len(lines):
            size = max(1, budget // int(lengths[lines[start]]))
            batches.append(lines[start : start + size])
            start += size
    if shuffle:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches
