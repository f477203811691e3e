import pytest

from espnet_plugin.corpora.librispeech import CORPUS
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table


@pytest.mark.parametrize("archived", [False, True])
def test_folders_and_archives_give_the_same(tmp_path, archived):
    root = public_sets.librispeech(tmp_path / "root", archived)
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {
        "librispeech_dev_clean": 3,
        "librispeech_test_clean": 5,
        "librispeech_train_clean_100": 6,
    }
    assert report.skipped == {"audio without transcript": 1, "missing audio": 1}
    texts = table(tmp_path / "librispeech_test_clean/text")
    assert texts["librispeech_2-102-0001"] == "sentence 1 of reader 2"
    assert table(tmp_path / "librispeech_test_clean/utt2spk")["librispeech_2-102-0001"] == (
        "librispeech_2"
    )


def test_options(tmp_path):
    root = public_sets.librispeech(tmp_path / "root") / "LibriSpeech"
    report = prepared(CORPUS, root, tmp_path, subsets="dev-clean", case="upper")
    assert sets(report) == {"librispeech_dev_clean": 3}
    texts = table(tmp_path / "librispeech_dev_clean/text")
    assert texts["librispeech_3-103-0000"] == "SENTENCE 0 OF READER 3"


def test_a_cut_archive_and_a_wrong_root(tmp_path):
    root = public_sets.librispeech(tmp_path / "root", archived=True)
    path = root / "dev-clean.tar.gz"
    path.write_bytes(path.read_bytes()[:-50])
    report = prepared(CORPUS, root, tmp_path)
    assert report.skipped["damaged archive"] == 1
    assert "librispeech_dev_clean" not in report.sets
    with pytest.raises(FileNotFoundError, match=r"LIBRISPEECH=[\s\S]*test-clean"):
        prepared(CORPUS, tmp_path / "librispeech_test_clean", tmp_path / "x")
