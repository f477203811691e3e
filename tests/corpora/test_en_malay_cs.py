import pytest

from espnet_plugin.corpora.en_malay_cs import CORPUS
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table


def test_official_splits_share_nothing(tmp_path):
    report = prepared(CORPUS, public_sets.en_malay_cs(tmp_path / "root"), tmp_path)
    assert sets(report) == {"en_malay_cs_train": 4, "en_malay_cs_valid": 1, "en_malay_cs_test": 2}
    assert report.skipped == {
        "unusable audio": 1,
        "sentence of a test set": 1,
        "speaker of a test set": 1,
        "id given twice": 1,
    }
    folder = tmp_path / "en_malay_cs_test"
    assert table(folder / "utt2lang") == {"en_malay_cs_5001-t1": "cs", "en_malay_cs_5001-t2": "cs"}
    assert not (folder / "utt2tags").exists()  # nobody knows which words are Malay
    assert table(tmp_path / "en_malay_cs_train/utt2spk")["en_malay_cs_2001-u2"] == (
        "en_malay_cs_2001"
    )


def test_tags_that_are_still_there(tmp_path):
    prepared(CORPUS, public_sets.en_malay_cs(tmp_path / "root", tagged=True), tmp_path)
    folder = tmp_path / "en_malay_cs_test"
    assert table(folder / "text")["en_malay_cs_5001-t2"] == "I suka it"
    assert table(folder / "utt2tags")["en_malay_cs_5001-t2"] == "en ms en"


def test_a_missing_shard(tmp_path):
    root = public_sets.en_malay_cs(tmp_path / "root")
    (root / "data/train-00001-of-00002.parquet").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of 2 .*train-00001-of-00002\.parquet; downl"):
        prepared(CORPUS, root, tmp_path)


def test_a_truncated_shard(tmp_path):
    root = public_sets.en_malay_cs(tmp_path / "root")
    path = root / "data/test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"test-00000-of-00001\.parquet: truncated or damaged"):
        prepared(CORPUS, root, tmp_path)
