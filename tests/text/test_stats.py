"""Text statistics, against slow references that share no code with them."""

import json
import random
import time
from collections import Counter
from itertools import groupby
from statistics import fmean, pstdev

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.score import cmi
from espnet_plugin.score.switching import switch_points
from espnet_plugin.text import source_counts
from espnet_plugin.text.source_counts import SourceCounts
from espnet_plugin.text.stats import CMI_STEP, MOST_SPAN, MOST_SWITCHES, TextStats
from espnet_plugin.text.stats_report import table

TAGS = ("ms", "en", "zh", "ta", "other", "num", "name", "shared")
SPOKEN = TAGS[:4]
# Mostly Malay and English, so that spans of several words and lines without a switch are common.
LINES = st.lists(
    st.lists(st.sampled_from((*TAGS, "ms", "ms", "ms", "en", "en")), max_size=30), max_size=12
)


def count(lines: list[list[str]], tags: tuple[str, ...] = TAGS, **more) -> TextStats:
    stats = TextStats(tags)
    codes = np.array([tags.index(tag) for line in lines for tag in line], np.uint8)
    n_words = np.array([len(line) for line in lines], np.int32)
    arguments = {"tokens": n_words * 2 + 1, "langs": ["cs"] * len(lines), **more}
    stats.add_block(codes, n_words, **arguments)
    return stats


def one_language_spans(line: list[str]) -> list[int]:
    return [len(list(group)) for _, group in groupby(tag for tag in line if tag in SPOKEN)]


