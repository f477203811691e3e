"""A token store: a directory of shards and the manifest that says what they are."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import read_json, sha256_file, write_json
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text_store.shards import Shard, shard_problem

VERSION = 2
MANIFEST = "manifest.json"
RESIDENT = 64 << 20  # bytes of mapped pages that a reader may keep; a larger store gives them back


def finish_store(
    directory: str | Path,
    shards: Sequence[Mapping[str, Any]],
    langs: Sequence[str],
    tokenizer_sha256: str,
    text_style: str,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write the manifest, which makes written shards a store; nothing reads it before.

    Shards that are not listed, and what a killed run left half-written, are removed.

    Args:
        directory: Where `write_shard` wrote.
        shards: What `write_shard` returned, in order.
        langs: The store's languages; a line's code is an index into them.
        tokenizer_sha256: Of the model's `tokenizer.json`.
        text_style: As in `prompt.PromptBuilder`.
        extra: More entries: the configuration, the inputs' hashes, counts.

    Returns:
        The manifest.

    Raises:
        ValueError: If a shard is missing, has another size or an unknown language, if no line is
            in any, or an entry of `extra` has a name that the manifest uses.
    """
    directory = Path(directory)
    counts = np.zeros(len(langs), np.int64)
    for facts in shards:
        if problem := shard_problem(directory, facts, read=False):
            raise ValueError(problem)
        codes = facts["lines_by_code"]
        if len(codes) > len(langs):
            raise ValueError(
                f"{directory / facts['name']}: language code {len(codes) - 1}, the store has "
                f"{len(langs)} languages: {' '.join(langs)}"
            )
        counts[: len(codes)] += codes
    if not counts.sum():
        raise ValueError(f"{directory}: no line of text is left for the store")
    manifest: dict[str, Any] = {
        "version": VERSION,
        "lines": int(counts.sum()),
        "tokens": sum(facts["tokens"] for facts in shards),
        "langs": list(langs),
        "lines_by_lang": {k: int(n) for k, n in zip(langs, counts, strict=True)},
        "text_style": text_style,
        "tokenizer_sha256": tokenizer_sha256,
    }
    if taken := sorted({*manifest, "shards"} & set(extra or {})):
        raise ValueError(f"{directory}: the manifest has its own entry '{taken[0]}'")
    manifest |= {**(extra or {}), "shards": [dict(facts) for facts in shards]}
    listed = {facts["name"] for facts in shards}
    for path in [*directory.glob("shard-*.bin"), *directory.glob(".shard-*.tmp")]:
        if path.name not in listed:
            path.unlink()
    write_json(directory / MANIFEST, manifest)
    return manifest


