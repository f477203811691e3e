import gc
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from espnet2.torch_utils.device_funcs import to_device
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin import iterators
from espnet_plugin.checkpoint import sha256_file
from espnet_plugin.iterators import BatchLines, TextIterFactory
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text_store import TextStore, finish_store, write_shard
from espnet_plugin.text_store import store as store_module

LANGS = ["cs", "ms", "en", "xx"]  # no line is in the last one


def write(directory: Path, model: Path, lines: int, shards: int = 3, languages: int = 3) -> Path:
    facts, rng = [], np.random.default_rng(lines)
    for index, part in enumerate(np.array_split(np.arange(lines), shards)):
        lengths = np.clip(rng.lognormal(2.3, 0.6, len(part)), 1, 100).astype(np.int64)
        tokens = rng.integers(0, 50_000, int(lengths.sum()))
        codes = rng.integers(0, languages, len(part))
        facts.append(write_shard(directory, index, tokens, lengths, codes))
    digest = sha256_file(model / "tokenizer.json")
    finish_store(directory, facts, LANGS, digest, "as_is")
    return directory


@pytest.fixture(scope="module")
def builder(tiny_whisper: Path) -> PromptBuilder:
    return PromptBuilder(tiny_whisper)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, tiny_whisper: Path) -> TextStore:
    return TextStore(write(tmp_path_factory.mktemp("store") / "s", tiny_whisper, 403))


@pytest.mark.parametrize("shuffle", [True, False])
def test_batches_hold_prompt_text_and_end(
    store: TextStore, builder: PromptBuilder, shuffle: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iterators, "WINDOW", 1500)  # several windows in an epoch
    factory = TextIterFactory(store, builder, 500, shuffle=shuffle)
    epoch = factory.build_iter(1)
    seen: list[list[int]] = []
    for ids, batch in epoch:
        text, lengths = batch["text"], batch["text_lengths"]
        assert text.dtype == lengths.dtype == torch.int64
        assert text.shape == (len(ids), int(lengths.max())) and text.numel() <= 500
        for row, length, line in zip(text, lengths.tolist(), ids.lines, strict=True):
            tokens, lang = store[line]
            assert row[:length].tolist() == [*builder.prompt(lang), *tokens, builder.end]
            assert (row[length:] == -1).all()
        seen.append(ids.lines.tolist())
    assert len(seen) == len(epoch)
    assert sorted(sum(seen, [])) == list(range(403))


def test_ids_are_made_when_asked_for() -> None:
    ids = BatchLines(np.asarray([7, 3]), "ms")
    assert list(ids) == ids[:] == ["line7", "line3"] and len(ids) == 2 and ids[-1] == "line3"
    assert to_device({"utt_id": ids}, "cpu")["utt_id"] is ids, "ESPnet's trainer passes it on"


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 99),
    world=st.integers(1, 4),
    each=st.none() | st.integers(1, 30),
    first=st.integers(1, 6),
)
def test_a_run_resumed_at_an_epoch_sees_what_the_whole_run_saw(
    store: TextStore, builder: PromptBuilder, seed: int, world: int, each: int | None, first: int
) -> None:
    def make(rank: int, world: int) -> TextIterFactory:
        return TextIterFactory(store, builder, 500, seed, each, True, rank, world)

    def steps(world: int, epochs: range) -> list[list[int]]:
        """Return what all ranks together see in each step."""
        ranks, found = [make(rank, world) for rank in range(world)], []
        for epoch in epochs:
            parts = [[b.tolist() for b in rank.lines_of_epoch(epoch)] for rank in ranks]
            assert {len(part) for part in parts} == {len(ranks[0].build_iter(epoch))}
            found += [sorted(sum(step, [])) for step in zip(*parts, strict=True)]
        return found

    whole = steps(world, range(1, first + 2))
    resumed = steps(world, range(first, first + 2))
    assert whole[len(whole) - len(resumed) :] == resumed
    assert whole == steps(1, range(1, first + 2)), "on any number of ranks"
    per_pass = make(0, world).batches.per_pass
    for low in range(0, len(whole), per_pass):
        lines = sorted(sum(whole[low : low + per_pass], []))
        if len(whole) - low >= per_pass:
            assert lines == list(range(403)), "each line once a pass, on one rank"
        else:
            assert len(lines) == len(set(lines)), "the pass goes on in the next epoch"
    if each is None:
        assert len(whole) == (first + 1) * per_pass


