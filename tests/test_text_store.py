import errno
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espnet_plugin.checkpoint import files
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text_store import (
    TextBatches,
    TextStore,
    finish_store,
    shard_is_finished,
    write_shard,
)
from espnet_plugin.text_store import store as store_module
from tests.fixtures.pairs import write_text_store
from tests.fixtures.token_stores import LANGS, Corpus, random_corpus, write_corpus


@pytest.fixture
def made() -> Corpus:
    return random_corpus(300)


@pytest.fixture
def store(tmp_path: Path, made: Corpus) -> Path:
    return write_corpus(tmp_path / "store", made)


@pytest.mark.parametrize("resident", [0, 1 << 30])
def test_lines_come_back_one_by_one_and_together(
    store: Path, made: Corpus, resident: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RESIDENT", resident)
    opened = TextStore(store)
    assert len(opened) == 300
    for (tokens, lang), expected, code in zip(opened, *made, strict=True):
        assert np.array_equal(tokens, expected) and lang == LANGS[code]
    lines = np.random.default_rng(1).permutation(300)[:100]
    tokens, lengths, codes = opened.gather(lines)
    assert np.array_equal(tokens, np.concatenate([made[0][i] for i in lines]))
    assert lengths.tolist() == [len(made[0][i]) for i in lines]
    assert codes.tolist() == [made[1][i] for i in lines]
    assert opened.lengths(90, 210).tolist() == [len(t) for t in made[0][90:210]]
    assert [len(part) for part in opened.gather(lines[:0])] == [0, 0, 0]
    with pytest.raises(IndexError, match="has 300 lines, asked for line 300"):
        opened[300]


def test_manifest_says_what_the_store_holds(store: Path, made: Corpus) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    assert manifest["lines"] == 300 == sum(manifest["lines_by_lang"].values())
    assert manifest["tokens"] == sum(map(len, made[0]))
    assert [shard["lines"] for shard in manifest["shards"]] == [100, 100, 100]
    assert manifest["lines_by_lang"]["ms"] == made[1].count(1)


def test_the_same_lines_give_the_same_bytes(store: Path, made: Corpus, tmp_path: Path) -> None:
    again = write_corpus(tmp_path / "again", made)
    for path in store.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), path.name


def test_finished_shards_are_known_and_leftovers_removed(store: Path) -> None:
    facts = TextStore(store).manifest["shards"]
    (store / facts[1]["name"]).write_bytes(b"half")
    assert [shard_is_finished(store, known) for known in facts] == [True, False, True]
    (store / ".shard-00001.bin.77.ab.tmp").touch()
    finish_store(store, [facts[0]], LANGS, "", "as_is")
    assert sorted(p.name for p in store.iterdir()) == ["manifest.json", "shard-00000.bin"]


@pytest.mark.parametrize(
    ("change", "opens", "message"),
    [
        (lambda p: p.unlink(), False, "shard-00001.bin is missing"),
        (
            lambda p: p.write_bytes(p.read_bytes()[:-1]),
            False,
            r"shard-00001.bin: \d+ bytes, .*ated",
        ),
        (lambda p: p.write_bytes(p.read_bytes()[::-1]), True, "shard-00001.bin: the checksum diff"),
    ],
    ids=["missing", "truncated", "altered"],
)
def test_a_broken_shard_is_named(
    store: Path, change: Callable[[Path], Any], opens: bool, message: str
) -> None:
    change(store / "shard-00001.bin")
    with pytest.raises(ValueError, match=message) as caught:
        opened = TextStore(store)
        assert opens
        with pytest.raises(ValueError, match=r"shard-00001.bin: its offsets cannot be"):
            opened.gather(np.arange(300))
        with pytest.raises(ValueError, match=r"shard-00001.bin: its table of lengths cannot be"):
            TextBatches(opened, 5, 4000)
        opened.verify()
    assert "shard-00000" not in str(caught.value) and "make the store again" in str(caught.value)


