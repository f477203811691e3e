import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.text_store import TextBatches, TextStore
from espnet_plugin.text_store.batches import BatchPlan
from espnet_plugin.text_store.shuffle import mix, shuffled
from tests.fixtures.token_stores import Corpus, random_corpus, write_corpus


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
    processes=st.integers(1, 5),
    share=st.booleans(),
)
def test_a_plan_covers_its_lines_within_the_budget(
    data: st.DataObject, groups: int, budget: int, processes: int, share: bool
) -> None:
    multiple, least = (1, processes) if share else (processes, 1)
    lists = st.lists(st.integers(1, 40), min_size=5, max_size=120)
    lengths = [sorted(data.draw(lists), reverse=True) for _ in range(groups)]
    counts = np.stack([np.bincount(group, minlength=41) for group in lengths])
    try:
        plan = BatchPlan(counts, 5, budget, multiple, least=least)
    except ValueError as error:
        longest = max(group[0] for group in lengths) + 5
        small = f"batch_bins {budget} is less than the longest line, {longest} positions"
        if processes * longest > budget:
            assert small in str(error)
        else:
            assert "use fewer processes" in str(error), "too few lines of a language"
        return
    starts, sizes = plan.spans(np.arange(plan.count))
    assert plan.count % multiple == 0
    assert starts.tolist() == [0, *np.cumsum(sizes)[:-1]] and sizes.sum() == plan.lines
    flat = np.concatenate(lengths) + 5
    part = budget // multiple
    assert all(size * flat[start] <= part for start, size in zip(starts, sizes, strict=True))
    assert sizes.min() >= least
    ends = np.cumsum([len(group) for group in lengths])
    first, last = (np.searchsorted(ends, x, side="right") for x in (starts, starts + sizes - 1))
    assert np.array_equal(first, last), "a batch holds lines of one group"


def test_a_line_over_the_budget_is_an_error() -> None:
    with pytest.raises(ValueError, match="batch_bins 10 is less than the longest line, 12 pos"):
        BatchPlan(np.bincount([7])[None], 5, 10)
    with pytest.raises(ValueError, match="less than .* 12 positions .* each of the 3 processes"):
        BatchPlan(np.bincount([7] * 3)[None], 5, 35, least=3)
    assert BatchPlan(np.bincount([7] * 3)[None], 5, 36, least=3).count == 1


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[TextStore, Corpus]]:
    """Stores of several sizes, one with a language without lines and an empty shard."""
    root, found = tmp_path_factory.mktemp("stores"), []
    for lines, shards, languages in ((1, 1, 1), (7, 9, 1), (150, 2, 3), (1000, 5, 2), (9000, 3, 3)):
        made = random_corpus(lines, lines, languages=languages)
        found.append((TextStore(write_corpus(root / str(lines), made, shards)), made))
    return found


@settings(deadline=None, max_examples=60)
@given(
    which=st.integers(0, 3),
    budget=st.integers(450, 4000),
    seed=st.integers(0, 1000),
    world=st.integers(1, 5),
)
def test_ranks_share_each_batch_without_overlap_or_loss(
    stores: list[tuple[TextStore, Corpus]], which: int, budget: int, seed: int, world: int
) -> None:
    store, (tokens, _) = stores[which]
    try:
        batches = TextBatches(store, 5, budget * world, seed, least=world)
    except ValueError as error:
        assert len(store) < 3 * world and "use fewer processes" in str(error)
        return
    numbers = np.arange(3 * batches.per_pass)

    def split(found: tuple[np.ndarray, np.ndarray]) -> list[np.ndarray]:
        return np.split(found[0], np.cumsum(found[1])[:-1])

    ranks = [split(batches.lines(numbers, rank, world)) for rank in range(world)]
    whole = split(batches.lines(numbers))
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert sorted(batch.tolist()) == sorted(np.concatenate(parts).tolist())
        sizes = [len(part) for part in parts]
        assert min(sizes) >= 1 and max(sizes) <= min(sizes) + 1
        longest = max(len(tokens[i]) for i in batch) + 5
        assert len(batch) * longest <= budget * world
        for part in parts:
            assert len(part) * (max(len(tokens[i]) for i in part) + 5) <= budget + longest
    positions = [len(batch) * (max(len(tokens[i]) for i in batch) + 5) for batch in whole]
    assert positions[0] == max(positions), "if memory does not suffice, that shows at once"
    for number in range(3):
        part = whole[number * batches.per_pass : (number + 1) * batches.per_pass]
        assert sorted(np.concatenate(part).tolist()) == list(range(len(store)))


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
    batches = TextBatches(store, 5, budget * world, 0, False, by_lang, world)
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
