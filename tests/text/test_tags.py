"""Word-level language tags."""

import itertools
import pickle
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.score.switching import INDEPENDENT, LANGUAGES, cmi
from espnet_plugin.text.tags import Tagger
from espnet_plugin.text.tags.context import LONGEST, posterior
from espnet_plugin.text.tags.identifier import Identifier
from espnet_plugin.text.tags.pair import available, load_pair, parse_pair
from tests.text.tag_accuracy import GOLD, measure, read_gold


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load("ms-en")


# Measured: 99.6 % of 2 332 words on dev, 98.6 % of 2 511 on test, which nothing was tuned on.
# That half is for the final figure: the default tests, which every change sees, do not run it.
FINAL = pytest.param("test", 0.966, marks=pytest.mark.slow)


@pytest.mark.parametrize(("half", "floor"), [("dev", 0.986), FINAL])
def test_accuracy_on_gold_does_not_fall(tagger: Tagger, half: str, floor: float) -> None:
    result = measure(tagger, read_gold(GOLD / f"{half}.tsv", tagger.tags))
    assert result.pairs.total() > 2000
    assert result.accuracy >= floor


def test_tags_are_those_of_scoring(tagger: Tagger) -> None:
    assert tagger.tags == (*LANGUAGES, *INDEPENDENT)
    assert cmi(tagger.tag(tagger.words("saya nak follow up dengan client"))) == 50.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Weh, jom makan!", ["Weh", "jom", "makan"]),
        ("(kanak-kanak) di-upload... \u201cwalk-in\u201d", ["kanak-kanak", "di-upload", "walk-in"]),
        ("don't don\u2019t boys'", ["don't", "don\u2019t", "boys"]),
        ("RM3.50, 1,200 8:30 3-0 50% 5G.", ["RM3.50", "1,200", "8:30", "3-0", "50", "5G"]),
        ("kawan2 U.S.A R&D makan.lepas", ["kawan2", "U.S.A", "R&D", "makan", "lepas"]),
        ("我吃nasi了。நன்றி", ["我", "吃", "nasi", "了", "நன்றி"]),
        ("\u2014 ... \U0001f600 -", []),
        ("", []),
    ],
)
def test_words(tagger: Tagger, text: str, words: list[str]) -> None:
    assert tagger.words(text) == words
    assert tagger.tag_block([text])[1].tolist() == [len(words)]


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        # unrelated words spelt alike: the context decides
        ("saya minum air sejuk", "ms ms ms ms"),
        ("the air quality is bad", "en en en en en"),
        ("dia main bola", "ms ms ms"),
        ("the main problem is", "en en en en"),
        # affixes make a word Malay, whatever the stem
        ("diperkasakan ketidaktentuannya mengkhuatirkan", "ms ms ms"),
        ("dicancelkan laptopnya di-download mahal2", "ms ms ms ms"),
        # no list has these
        ("flabbergastedness overpowerful", "en en"),
        ("kebersimpulan menjengkeklah", "ms ms"),
        # elongated
        ("besttttt sangaaat", "en ms"),
        # names
        ("jumpa dengan Zubaidahwati di Kampung Dagomesa", "ms ms name ms ms name"),
        ("Encik Farouk bin Daud hadir", "ms name name name ms"),
        ("abang zulhelmi dah sampai", "ms name ms ms"),
        ("siti pergi ke kl", "name ms ms name"),
        ("TOLONG JANGAN BISING", "ms ms ms"),
        # shared, numbers, sounds, other scripts
        ("video dari hospital", "shared ms shared"),
        ("RM50 kali ke-3 pukul 8.30", "num ms num ms num"),
        ("hahaha hmm", "other other"),
        ("我 நன்றி привет", "zh ta other"),
        ("gong xi fa cai everyone", "zh zh zh zh en"),
        ("x boleh la", "ms ms ms"),
    ],
)
def test_tag(tagger: Tagger, text: str, tags: str) -> None:
    assert " ".join(tagger.tag(text.split())) == tags


