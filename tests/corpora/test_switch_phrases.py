import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.bin import synth_data
from espnet_plugin.corpora.markup import read_sentences
from espnet_plugin.corpora.switch_patterns import (
    SIZES,
    Patterns,
    Shape,
    measure,
    read_patterns,
    shape_of,
    tilt,
)
from espnet_plugin.corpora.switch_text_align import learn
from espnet_plugin.corpora.switch_text_lexicon import Lexicon, read_lexicon, words_of
from espnet_plugin.corpora.switch_text_link import Aligner
from espnet_plugin.corpora.switch_text_phrases import fits, linked_phrases, listed_phrases
from espnet_plugin.corpora.switch_text_plan import targets
from espnet_plugin.corpora.switch_text_rules import Rules, read_rules
from espnet_plugin.score import cmi
from tests.fixtures.switch_pairs import CODES, sentence_pairs, side, tagger

RULES = read_rules(None, CODES)
DEMO = Path(__file__).parents[2] / "local" / "demo"


# ---- how people switch


@pytest.mark.parametrize(
    ("codes", "expected"),
    [  # 0 and 1 are the pair's languages, 2 and 3 other languages, 4 and more none
        ([0, 0, 0], None),
        ([5, 4], None),
        ([0, 1, 2], None),
        ([0, 0, 5, 1, 1, 0], Shape(8, 2, 0, (2,), (1,), (), (1, 1), 40.0)),
        ([1, 0, 0, 0], Shape(5, 1, 0, (1,), (0,), (), (0, 1), 25.0)),
        ([1, 1, 1, 0], Shape(5, 1, 1, (1,), (2,), (), (0, 1), 25.0)),
        ([1, 0, 6, 1], Shape(7, 2, 1, (1,), (1,), (), (1, 1), 100 / 3)),
        ([0, 1, 0, 0, 1, 0, 0], Shape(6, 4, 0, (1, 1), (1, 1), (2,), (2, 2), 200 / 7)),
        ([0, 1], Shape(10, 1, 0, (1,), (2,), (), (1, 0), 50.0)),
    ],
)
def test_shapes(codes: list[int], expected: Shape | None) -> None:
    shape = shape_of(codes, 4)
    assert shape == expected
    if shape is not None:
        names = tagger().tags
        assert shape.index == pytest.approx(cmi([names[code] for code in codes]))


def test_patterns_are_measured_kept_and_read(tmp_path: Path) -> None:
    real = tmp_path / "real.jsonl"
    lines = ["Saya nak pergi shopping mall esok.", "Dia belum makan nasi lagi.", "I love you."]
    lines += ["This morning saya jumpa cikgu sekolah."]
    real.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    output = tmp_path / "patterns.json"
    synth_data.main(["patterns", "--input", str(real), "--output", str(output)])
    patterns = read_patterns(output, CODES)
    assert (patterns.lines, patterns.switching) == (4, 2)
    assert patterns.counts["embedded"].tolist()[:4] == [0, 0, 2, 0]
    assert patterns.counts["place"].tolist() == [1, 1, 0]
    assert patterns.figures()["matrix"] == {"ms": 1.0, "en": 0.0}
    assert Patterns.from_json(patterns.to_json(), "x").to_json() == patterns.to_json()
    with pytest.raises(ValueError, match="patterns of ms en, not es en"):
        read_patterns(output, ("es", "en"))
    with pytest.raises(FileNotFoundError, match="no switch patterns ship for es-en"):
        read_patterns(None, ("es", "en"))
    for broken in ({"version": 9}, [], patterns.to_json() | {"counts": {}}):
        output.write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=r"patterns\.json: (no|damaged) switch patterns"):
            read_patterns(output, CODES)
    real.write_text('{"text": "I love you."}\n')
    with pytest.raises(ValueError, match="none of 1 lines switches between ms and en"):
        synth_data.main(["patterns", "--input", str(real), "--output", str(output)])


def test_the_default_is_what_the_hand_written_lines_show() -> None:
    names = [f"{part}/{kind}.tsv" for part in ("seen", "unseen") for kind in ("text",)]
    texts = [s.text for name in [*names, "seen/paired.tsv"] for s in read_sentences(DEMO / name)]
    measured, shipped = measure([texts], tagger()), read_patterns(None, CODES)
    assert shipped.lines == measured.lines
    assert shipped.mean_cmi == pytest.approx(measured.mean_cmi, abs=1)  # taggers change
    for name in SIZES:
        assert np.abs(shipped.shares(name) - measured.shares(name)).max() < 0.03


