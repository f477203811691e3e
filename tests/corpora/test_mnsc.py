import pytest

from espnet_plugin.corpora.mnsc import CORPUS
from tests.fixtures import public_sets
from tests.fixtures.nsc import wav_bytes
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import cell, parquet


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return public_sets.mnsc(tmp_path_factory.mktemp("mnsc"))


def test_both_layouts_official_splits_and_shared_sentences(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {"mnsc_part1_train": 2, "mnsc_part1_test": 1, "mnsc_part4_train": 1}
    assert report.skipped == {"no words": 1, "sentence of a test set": 1, "missing audio": 1}
    assert table(tmp_path / "mnsc_part1_train/text") == {
        "mnsc_part1-train-00000-000000": "apple 0 Tan",
        "mnsc_part1-train-00000-000002": "apple 2 Tan",
    }
    folder = tmp_path / "mnsc_part4_train"
    assert list(table(folder / "text").values()) == ["jom makan ok lah"]  # two turns
    assert list(table(folder / "utt2tags").values()) == ["en ms en shared"]
    assert list(table(folder / "utt2lang").values()) == ["cs"]


def test_language_by_the_words_where_the_tags_are_gone(tmp_path):
    public_sets.mnsc(tmp_path / "root")
    rows = [{"context": cell(wav_bytes(0.5)), "answer": "<Speaker1>: I want to makan nasi lemak"}]
    parquet(tmp_path / "root/ASR-PART4-Train/0000.parquet", rows)
    prepared(CORPUS, tmp_path / "root", tmp_path, parts="4", language="words")
    assert list(table(tmp_path / "mnsc_part4_train/utt2lang").values()) == ["cs"]
    assert not (tmp_path / "mnsc_part4_train/utt2tags").exists()


def test_a_folder_with_other_tasks_only(tmp_path):
    parquet(tmp_path / "SQA-PART3-Test/0000.parquet", [{"other": "task"}])
    with pytest.raises(FileNotFoundError, match=r"MNSC=[\s\S]*ASR-PART1-Train"):
        prepared(CORPUS, tmp_path, tmp_path / "out")


def test_other_columns(tmp_path):
    parquet(tmp_path / "root/ASR-PART1-Train/0000.parquet", [{"context": "x", "answers": "y"}])
    with pytest.raises(ValueError, match=r"no column 'answer' \(did you mean answers\?\)"):
        prepared(CORPUS, tmp_path / "root", tmp_path)