def test_tag_refuses_what_is_not_a_word(tagger: Tagger) -> None:
    with pytest.raises(ValueError, match="not one word: 'dua kata'"):
        tagger.tag(["satu", "dua kata"])
    assert tagger.tag([]) == []


def test_full_stop_starts_a_sentence(tagger: Tagger) -> None:
    codes, n_words = tagger.tag_block(["dia dah tidur. Wakakala pula", "dia dan Wakakala pula"])
    tags = [tagger.tags[code] for code in codes]
    assert tags[3] != "name"
    assert tags[n_words[0] + 2] == "name"


LINES = [
    "weh kau dekat mana sekarang",
    "",
    "The meeting was postponed. Azlan tak datang!",
    "我 tak tahu lah",
    "...",
    "harga RM2.50 je",
]


def test_block_is_its_lines(tagger: Tagger) -> None:
    codes, n_words = tagger.tag_block(LINES)
    assert codes.dtype == np.uint8
    assert n_words.dtype == np.int32
    assert n_words.tolist() == [len(tagger.words(line)) for line in LINES]
    each = [tagger.tag_block([line])[0] for line in LINES]
    assert codes.tolist() == np.concatenate(each).tolist()
    assert [len(part) for part in tagger.tag_block([])] == [0, 0]


def test_what_was_tagged_before_changes_nothing(tagger: Tagger) -> None:
    forgetful = Tagger(tagger.pair, cached=3)
    for line in LINES * 2:
        assert forgetful.tag_block([line])[0].tolist() == tagger.tag_block([line])[0].tolist()
        assert forgetful._table.size <= 10
    copy = pickle.loads(pickle.dumps(forgetful))
    assert copy.fingerprint == tagger.fingerprint
    assert copy.tag_block(LINES)[0].tolist() == tagger.tag_block(LINES)[0].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=4))
def test_any_text_has_tags(tagger: Tagger, texts: list[str]) -> None:
    codes, n_words = tagger.tag_block(texts)
    assert n_words.sum() == len(codes)
    assert n_words.tolist() == [len(tagger.words(text)) for text in texts]
    assert (codes < len(tagger.tags)).all()


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=6), st.floats(0.01, 0.49))
def test_posterior_is_that_of_a_markov_chain(odds: list[float], switch: float) -> None:
    mass = np.zeros((len(odds), 2))
    for states in itertools.product((0, 1), repeat=len(odds)):
        weight = np.exp(sum(o / 2 if s == 0 else -o / 2 for o, s in zip(odds, states, strict=True)))
        for a, b in itertools.pairwise(states):
            weight *= switch if a != b else 1 - switch
        for at, state in enumerate(states):
            mass[at, state] += weight
    expected = np.log(mass[:, 0] / mass[:, 1])
    found = posterior(np.array([9.0, *odds, -9.0], np.float32), np.array([1, len(odds), 1]), switch)
    np.testing.assert_allclose(found[1:-1], expected, rtol=2e-4, atol=2e-4)
    assert found[[0, -1]].tolist() == [9.0, -9.0]


def test_long_lines_are_cut() -> None:
    odds = np.zeros(2 * LONGEST + 3, np.float32)
    odds[LONGEST - 1] = 5.0
    found = posterior(odds, np.array([0, len(odds), 0]))
    assert found[LONGEST - 2] > 0
    assert not found[LONGEST:].any()


def test_line_language(tagger: Tagger) -> None:
    lines = {
        "saya nak join meeting": "cs",
        "saya nak makan nasi goreng kampung satu dengan telur mata dan sambal order": "ms",
        "I think we should go": "en",
        "我们走": "zh",
        "saya pergi ke Google 50": "ms",
        "50 hahaha": "other",
        "": "other",
    }
    codes, n_words = tagger.tag_block(list(lines))
    assert tagger.line_languages(codes, n_words) == list(lines.values())
    assert tagger.line_language(codes[: n_words[0]]) == "cs"
    assert tagger.line_languages(codes[:0], n_words[:0]) == []


