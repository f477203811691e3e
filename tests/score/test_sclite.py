"""Finding and running sclite, and reading its report."""

from pathlib import Path

import pytest

from espnet_plugin.score import sclite
from espnet_plugin.score.sclite import find_sclite, parse_report, run_sclite, trn_ids
from tests.score.conftest import needs_sclite


def test_missing_sclite_says_how_to_install_it(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("SCLITE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sclite, "OFF_PATH", (str(tmp_path),))
    with pytest.raises(FileNotFoundError, match=r"apt-get install sctk.*brew install sctk"):
        find_sclite()


def test_named_sclite(monkeypatch, tmp_path) -> None:
    program = tmp_path / "my sclite"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("SCLITE", str(program))
    assert find_sclite() == str(program)
    monkeypatch.setenv("SCLITE", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="no such program"):
        find_sclite()


@needs_sclite
def test_found_off_the_path(monkeypatch, tmp_path) -> None:
    home = str(Path(find_sclite()).parent)
    monkeypatch.delenv("SCLITE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sclite, "OFF_PATH", (home,))
    assert find_sclite() == str(Path(home) / "sclite")


def test_trn_ids() -> None:
    given = ["spk-1", "a(b)-1", "SPK-1", "a b", "a_b", "\u6211"]
    ids = trn_ids(given)
    assert ids == ["spk-1", "a_b_-1", "SPK-1_2", "a_b", "a_b_2", "_"]
    assert len({name.lower() for name in ids}) == len(given)


@needs_sclite
def test_odd_ids_and_words(tmp_path) -> None:
    words = ["50%", "$21", "it's", "3.5", "-5", "£5", "我", "café", "g.l.d", "<space>"]
    refs = {"s-1": words, "S-1": ["x"], "q(1)-2": ["y"], "q[1]-2": ["z"], "s-3": [], "s-4": ["a"]}
    hyps = {**refs, "s-3": ["extra"], "s-4": []}
    counts = run_sclite(refs, hyps, tmp_path / "a b")
    assert (counts.n_utt, counts.cor, counts.sub, counts.dele, counts.ins) == (6, 13, 0, 1, 1)
    assert counts.rate == pytest.approx(100 * 2 / 14)
    assert (tmp_path / "a b" / "ref.trn").read_text("utf-8").splitlines()[1:] == [
        "x (S-1_2)",
        "y (q_1_-2)",
        "z (q_1_-2_2)",
        "(s-3)",
        "a (s-4)",
    ]


@needs_sclite
def test_case_counts_for_nothing_else(tmp_path) -> None:
    # sclite folds ASCII case; letters beyond ASCII are left alone
    counts = run_sclite({"s-1": ["\u00e9", "a"]}, {"s-1": ["\u00c9", "A"]}, tmp_path)
    assert (counts.cor, counts.sub) == (1, 1)


@needs_sclite
def test_large_counts_keep_their_columns(tmp_path) -> None:
    refs = {f"s-{i:05d}": ["w"] * 20 for i in range(6000)}
    hyps = {utt: words[:10] for utt, words in refs.items()}
    counts = run_sclite(refs, hyps, tmp_path)
    assert (counts.n_utt, counts.n_ref, counts.dele) == (6000, 120_000, 60_000)


def test_different_utterances(tmp_path) -> None:
    with pytest.raises(ValueError, match="different utterances"):
        run_sclite({"a": ["x"]}, {"b": ["x"]}, tmp_path)


@needs_sclite
def test_failure_of_sclite_is_shown(tmp_path, monkeypatch) -> None:
    program = tmp_path / "sclite"
    program.write_text("#!/bin/sh\necho broken pipe >&2; exit 3\n")
    program.chmod(0o755)
    monkeypatch.setenv("SCLITE", str(program))
    with pytest.raises(ValueError, match=r"sclite failed \(3\): broken pipe"):
        run_sclite({"a": ["x"]}, {"a": ["x"]}, tmp_path / "out")


REPORT = """
        | Sum  |    2      7 |    5      1      1      2      4      2 |
id: (a-1)
Scores: (#C #S #D #I) 3 1 0 1
id: (a-2)
Scores: (#C #S #D #I) 2 0 1 1
"""


def test_parse_report() -> None:
    counts = parse_report(REPORT)
    assert (counts.n_utt, counts.n_ref, counts.errors) == (2, 7, 4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3 1 0 1", "3 1 0 2", "add up to"),
        ("2      7", "2      8", "add up to"),
        ("| Sum", "| Summe", "no line"),
    ],
)
def test_reports_that_disagree_with_themselves(old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_report(REPORT.replace(old, new), "exp/result.txt")