def test_a_distribution_is_bent_to_a_mean() -> None:
    shares, values = np.array([0.0, 0.5, 0.3, 0.2]), np.arange(4.0)
    for mean in (1.2, 1.7, 2.5):
        bent = tilt(shares, values, mean)
        assert bent @ values == pytest.approx(mean)
        assert bent.sum() == pytest.approx(1)
        assert bent[0] == 0
    assert tilt(shares, values, 1.7) == pytest.approx(shares)
    with pytest.raises(ValueError, match="a mean of 3 is not between 1 and 3"):
        tilt(shares, values, 3)
    with pytest.raises(ValueError, match="--cmi 90: a mean of 90 is not between"):
        targets(read_patterns(None, CODES), 90)


# ---- which words and phrases belong together


@pytest.fixture(scope="module")
def learnt() -> Aligner:
    pairs = [(words_of(a), words_of(b)) for a, b in sentence_pairs(300)]
    return Aligner(learn(pairs), None)


def test_statistics_link_words(learnt: Aligner) -> None:
    one = side("Jiran kami membasuh kereta merah di pasar minggu lepas.", 0)
    two = side("Our neighbour washed the red car at the market last week.", 1)
    links, _ = learnt.links(one, two)
    named = {(one.words[a], two.words[b]) for a, b in links}
    assert named >= {("membasuh", "washed"), ("kereta", "car"), ("merah", "red")}
    assert named >= {("pasar", "market"), ("di", "at")}
    assert fits(one, two, links, RULES)
    other = side("Nobody has ever seen such a beautiful elephant.", 1)
    assert not fits(one, other, learnt.links(one, other)[0], RULES)


def exchangeable(first: str, second: str, lexicon: list[tuple[str, str]], matrix: int = 0):
    """Phrases that can be exchanged, and why others cannot."""
    one, two = side(first, 0), side(second, 1)
    links, same = Aligner(None, Lexicon(lexicon)).links(one, two)
    refused: Counter[str] = Counter()
    if matrix:
        links, same = ({(b, a) for a, b in pairs} for pairs in (links, same))
        one, two = two, one
    found = linked_phrases(one, two, links, same, RULES, CODES, refused)
    return {(" ".join(one.words[p.first : p.last + 1]), p.text) for p in found}, set(refused)


FOOD = [("semalam", "yesterday"), ("saya", "I"), ("beli", "bought"), ("nasi goreng", "fried rice")]
FOOD += [("di", "at"), ("pasar", "market"), ("kereta", "car"), ("merah", "red"), ("dia", "he")]


def test_phrases_are_exchanged_as_a_whole() -> None:
    found, refused = exchangeable(
        "Semalam saya beli nasi goreng di pasar.",
        "Yesterday I bought fried rice at the market.",
        FOOD,
    )
    assert found >= {
        ("nasi goreng", "fried rice"),
        ("pasar", "the market"),
        ("semalam", "Yesterday"),
    }
    assert ("di pasar", "at the market") in found
    assert ("saya beli nasi goreng", "I bought fried rice") in found
    assert not {text for _, text in found} & {"fried", "rice", "at", "I", "bought fried", "at the"}
    assert refused >= {"function word alone", "ends before its phrase ends"}


def test_no_switch_where_the_order_differs() -> None:
    pair = "Dia beli kereta merah.", "He bought the red car."
    found, refused = exchangeable(*pair, FOOD)
    assert ("kereta merah", "the red car") in found
    assert not {text for _, text in found} & {"red", "car", "the red", "the car"}
    assert "word order differs" in refused
    found, _ = exchangeable(*pair, FOOD, matrix=1)
    assert ("the red car", "kereta merah") in found  # the article goes with its noun


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("Jumpa Ahmad esok.", "Meet Ahmad tomorrow.", "no word of the other language"),
        ("Kucing milik dia.", "Cats of his.", "function word alone"),
        ("Rumah besar.", "Big big house.", "word order differs"),
        ("Rumah saja.", "Home only too.", "function word alone"),
        ("Makan dalam hujan.", "Eat cats in rain.", "ends before its phrase ends"),
    ],
)
def test_implausible_phrases(first: str, second: str, reason: str) -> None:
    lexicon = [("ahmad", "ahmad"), ("kucing", "cats"), ("milik", "of"), ("dia", "his")]
    lexicon += [("rumah", "house"), ("rumah", "home"), ("besar", "big"), ("saja", "too")]
    lexicon += [("makan", "eat cats"), ("dalam", "in"), ("hujan", "rain")]
    found, refused = exchangeable(first, second, lexicon)
    assert reason in refused, (found, refused)