def test_another_pair_ships() -> None:
    assert available() == ["es-en", "ms-en"]
    tagger = Tagger.load("es-en")
    assert tagger.tags == ("es", "en", *INDEPENDENT)
    tags = tagger.tag(tagger.words("ayer fui al mall con mi sister y compramos shoes"))
    assert " ".join(tags) == "es es es en es es en es es en"


PAIR = {
    "languages": {
        "fr": {"frequencies": {"fr": 1.0}, "identifier": ["FRENCH"]},
        "en": {"frequencies": {"en": 1.0}, "lexicons": ["en"], "identifier": ["ENGLISH"]},
    },
    "words": {"other": "bof ouf"},
}


def test_a_pair_is_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "fr-en.yaml"
    path.write_text(yaml.safe_dump(PAIR, sort_keys=False))
    tagger = Tagger.load(path)
    assert tagger.languages == ("fr", "en")
    tags = tagger.tag(tagger.words("je suis allé au shopping because demain ouf"))
    assert " ".join(tags) == "fr fr fr fr en en fr other"
    path.write_text(yaml.safe_dump(PAIR | {"titles": ["monsieur"]}, sort_keys=False))
    assert Tagger.load(path).fingerprint != tagger.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"homograph": []}, "unknown key 'homograph' .did you mean homographs"),
        ({"languages": {"fr": {}}}, "languages are fr; there must be two"),
        ({"words": {"nmae": "a"}}, "tag 'nmae' .did you mean name.*allowed are fr en other"),
        ({"titles": ["mr", False]}, "titles: False is not a string; put it in quotes"),
        ({"titles": 3}, "titles: expected a list, found 3"),
        ({"patterns": {"other": ["ha("]}}, r"other: 'ha\('"),
        ({"scripts": {"zh": ["Hann"]}}, "zh: .*Hann"),
        ({"cognate_ratio": 3}, "cognate_ratio: expected a number from 0 to 1, found 3"),
        ({"words": []}, "words: expected a mapping"),
    ],
)
def test_wrong_configurations(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^f.yaml.*{message}"):
        parse_pair(PAIR | change, "f", "f.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequencies": {"frr": 1}}, "language fr: wordfreq has no list 'frr' .did you mean fr"),
        ({"lexicons": ["xx"]}, "language fr: simplemma has no dictionary 'xx'"),
        ({"identifier": ["FRENSH"]}, "lingua has no language 'FRENSH' .did you mean FRENCH"),
    ],
)
def test_missing_lexicons(change: dict[str, object], message: str) -> None:
    languages = {"fr": change, "en": {}}
    with pytest.raises(ValueError, match=message):
        Tagger(parse_pair({"languages": languages}, "f", "f.yaml"))


def test_a_megabyte_of_letters_is_not_looked_at_as_a_whole() -> None:
    identifier = Identifier(load_pair("ms-en"))
    seen: list[str] = []

    def values(word: str) -> list[object]:
        seen.append(word)
        return []

    identifier.__dict__["_detector"] = SimpleNamespace(compute_language_confidence_values=values)
    assert identifier.odds("kan" * 400_000) == 0
    assert 20 < len(seen[0]) < 200
    assert identifier.odds("besok") == 0 and seen[1] == "besok"


def test_missing_pair(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'ms-em' .did you mean ms-en.*es-en ms-en"):
        load_pair("ms-em")
    path = tmp_path / "bad.yaml"
    path.write_text("a: [")
    with pytest.raises(ValueError, match="bad.yaml: not YAML"):
        load_pair(path)


@pytest.mark.bench
def test_speed(tagger: Tagger) -> None:
    sentences = [" ".join(each.words) for each in read_gold(GOLD / "dev.tsv", tagger.tags)]
    lines = [f"{a} {b}"[:90] for a, b in itertools.product(sentences, sentences)][:40_000]
    words = tagger.tag_block(lines)[1].sum()  # warms the cache
    start = time.perf_counter()
    tagger.tag_block(lines)
    spent = 1e6 * (time.perf_counter() - start) / len(lines)
    print(f"{spent:.1f} us a line of {words / len(lines):.1f} words")
    assert spent < 30
