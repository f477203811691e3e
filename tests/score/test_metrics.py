"""The metrics of one system on one set."""

import numpy as np
import pytest

from espnet_plugin.score.metrics import score_system
from espnet_plugin.score.testset import make_test_set, read_test_set
from tests.score.conftest import needs_sclite
from tests.score.experiment import write_table

REFS = {
    "s-1": "Saya nak book hotel.",
    "s-2": "Kita makan, okay?",
    "s-3": "Makan nasi lemak esok",
}
HYPS = {"s-1": "saya nak book a hotel", "s-2": "Kita makan, okay?", "s-3": "makan nasi"}
TAGS = {"s-1": "ms ms en en", "s-2": "ms ms en", "s-3": "ms ms ms ms"}


@needs_sclite
def test_all_metrics(tmp_path) -> None:
    conditions = {"s-1": "clean", "s-2": "noise", "s-3": "noise"}
    test = make_test_set("test_cs", REFS, "cs", TAGS, conditions)
    scored = score_system(test, HYPS, tmp_path, "init", frozenset({"hotel", "lemak", "esok"}))
    result = scored.result
    assert scored.errors.tolist() == [1, 0, 2]
    assert scored.n_ref.tolist() == [4, 3, 4]
    assert result["wer"] == pytest.approx(100 * 3 / 11)
    assert (result["sub"], result["del"], result["ins"]) == (0, 2, 1)
    assert (result["n_ref"], result["n_utt"]) == (11, 3)
    # as written: Saya/saya, hotel./hotel, the inserted word; Makan/makan and two missing words
    assert result["wer_raw"] == pytest.approx(100 * 6 / 11)
    # characters and spaces: "a " inserted, " lemak esok" missing
    assert result["cer"] == pytest.approx(100 * (2 + 11) / (19 + 15 + 21))
    assert result["wer_text_only_words"] == pytest.approx(100 * 2 / 3)
    assert result["n_text_only_words"] == 3
    assert result["wer_by_language"] == {
        "en": {"wer": 0.0, "errors": 0, "n_ref": 3},
        "ms": {"wer": 25.0, "errors": 2, "n_ref": 8},
    }
    assert (result["pier"], result["n_pier"]) == (0.0, 4)
    assert result["wer_by_cond"]["noise"]["wer"] == pytest.approx(100 * 2 / 7)
    assert result["wer_by_cond"]["noise"]["n_utt"] == 2
    assert {name: group["n_utt"] for name, group in result["wer_by_cmi"].items()} == {
        "0": 1,
        "20-40": 1,
        "40-100": 1,
    }
    low, high = result["wer_ci95"]
    assert 0.0 <= low < result["wer"] < high <= 50.0
    for kind in ("score_wer", "score_cer"):
        assert {p.name for p in (tmp_path / kind).iterdir()} == {
            "ref.trn",
            "hyp.trn",
            "result.txt",
        }
    assert "saya nak book a hotel (s-1)" in (tmp_path / "score_wer/hyp.trn").read_text()


@needs_sclite
def test_parts_that_nothing_is_known_of_are_left_out(tmp_path) -> None:
    result = score_system(make_test_set("t", REFS, "cs"), HYPS, tmp_path, "init").result
    assert not {"wer_text_only_words", "pier", "wer_by_language", "wer_by_cond"} & result.keys()


@needs_sclite
def test_nothing_recognised(tmp_path) -> None:
    test = make_test_set("t", REFS, "cs")
    scored = score_system(test, dict.fromkeys(REFS, ""), tmp_path, "init")
    assert scored.result["wer"] == 100.0
    assert scored.result["wer_ci95"] == [100.0, 100.0]
    assert scored.result["del"] == 11


@needs_sclite
def test_english_set_uses_english_rules(tmp_path) -> None:
    test = make_test_set("t", {"s-1": "It's the colour."}, "en")
    result = score_system(test, {"s-1": "it is the color"}, tmp_path, "init").result
    assert (result["wer"], result["n_ref"]) == (0.0, 4)
    assert result["wer_raw"] == 100.0


@needs_sclite
def test_markup_in_references_gives_tags(tmp_path) -> None:
    test = make_test_set("t", {"s-1": "so <malay>makan</malay> [lah]"}, "cs")
    result = score_system(test, {"s-1": "so makan lah"}, tmp_path, "init").result
    assert (result["wer"], result["n_pier"]) == (0.0, 2)
    assert set(result["wer_by_language"]) == {"en", "ms", "shared"}


def test_missing_and_surplus_hypotheses_are_named(tmp_path) -> None:
    test = make_test_set("test_cs", REFS, "cs")
    with pytest.raises(ValueError, match="test_cs: no hypothesis for s-2, s-3"):
        score_system(test, {"s-1": "saya"}, tmp_path, "init")
    with pytest.raises(ValueError, match="hypotheses without a reference: s-9"):
        score_system(test, {**HYPS, "s-9": "apa"}, tmp_path, "init")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"langs": {"s-1": "cs"}}, "utt2lang lacks s-2, s-3"),
        ({"tags": {**TAGS, "s-2": "ms ms"}}, "s-2 has 2 tags for 3 normalised words: kita makan"),
        ({"tags": {**TAGS, "s-2": "ms ms eng"}}, "utt2tags: s-2: tag 'eng'"),
        ({"tags": {"s-1": "ms ms en en"}}, "utt2tags lacks s-2, s-3"),
        ({"conditions": {"s-1": "clean"}}, "utt2cond lacks s-2, s-3"),
        ({"langs": "malay"}, "language is 'malay'"),
        ({"raw": {"s-1": "...", "s-2": "(uh)", "s-3": "!"}}, "without a single word"),
    ],
)
def test_sets_that_do_not_fit_together(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_test_set("test_cs", **{"raw": REFS, "langs": "cs", **changes})


def test_tags_of_some_utterances_only(capsys) -> None:
    test = make_test_set("test_cs", REFS, "cs", {**TAGS, "s-2": ""})
    assert test.tags is None
    assert "test_cs: utt2tags says nothing of s-2; scored without tags" in capsys.readouterr().err


def test_read_test_set(tmp_path) -> None:
    directory = tmp_path / "test_cs"
    write_table(directory / "text", REFS)
    with pytest.raises(FileNotFoundError, match="utt2lang"):
        read_test_set(directory)
    write_table(directory / "utt2lang", dict.fromkeys(REFS, "cs"))
    assert read_test_set(directory).tags is None
    write_table(directory / "utt2tags", TAGS)
    test = read_test_set(directory)
    assert test.name == "test_cs"
    assert test.tags["s-2"] == ["ms", "ms", "en"]
    assert np.sum([len(words) for words in test.words.values()]) == 11
