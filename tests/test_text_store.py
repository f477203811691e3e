import errno
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from espnet_plugin.text_store.batches import BatchPlan
from espnet_plugin.text_store.shuffle import mix, shuffled
from tests.fixtures.pairs import write_text_store

LANGS = ["cs", "ms", "en"]
Corpus = tuple[list[np.ndarray], list[int]]


def corpus(lines: int, seed: int = 0, mean: float = 12.0, languages: int = 3) -> Corpus:
    """Make lines whose lengths are spread as those of web text are: many short, few long."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(mean), 0.7, lines), 1, 443).astype(int)
    tokens = [rng.integers(0, 50_000, n).astype(np.uint16) for n in lengths]
    return tokens, rng.integers(0, languages, lines).tolist()


def write(directory: Path, made: Corpus, shards: int = 3, **extra: Any) -> Path:
    facts = []
    for index, part in enumerate(np.array_split(np.arange(len(made[0])), shards)):
        lines = [made[0][i] for i in part]
        tokens = np.concatenate([np.empty(0, np.uint16), *lines])
        codes = np.asarray([made[1][i] for i in part], np.uint8)
        facts.append(write_shard(directory, index, tokens, np.asarray([*map(len, lines)]), codes))
    finish_store(directory, facts, LANGS, "0" * 64, "as_is", extra)
    return directory


@pytest.fixture
def made() -> Corpus:
    return corpus(300)


@pytest.fixture
def store(tmp_path: Path, made: Corpus) -> Path:
    return write(tmp_path / "store", made)


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
    again = write(tmp_path / "again", made)
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
        with pytest.raises(ValueError, match=r"shard-00001.bin: line offsets make no sense"):
            opened.gather(np.arange(300))
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


@settings(deadline=None, max_examples=40)
@given(size=st.integers(1, 3000), seed=st.integers(0, 2**31), key=st.integers(0, 2**31))
def test_a_shuffle_is_a_bijection(size: int, seed: int, key: int) -> None:
    places = np.arange(size)
    moved = shuffled(places, np.full(size, size), mix(seed, key))
    assert np.array_equal(np.sort(moved), places)
    assert np.array_equal(moved[::-1], shuffled(places[::-1], np.full(size, size), mix(seed, key)))


def test_a_shuffle_is_even_and_keys_do_not_correlate() -> None:
    size, keys = 4, 4800
    rows = shuffled(
        np.tile(np.arange(size), keys),
        np.full(size * keys, size),
        np.repeat(mix(np.arange(keys)), size),
    ).reshape(keys, size)
    seen = np.unique(rows, axis=0, return_counts=True)[1]
    assert len(seen) == 24, "every order of four things comes up"
    assert ((seen - 200) ** 2 / 200).sum() < 60, "chi-square, 23 degrees of freedom"
    large = np.arange(100_003)
    one, two = (shuffled(large, np.full(len(large), len(large)), mix(7, key)) for key in (0, 1))
    for other in (large, two, np.roll(one, 1)):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


@settings(deadline=None, max_examples=60)
@given(
    data=st.data(),
    groups=st.integers(1, 3),
    budget=st.integers(45, 400),
    multiple=st.integers(1, 5),
)
def test_a_plan_covers_its_lines_within_the_budget(
    data: st.DataObject, groups: int, budget: int, multiple: int
) -> None:
    lists = st.lists(st.integers(1, 40), min_size=5, max_size=120)
    lengths = [sorted(data.draw(lists), reverse=True) for _ in range(groups)]
    counts = np.stack([np.bincount(group, minlength=41) for group in lengths])
    try:
        plan = BatchPlan(counts, 5, budget, multiple)
    except ValueError as error:
        assert budget < 90 and "use fewer processes" in str(error), "only if all stand alone"
        return
    starts, sizes = plan.spans(np.arange(plan.count))
    assert plan.count % multiple == 0
    assert starts.tolist() == [0, *np.cumsum(sizes)[:-1]] and sizes.sum() == plan.lines
    flat = np.concatenate(lengths) + 5
    assert all(size * flat[start] <= budget for start, size in zip(starts, sizes, strict=True))
    ends = np.cumsum([len(group) for group in lengths])
    first, last = (np.searchsorted(ends, x, side="right") for x in (starts, starts + sizes - 1))
    assert np.array_equal(first, last), "a batch holds lines of one group"


def test_a_line_over_the_budget_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch_bins 10 is less than the longest line, 12 pos"):
        BatchPlan(np.bincount([7])[None], 5, 10)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[TextStore, Corpus]]:
    """Stores of several sizes, one with a language without lines and an empty shard."""
    root, found = tmp_path_factory.mktemp("stores"), []
    for lines, shards, languages in ((1, 1, 1), (7, 9, 1), (150, 2, 3), (1000, 5, 2), (9000, 3, 3)):
        made = corpus(lines, lines, languages=languages)
        found.append((TextStore(write(root / str(lines), made, shards)), made))
    return found


@settings(deadline=None, max_examples=60)
@given(
    which=st.integers(0, 3),
    budget=st.integers(450, 4000),
    seed=st.integers(0, 1000),
    world=st.integers(1, 5),
)
def test_ranks_share_each_pass_without_overlap_or_loss(
    stores: list[tuple[TextStore, Corpus]], which: int, budget: int, seed: int, world: int
) -> None:
    store, (tokens, _) = stores[which]
    batches = TextBatches(store, 5, budget, seed)
    steps = -(-3 * batches.per_pass // world)
    turns = [batches.lines(np.arange(steps) * world + rank) for rank in range(world)]
    split = [np.split(lines, np.cumsum(sizes)[:-1]) for lines, sizes in turns]
    laid_out = [split[n % world][n // world] for n in range(3 * batches.per_pass)]
    for number in range(3):  # whatever ranks hold them, a pass is a pass
        part = laid_out[number * batches.per_pass : (number + 1) * batches.per_pass]
        assert sorted(np.concatenate(part).tolist()) == list(range(len(store)))
    for batch in laid_out:
        assert len(batch) * (max(len(tokens[i]) for i in batch) + 5) <= budget


@settings(deadline=None, max_examples=30)
@given(
    which=st.integers(0, 3), budget=st.integers(450, 4000), by_lang=st.booleans(), data=st.data()
)
def test_unshuffled_batches_by_language(
    stores: list[tuple[TextStore, Corpus]],
    which: int,
    budget: int,
    by_lang: bool,
    data: st.DataObject,
) -> None:
    store, (tokens, codes) = stores[which]
    world = data.draw(st.integers(1, min(4, len(store))))
    batches = TextBatches(store, 5, budget, 0, False, by_lang, world)
    assert batches.per_pass % world == 0
    lines, sizes = batches.lines(np.arange(batches.per_pass))
    assert sorted(lines.tolist()) == list(range(len(store)))
    again, _ = batches.lines(np.arange(batches.per_pass, 2 * batches.per_pass))
    assert np.array_equal(lines, again)
    for batch in np.split(lines, np.cumsum(sizes)[:-1]):
        assert len({codes[i] for i in batch}) == 1 or not by_lang
        found = [len(tokens[i]) for i in batch]
        assert found == sorted(found, reverse=True)


def test_passes_and_seeds_differ_and_mix_the_corpus(
    stores: list[tuple[TextStore, Corpus]],
) -> None:
    store, _ = stores[4]
    batches, other = TextBatches(store, 5, 2000, 1), TextBatches(store, 5, 2000, 2)
    numbers = np.arange(batches.per_pass)
    orders = [batches.lines(numbers), batches.lines(numbers + len(numbers)), other.lines(numbers)]
    for first in range(3):
        for second in range(first):
            assert not np.array_equal(orders[first][0], orders[second][0])
    lines, sizes = orders[0]
    split = np.split(lines, np.cumsum(sizes)[:-1])
    means = [store.lengths()[batch].mean() for batch in split]
    assert abs(np.corrcoef(means, numbers)[0, 1]) < 0.4, "batches of all lengths come mixed"
    places = [np.median(batch) for batch in split if len(batch) > 50]
    assert all(2000 < place < 7000 for place in places), "a batch is drawn from the whole corpus"


@pytest.mark.parametrize(
    ("lines", "mean", "bins"), [(24_000, 12, 900), (24_000, 25, 2000), (100_000, 15, 16_000)]
)
def test_padding_is_below_three_percent(lines: int, mean: float, bins: int) -> None:
    """Looks at the demo's size and budget, longer lines, and large-v3's budget."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(np.log(mean), 0.7, lines), 1, 443).astype(int)
    lengths = np.sort(lengths)[::-1] + 5
    plan = BatchPlan(np.bincount(lengths - 5)[None], 5, bins)
    starts, sizes = plan.spans(np.arange(plan.count))
    padding = 1 - lengths.sum() / (sizes * lengths[starts]).sum()
    assert padding < 0.03