def test_seeds_and_epochs_differ(store: TextStore, builder: PromptBuilder) -> None:
    def lines(seed: int, epoch: int) -> list[int]:
        factory = TextIterFactory(store, builder, 500, seed, 5)
        return np.concatenate(list(factory.lines_of_epoch(epoch))).tolist()

    assert lines(1, 1) == lines(1, 1)
    assert lines(1, 1) != lines(2, 1) and lines(1, 1) != lines(1, 2)


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_validation_is_every_line_once_in_batches_of_one_language(
    store: TextStore, builder: PromptBuilder, world: int
) -> None:
    bins = 900 * world
    ranks = [TextIterFactory(store, builder, bins, 0, None, False, r, world) for r in range(world)]
    lines: list[int] = []
    for rank in ranks:
        batches = list(rank.build_iter(4))
        assert len(batches) == len(rank.build_iter(9)) == len(ranks[0].build_iter(1))
        for ids, _ in batches:
            assert {store[line][1] for line in ids.lines} == {ids.lang}
            lines += ids.lines.tolist()
    assert sorted(lines) == list(range(403))
    train = next(iter(TextIterFactory(store, builder, 900).build_iter(1)))[0]
    assert train.lang is None, "training batches may mix languages"


def test_more_processes_than_lines(
    store: TextStore, builder: PromptBuilder, tmp_path: Path, tiny_whisper: Path
) -> None:
    with pytest.raises(ValueError, match=r"s: batch_bins 500 is less .* each of the 9 processes"):
        TextIterFactory(store, builder, 500, world_size=9)
    few = TextStore(write(tmp_path / "few", tiny_whisper, 4))
    with pytest.raises(ValueError, match="few: too few lines to give each of 5 processes one of"):
        TextIterFactory(few, builder, 5000, world_size=5)
    TextIterFactory(few, builder, 5000, world_size=4)
    with pytest.raises(ValueError, match="few: too few lines to give each of 5 processes as many"):
        TextIterFactory(few, builder, 5000, shuffle=False, world_size=5)
    TextIterFactory(few, builder, 5000, shuffle=False, world_size=4)


def test_a_language_without_a_token_is_named(store: TextStore, tiny_whisper: Path) -> None:
    builder = PromptBuilder(tiny_whisper, {"cs": "ms", "em": "en", "ms": "ms"})
    with pytest.raises(ValueError, match="/s: language 'en' is not in lang_tokens: cs:ms"):
        TextIterFactory(store, builder, 500)


def test_memory_does_not_grow_with_the_corpus(
    tmp_path: Path, builder: PromptBuilder, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(iterators, "WINDOW", 1 << 17)
    peaks = []
    for lines in (20_000, 320_000):
        path = write(tmp_path / str(lines), tiny_whisper, lines)
        gc.collect()
        tracemalloc.start()
        batches = TextIterFactory(TextStore(path), builder, 4000, 0, 150).build_iter(3)
        assert sum(len(ids) for ids, _ in batches) > 15_000
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0], f"{peaks} bytes"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_mapped_pages_are_given_back(
    tmp_path: Path, builder: PromptBuilder, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resident(path: Path) -> int:
        """Return the kB of a store's files that this process has mapped in."""
        found = 0
        for entry in Path("/proc/self/smaps").read_text().split("VmFlags")[:-1]:
            if str(path) in entry:
                found += int(entry.split("\nRss:")[1].split()[0])
        return found

    path = write(tmp_path / "s", tiny_whisper, 30_000)
    for limit in (1 << 30, 0):
        monkeypatch.setattr(store_module, "RESIDENT", limit)
        factory = TextIterFactory(TextStore(path), builder, 4000)
        assert sum(len(ids) for ids, _ in factory.build_iter(1)) == 30_000
        held = resident(path)
        assert (held > 500) == (limit > 0), f"{held} kB of {30_000 * 20 // 1000}"
        del factory
        gc.collect()


def test_training_refuses_an_altered_store(tmp_path: Path, tiny_whisper: Path) -> None:
    from espnet_plugin.task import AsyncSwitchTask

    whole, bad = (write(tmp_path / name, tiny_whisper, 30) for name in ("whole", "bad"))
    shard = bad / "shard-00001.bin"
    shard.write_bytes(shard.read_bytes()[:-1] + b"\7")
    cmd = ["--adaptation_stage", "adapt_text", "--init_dir", str(tiny_whisper)]
    cmd += ["--train_text", str(bad), "--valid_text", str(whole)]
    with pytest.raises(ValueError, match="bad/shard-00001.bin: the checksum differs"):
        AsyncSwitchTask.main(cmd=[*cmd, "--output_dir", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