WORDS = [("kata", "said"), ("semalam", "yesterday"), ("ahmad", "Ahmad"), ("faizal", "Faizal")]


def test_numbers_names_and_punctuation_are_not_torn() -> None:
    found, refused = exchangeable(
        "Bayar dua puluh lima ringgit, kata Ahmad Faizal semalam.",
        "Pay twenty five ringgit, said Ahmad Faizal yesterday.",
        [("bayar", "pay"), ("dua puluh", "twenty"), ("lima", "five"), *WORDS],
    )
    assert all("," not in one + two for one, two in found)
    assert not any(two.endswith("Ahmad") or two.startswith("Faizal") for _, two in found)
    assert ("semalam", "yesterday") in found
    assert "no word of the other language" in refused


def test_phrases_of_a_lexicon_alone() -> None:
    lexicon = Lexicon([("rumah", "house"), ("rumah sakit", "hospital"), ("kereta", "car")])
    refused: Counter[str] = Counter()
    args = RULES, CODES, refused
    found = listed_phrases(side("Dia di rumah sakit, kereta rosak.", 0), lexicon, *args)
    assert [p.text for p in found] == ["hospital", "car"]  # the longest, not "house"
    found = listed_phrases(side("The car is here.", 1), lexicon, *args)
    assert [(p.first, p.last, p.text) for p in found] == [(0, 1, "kereta")]  # without its article
    keeping = Lexicon([("rumah", "house")], keep=[("rumah sakit", "-")])
    assert not listed_phrases(side("Rumah sakit itu jauh.", 0), keeping, *args)
    lexicon = Lexicon([("buku rumah", "x")])
    assert not listed_phrases(side("Buku, rumah.", 0), lexicon, *args)


def test_meaning_said_twice() -> None:
    one, two = side("Doktor itu datang.", 0), side("The doctor came.", 1)
    links = {(1, 1), (2, 2)}
    refused: Counter[str] = Counter()
    args = RULES, CODES, refused
    assert any(p.text == "The doctor" for p in linked_phrases(one, two, links, links, *args))
    found = linked_phrases(one, two, links, links | {(0, 1)}, *args)
    assert not any(p.text == "The doctor" for p in found)
    assert refused["meaning said twice"]


def test_lexicon_files(tmp_path: Path) -> None:
    path = tmp_path / "lexicon.tsv"
    path.write_text("# comment\n\nkereta api\ttrain\nrumah\thouse\nrumah\thouse\n")
    assert read_lexicon([path], CODES).pairs == [("kereta api", "train"), ("rumah", "house")]
    phrases = tmp_path / "phrases.tsv"
    phrases.write_text("x\tbuku\tbook\nkeep\tmak cik\t-\n")
    both = read_lexicon([path, phrases], CODES)
    assert (len(both.pairs), both.keep) == (3, [("mak cik", "-")])
    for bad, message in (
        ("rumah\n", r"lexicon.tsv:1: 'ms<TAB>en'.* found 1 columns"),
        ("a\tb\nx\ta\tb\n", r"lexicon.tsv:2: .* found 3 columns"),
        ("rumah\t-\n", "no word in '-'"),
        ("# nothing\n", "no pair of phrases"),
    ):
        path.write_text(bad)
        with pytest.raises(ValueError, match=message):
            read_lexicon([path], CODES)


def test_rules_files(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("ms: {openers: [di ke]}\nen: {determiners: [the]}\n")
    first, second = read_rules(path, CODES)
    assert first == Rules(openers=frozenset({"di", "ke"}))
    assert second.small == {"the"}
    for bad, message in (
        ("ms: {}\n", "the languages ms en are needed, found ms"),
        ("ms: {opener: [x]}\nen: {}\n", r"unknown list 'opener' \(did you mean openers\?\)"),
        ("ms: {openers: 3}\nen: {}\n", "openers: a list of words is needed, found 3"),
        ("ms: [\n", "not YAML"),
    ):
        path.write_text(bad)
        with pytest.raises(ValueError, match=message):
            read_rules(path, CODES)
    with pytest.raises(FileNotFoundError, match="no rules of switching ship for es-en"):
        read_rules(None, ("es", "en"))