def test_opening_reads_no_shard(store: Path, tmp_path: Path) -> None:
    """Opens a store of 38 sparse files of 40 MB: their content is not looked at."""
    manifest = json.loads((store / "manifest.json").read_text())
    big = tmp_path / "big"
    big.mkdir()
    manifest["shards"] = [
        {**manifest["shards"][0], "name": f"shard-{i:05d}.bin", "bytes": 40_000_000}
        for i in range(38)
    ]
    for facts in manifest["shards"]:
        with open(big / facts["name"], "wb") as file:
            file.truncate(facts["bytes"])
    (big / "manifest.json").write_text(json.dumps(manifest))
    start = time.perf_counter()
    opened = TextStore(big)
    assert time.perf_counter() - start < 0.1
    assert len(opened) == 3800 and not any("_map" in vars(shard) for shard in opened.shards)


def test_a_full_disk_keeps_finished_shards(
    store: Path, made: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left .*finished stay.*shard-00003.bin") as caught:
        write_shard(store, 3, made[0][0], np.asarray([len(made[0][0])]), np.zeros(1, np.uint8))
    assert caught.value.errno == errno.ENOSPC
    assert not list(store.glob(".*")) and not (store / "shard-00003.bin").exists()
    TextStore(store).verify()


@pytest.mark.parametrize(
    ("tokens", "lengths", "codes", "message"),
    [
        ([1, 2], [1], [0], "1 lengths that sum to 1, 1 languages and 2 tokens do not fit"),
        ([1], [1, 0], [0, 0], "lines of 0 to 1 tokens, allowed are 1 to 448"),
        ([1] * 449, [449], [0], "lines of 449 to 449 tokens"),
        ([70_000], [1], [0], "a token does not fit into 16 bits: 70000"),
        ([1], [1], [300], "a language does not fit into 8 bits: 300"),
    ],
)
def test_arrays_that_make_no_shard(
    tmp_path: Path, tokens: list[int], lengths: list[int], codes: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=f"shard-00004.bin: .*{message}"):
        write_shard(tmp_path, 4, *map(np.asarray, (tokens, lengths, codes)))
    assert not list(tmp_path.iterdir())


def test_a_store_needs_lines_and_known_languages(tmp_path: Path) -> None:
    none = np.empty(0, np.uint8)
    facts = [write_shard(tmp_path, 0, none, none, none)]
    with pytest.raises(ValueError, match="no line of text is left"):
        finish_store(tmp_path, facts, LANGS, "", "as_is")
    one = np.ones(1, np.uint8)
    facts.append(write_shard(tmp_path, 1, one, one, 5 * one))
    with pytest.raises(ValueError, match="shard-00001.bin: language code 5, the store has 3"):
        finish_store(tmp_path, facts, LANGS, "", "as_is")
    with pytest.raises(ValueError, match="the manifest has its own entry 'shards'"):
        finish_store(tmp_path, facts, [*LANGS, "zh", "ta", "x"], "", "as_is", {"shards": 1})
    finish_store(tmp_path, facts, [*LANGS, "zh", "ta", "x"], "", "as_is")
    opened = TextStore(tmp_path)
    assert len(opened) == 1 and opened[0][1] == "x", "an empty shard does no harm"
    (tmp_path / "shard-00001.bin").unlink()
    with pytest.raises(ValueError, match="shard-00001.bin is missing"):
        finish_store(tmp_path, facts, [*LANGS, "zh", "ta", "x"], "", "as_is")


def test_a_store_of_another_version_or_none(store: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="recipe stage 6"):
        TextStore(tmp_path / "none")
    manifest = json.loads((store / "manifest.json").read_text())
    (store / "manifest.json").write_text(json.dumps({**manifest, "version": 1}))
    with pytest.raises(ValueError, match="version 1, this program reads 2: make the store again"):
        TextStore(store)


def test_another_tokenizer_or_style_is_refused(
    tmp_path: Path, tiny_whisper: Path, tiny_whisper_v3: Path
) -> None:
    opened = TextStore(write_text_store(tmp_path / "s", tiny_whisper, 5))
    opened.check(PromptBuilder(tiny_whisper))
    with pytest.raises(ValueError, match="was made with another tokenizer"):
        opened.check(PromptBuilder(tiny_whisper_v3))
    with pytest.raises(ValueError, match="made with text_style as_is, this run asks for spoken"):
        opened.check(PromptBuilder(tiny_whisper, text_style="spoken"))
