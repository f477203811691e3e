import shutil

import pytest

from espnet_plugin.corpora.common_voice import CORPUS
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return public_sets.common_voice(tmp_path_factory.mktemp("cv"))


def test_official_splits(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {f"common_voice_{s}": n for s, n in
                            (("train", 2), ("dev", 1), ("test", 1))}  # fmt: skip
    assert report.skipped == {"missing audio": 1, "no transcript": 1}
    texts = table(tmp_path / "common_voice_train/text")
    assert texts[f"common_voice_{'aa' * 12}-common_voice_ms_1"] == 'Dia kata "ya".'


def test_all_validated_clips_but_those_of_held_out_speakers_and_sentences(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path, train="validated")
    assert sets(report)["common_voice_train"] == 3  # and the second reading of a sentence
    assert report.skipped["speaker of a test set"] == 2
    assert report.skipped["sentence of a test set"] == 1
    assert report.shared == {"speakers": 0, "sentences": 0}


def test_the_root_may_be_the_language(root, tmp_path):
    report = prepared(CORPUS, root / "cv-corpus-23.0-2025-09-05/ms", tmp_path)
    assert sets(report)["common_voice_train"] == 2


def test_roots_that_cannot_be_used(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"COMMON_VOICE=[\s\S]*clips/\*\.mp3"):
        prepared(CORPUS, tmp_path, tmp_path / "out")
    (tmp_path / "cv-corpus-23.0-ms.tar.gz").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"unpack the archive first: tar -xf cv-corpus-23"):
        prepared(CORPUS, tmp_path, tmp_path / "out")
    for version in "12":
        shutil.copytree(root / "cv-corpus-23.0-2025-09-05", tmp_path / f"cv-{version}")
    with pytest.raises(ValueError, match=r"several versions are there: .*cv-1/ms .*cv-2/ms"):
        prepared(CORPUS, tmp_path, tmp_path / "out")
    (tmp_path / "cv-1/ms/dev.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"cv-1/ms/dev\.tsv: no such table"):
        prepared(CORPUS, tmp_path / "cv-1/ms", tmp_path / "out")