@settings(max_examples=50, deadline=None)
@given(LINES)
def test_figures_equal_a_slow_reference(lines: list[list[str]]) -> None:
    stats = count(lines)
    figures = stats.figures()
    values = [cmi(line) for line in lines]
    switches = [len(switch_points(line)) for line in lines]
    spans = [n for line in lines if switch_points(line) for n in one_language_spans(line)]
    assert figures["lines"] == len(lines)
    assert figures["words"] == sum(map(len, lines))
    assert figures["tokens"] == sum(2 * len(line) + 1 for line in lines)
    assert figures["switch_points"] == sum(switches)
    assert figures["cmi"] == (pytest.approx(fmean(values), abs=1e-6) if lines else None)
    mixed = [value for value, n in zip(values, switches, strict=True) if n]
    expected = pytest.approx(fmean(mixed), abs=1e-6) if mixed else None
    assert figures["cmi_of_switching_lines"] == expected
    assert (figures["lines_switching"] or 0) * len(lines) == pytest.approx(len(mixed))

    histogram = [0] * (100 // CMI_STEP + 1)
    for line in lines:
        counts = [line.count(language) for language in SPOKEN]
        other, total = sum(counts) - max(counts), sum(counts)
        # the first bin whose upper limit the CMI does not exceed, in whole numbers
        histogram[next(i for i in range(21) if 100 * other <= CMI_STEP * i * total)] += 1
    assert stats.histogram("cmi").tolist() == histogram
    for name, most, found in (
        ("switches", MOST_SWITCHES, switches),
        ("spans", MOST_SPAN, spans),
    ):
        capped = Counter(min(n, most + 1) for n in found)
        assert stats.histogram(name).tolist() == [capped[n] for n in range(most + 2)]
    directions = Counter(f"{line[a]} {line[b]}" for line in lines for a, b in switch_points(line))
    assert stats.directions() == directions

    neighbours = sum(max(sum(one_language_spans(line)) - 1, 0) for line in lines)
    expected = pytest.approx(sum(switches) / neighbours) if neighbours else None
    assert figures["i_index"] == expected
    if spans:
        deviation, mean = pstdev(spans), fmean(spans)
        assert figures["burstiness"] == pytest.approx((deviation - mean) / (deviation + mean))
        assert figures["span_length"] == pytest.approx(mean)
    else:
        assert figures["burstiness"] is None


@pytest.mark.parametrize(
    ("lines", "m_index", "i_index", "burstiness"),
    [
        (["ms en ms en"], 1.0, 1.0, -1.0),
        (["ms ms", "en en"], 1.0, 0.0, None),  # the line's end is no switch
        (["ms ms ms en"], 0.6, 1 / 3, -1 / 3),  # p² = 10/16; spans of 3 and 1: m 2, s 1
        (["ms ms", "ms num"], 0.0, 0.0, None),
        (["ms en zh"], 1.0, 1.0, -1.0),
        (["num name other shared", ""], None, None, None),
        (["ms " * 500 + "en " * 500 + "zh"], 1.0, 2 / 1000, None),  # a stray word of a third
    ],
)
def test_indices_of_known_corpora(lines, m_index, i_index, burstiness) -> None:
    figures = count([line.split() for line in lines]).figures()
    assert figures["m_index"] == (None if m_index is None else pytest.approx(m_index, abs=1e-5))
    assert figures["i_index"] == (None if i_index is None else pytest.approx(i_index))
    if burstiness is not None:
        assert figures["burstiness"] == pytest.approx(burstiness)


@settings(max_examples=50, deadline=None)
@given(LINES, st.randoms(use_true_random=False))
def test_parts_merge_in_any_order_to_the_same_json(lines, rng: random.Random) -> None:
    langs = [rng.choice(("cs", "ms", "en")) for _ in lines]
    sources = [rng.choice("abc") for _ in lines]
    whole = count(lines, langs=langs, sources=sources)
    parts = [
        count([line], langs=[lang], sources=[source])
        for line, lang, source in zip(lines, langs, sources, strict=True)
    ]
    merged = [TextStats(), TextStats()]
    for stats in merged:
        rng.shuffle(parts)
        for part in parts:
            stats.merge(TextStats.from_json(json.loads(json.dumps(part.to_json()))))
    a, b, c = (stats.to_json() for stats in (whole, *merged))
    assert json.dumps(b) == json.dumps(c)
    del a["sources"]["peaks"], b["sources"]["peaks"]  # those of a block depend on the blocks
    assert json.dumps(a) == json.dumps(b)


def test_only_kept_lines_are_counted() -> None:
    lines = [["ms", "en"], ["ms"], [], ["en", "en", "num"]]
    keep = np.array([True, False, True, True])
    more = {"langs": ["cs", "ms", "other", "en"], "sources": list("abab")}
    some = count(lines, keep=keep, **more)
    left = [index for index in range(4) if keep[index]]
    more = {name: [values[index] for index in left] for name, values in more.items()}
    assert some.to_json() == count([lines[index] for index in left], **more).to_json()
    assert some.lines == 3


def test_tokens_are_unknown_where_some_line_has_none() -> None:
    stats = count([["ms"]])
    assert stats.tokens == 3
    stats.merge(count([["ms"]], tokens=None))
    assert stats.tokens is None
    assert stats.figures()["tokens_per_line"] is None


def test_another_pair_of_languages() -> None:
    tags = ("es", "en", "other", "num", "name", "shared")
    stats = count([["es", "en", "shared", "es"]], tags)
    assert stats.figures()["words_by_language"] == {"es": 2 / 3, "en": 1 / 3}
    assert stats.figures()["cmi"] == pytest.approx(cmi(["ms", "en", "shared", "ms"]), abs=1e-6)
    with pytest.raises(ValueError, match="tags es en other .* cannot be merged with those of ms"):
        TextStats().merge(stats)


def test_what_does_not_fit_is_refused() -> None:
    codes, n_words = np.zeros(3, np.uint8), np.array([1, 2])
    with pytest.raises(ValueError, match="langs has 1 entries for 2 lines"):
        TextStats().add_block(codes, n_words, None, ["ms"])
    with pytest.raises(ValueError, match="3 tags for lines of 4 words"):
        TextStats().add_block(codes, np.array([1, 3]), None, ["ms", "ms"])
    with pytest.raises(ValueError, match="tag code 8; there are 8 tags"):
        TextStats().add_block(codes + np.uint8(8), n_words, None, ["ms", "ms"])
    with pytest.raises(ValueError, match="at least one of them a language"):
        TextStats(["other", "num"])
    with pytest.raises(ValueError, match="version 0; this program reads 1"):
        TextStats.from_json(TextStats().to_json() | {"version": 0})


def test_sources_beyond_the_capacity(monkeypatch) -> None:
    monkeypatch.setattr(source_counts, "CAPACITY", 50)
    rng = random.Random(1)
    names = [f"user {rng.randrange(5000)}" for _ in range(6000)]
    names += ["forum"] * 900 + ["blog $1 | a"] * 500 + ["n" * 500] * 300
    rng.shuffle(names)
    blocks = [names[low : low + 770] for low in range(0, len(names), 770)]
    parts = []
    for block in blocks:
        part = SourceCounts()
        part.add_block(block)
        assert len(part.peaks) == 50
        parts.append(SourceCounts.from_json(json.loads(json.dumps(part.to_json()))))
    merged = []
    for order in range(3):
        rng.shuffle(parts)
        whole = SourceCounts()
        for part in parts[: 3 * order]:
            whole.merge(part)
        rest = SourceCounts()  # a merge of merges
        for part in parts[3 * order :]:
            rest.merge(part)
        whole.merge(rest)
        merged.append(json.dumps([whole.to_json(), whole.top(10)]))
        top = whole.top(3)
    assert len(set(merged)) == 1
    assert not whole.exact
    assert [name[:5] for name, _ in top] == ["forum", "blog ", "nnnnn"]
    assert len(top[2][0]) == source_counts.LONGEST_NAME
    exact = Counter(names)
    for (_, estimate), name in zip(top, ("forum", "blog $1 | a", "n" * 500), strict=True):
        assert 0 <= estimate - exact[name] <= 5


def test_a_source_that_comes_late_is_exact_below_the_capacity() -> None:
    stats = count([["ms"]] * 3, sources=["b", "a", "b"])
    assert stats.figures()["top_sources"] == [["b", 2], ["a", 1]]
    assert stats.figures()["sources"] == 2


GOOD = [["ms", "en", "ms"], ["en", "en"], ["ms", "ms"]]


@pytest.mark.parametrize(
    ("lines", "read", "expected"),
    [
        (GOOD, 3, []),
        (GOOD * 2, 100, ["6 of 100 lines (6.0 %; expected at least 10.0 %)"]),
        (
            [["ms", "en"]] + [["ms"]] * 6 + [["en"]] * 3,
            10,
            ["switches language too little: 10.0 %"],
        ),
        ([["ms", "ms"]], 1, ["poor on code-switched", "100.0 % of the words that have a l"]),
        ([["ms", "en", *["other"] * 9]], 1, ["Only 18.2 % of the words"]),
        ([], 3, ["left 0 of 3 lines"]),
        ([], 0, ["no line of text"]),
    ],
)
def test_warnings_name_what_is_wrong(lines, read, expected) -> None:
    found = count(lines).warnings(count([["ms", "en"]] * read))
    assert len(found) == len(expected)
    for warning, part in zip(found, expected, strict=True):
        assert part in warning


def test_the_table_has_a_column_for_each_corpus() -> None:
    before = count(GOOD, sources=["a|b", "c", "c"])
    text = table({"before": before.figures(), "after": count(GOOD[:1], tokens=None).figures()})
    rows = dict(line[2:].split(" | ", 1) for line in text.splitlines()[2:])
    assert rows["lines"] == "3 | 1 |"
    assert rows["Whisper tokens"] == "17 | - |"
    assert rows["lines that switch"] == "33.3 % | 100.0 % |"
    assert rows["top sources"] == "c 2, a\\|b 1 | - |"
    assert "| corpus |" in before.describe()


def test_pictures_show_both_corpora(tmp_path, monkeypatch) -> None:
    from matplotlib.figure import Figure

    from espnet_plugin.text import stats_plots

    monkeypatch.setitem(stats_plots.STYLE, "savefig.dpi", 20)
    before, after = count(GOOD, sources=["$a", "b", "b$"]), count(GOOD[:1], sources=["b"])
    paths = stats_plots.plot(before, after, tmp_path / "new")
    assert [path.name for path in paths] == ["text_switching.png", "text_content.png"]
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in paths)
    axis = Figure().subplots()
    stats_plots._cmi(axis, {"before": before, "after": after})
    heights = [[bar.get_height() for bar in bars] for bars in axis.containers]
    assert heights[0][0] == pytest.approx(200 / 3)
    assert heights[0][7] == pytest.approx(100 / 3)  # 33.3 lies in the bin up to 35
    assert heights[1][7] == 100


def test_a_block_is_counted_quickly() -> None:
    rng = np.random.default_rng(0)
    n_words = rng.integers(0, 28, 20_000)
    codes = rng.integers(0, 8, n_words.sum()).astype(np.uint8)
    langs, sources = ["cs"] * len(n_words), ["a", "b"] * (len(n_words) // 2)
    start = time.process_time()
    TextStats().add_block(codes, n_words, n_words, langs, sources)
    assert time.process_time() - start < len(n_words) * 10e-6  # 10 us a line; 1 is usual