class TextStore:
    """A finished store, memory-mapped; opening takes milliseconds whatever its size.

    Attributes:
        path: The directory.
        manifest: What `finish_store` wrote.
        langs: Names of the languages; a line's code is an index into them.
        shards: In order; each is mapped when it is first used.
        starts: `(shards + 1,)` int64, the number of each shard's first line.
    """

    def __init__(self, path: str | Path) -> None:
        """Open a store: read the manifest and look at the shards' sizes.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If a shard is missing or truncated, or the version is another; names it.
        """
        self.path = Path(path)
        if not (self.path / MANIFEST).is_file():
            raise FileNotFoundError(
                f"{self.path} is not a token store: espnet_plugin.bin.text_corpus prepare makes "
                "one (recipe stage 6)"
            )
        self.manifest: dict[str, Any] = read_json(self.path / MANIFEST)
        if self.manifest.get("version") != VERSION:
            raise ValueError(
                f"{self.path / MANIFEST}: version {self.manifest.get('version')}, this program "
                f"reads {VERSION}: make the store again (recipe stage 6)"
            )
        facts = self.manifest["shards"]
        self._report([shard_problem(self.path, entry, read=False) for entry in facts])
        self.langs: list[str] = self.manifest["langs"]
        self.shards = [Shard(self.path / entry["name"], entry) for entry in facts]
        self.starts = np.cumsum([0, *(shard.lines for shard in self.shards)])
        self._releases = sum(entry["bytes"] for entry in facts) > RESIDENT

    def _report(self, problems: Sequence[str]) -> None:
        if found := [problem for problem in problems if problem]:
            raise ValueError(f"{'; '.join(found)}: make the store again (recipe stage 6)")

    def __len__(self) -> int:
        """Return the number of lines."""
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        """Return one line's tokens `(n,)` uint16 and its language.

        Raises:
            IndexError: If there is no such line; lines are counted from 0.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path} has {len(self)} lines, asked for line {index}")
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        shard, line = self.shards[number], index - int(self.starts[number])
        low, high = int(shard.offsets[line]), int(shard.offsets[line + 1])
        return shard.tokens[low:high], self.langs[shard.langs[line]]

    @cached_property
    def by_length(self) -> np.ndarray:
        """Number of lines `(shards, languages, longest + 1)` int64 of each length.

        Raises:
            ValueError: If a shard's table does not add up: it was altered; names it.
        """
        longest = max(entry["longest"] for entry in self.manifest["shards"])
        counts = np.zeros((len(self.shards), len(self.langs), longest + 1), np.int64)
        for number, shard in enumerate(self.shards):
            languages, width = shard.by_length.shape
            counts[number, :languages, :width] = shard.by_length
            shard.expect(int(counts[number].sum()) == shard.lines, "its table of lengths")
        return counts

    def lengths(self, low: int = 0, high: int | None = None) -> np.ndarray:
        """Return the number of tokens `(high - low,)` int64 of lines `low` to `high`."""
        lines = np.arange(low, len(self) if high is None else high)
        found = np.empty(len(lines), np.int64)
        for shard, where, local in self._by_shard(lines):
            found[where] = shard.extents(local)[1]
        return found

    def sorted_lines(self, places: np.ndarray) -> np.ndarray:
        """Return the line numbers `(n,)` int64 at places of the shards' orders, end to end.

        Place `starts[s] + i` is the i-th line of shard `s` by language, then length.
        """
        lines = np.empty(len(places), np.int64)
        for shard, where, local in self._by_shard(places):
            found = shard.order[local].astype(np.int64)
            shard.expect(int(found.max()) < shard.lines, "its order of lines")
            lines[where] = found + (places[where] - local)
        return lines

    def gather(self, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Read many lines at once, in any order.

        Args:
            lines: `(n,)` line numbers.

        Returns:
            The lines' tokens end to end `(tokens,)` uint16, in the order asked for; the number of
            tokens of each `(n,)` int64; language codes `(n,)` uint8.

        Raises:
            ValueError: If a shard was altered so that what it says makes no sense; names it.
        """
        lines = np.asarray(lines)
        lengths, codes = np.empty(len(lines), np.int64), np.empty(len(lines), np.uint8)
        found, order = [np.empty(0, np.uint16)], [np.empty(0, np.int64)]
        for shard, where, local in self._by_shard(lines):
            begins, lengths[where] = shard.extents(local)
            codes[where] = shard.langs[local]
            shard.expect(int(codes[where].max()) < len(self.langs), "its languages")
            found.append(shard.tokens[ranges(begins, lengths[where])])
            order.append(where)
        by_shard = np.concatenate(order)
        targets = (np.cumsum(lengths) - lengths)[by_shard]
        tokens = np.empty(int(lengths.sum()), np.uint16)
        tokens[ranges(targets, lengths[by_shard])] = np.concatenate(found)
        return tokens, lengths, codes

    def _by_shard(self, lines: np.ndarray) -> Iterator[tuple[Shard, np.ndarray, np.ndarray]]:
        """Yield each shard that holds some lines: shard, which of them, their places in it."""
        order = np.argsort(lines, kind="stable")  # ascending: pages are touched in order
        edges = np.searchsorted(lines[order], self.starts)
        for number in np.flatnonzero(np.diff(edges)):
            where = order[edges[number] : edges[number + 1]]
            yield self.shards[number], where, lines[where] - self.starts[number]
            if self._releases:
                self.shards[number].release()

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
        """Compare every shard with its checksum (reads all of the store).

        Raises:
            ValueError: Naming the shards that differ.
        """
        facts = self.manifest["shards"]
        self._report([shard_problem(self.path, entry, read=True) for entry in facts])


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return `starts[0], starts[0] + 1, ...` for `lengths[0]` numbers, and so on, end to end."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
