from dataclasses import replace

import pytest

from espnet_plugin.corpora.fleurs import CORPUS, ENGLISH, MALAY
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import tar_file


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return public_sets.fleurs(tmp_path_factory.mktemp("fleurs"))


@pytest.mark.parametrize("corpus", [MALAY, ENGLISH], ids=lambda corpus: corpus.name)
def test_archives_and_folders(root, tmp_path, corpus):
    report = prepared(corpus, root, tmp_path)
    name, lang = corpus.name, corpus.name[-2:]
    assert sets(report) == {f"{name}_train": 4, f"{name}_dev": 3, f"{name}_test": 4}
    assert report.skipped == {"missing audio": 1, "another number of columns": 1}
    place = corpus.options["language"].default
    assert table(tmp_path / f"{name}_dev/text")[f"{name}_10000"] == f'Ayat "dev" 0, {place}.'
    assert set(table(tmp_path / f"{name}_dev/utt2lang").values()) == {lang}
    assert report.unknown_speakers == 11


def test_parquet_of_another_language_by_an_alias(root, tmp_path):
    indonesian = replace(CORPUS, name="fleurs_id", variable="FLEURS_ID")
    report = prepared(indonesian, root, tmp_path, language="id_id", text="plain")
    assert sets(report) == {"fleurs_id_dev": 1, "fleurs_id_test": 1}
    assert table(tmp_path / "fleurs_id_test/text") == {"fleurs_id_1": "kalimat 1"}
    assert table(tmp_path / "fleurs_id_test/utt2lang") == {"fleurs_id_1": "id"}


def test_a_language_that_is_not_there(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'ms_mi' \(did you mean ms_my\?\); there are en_"):
        prepared(CORPUS, root, tmp_path, language="ms_mi")
    with pytest.raises(FileNotFoundError, match=r"FLEURS=[\s\S]*train,dev,test"):
        prepared(CORPUS, tmp_path, tmp_path / "out")


def test_archives_that_are_cut_or_lead_outside(tmp_path):
    root = public_sets.fleurs(tmp_path / "root")
    path = root / "data/ms_my/audio/test.tar.gz"
    path.write_bytes(path.read_bytes()[:-40])
    report = prepared(MALAY, root, tmp_path / "cut")
    assert report.skipped["damaged archive"] == 4
    assert "fleurs_ms_test" not in report.sets
    tar_file(path, {"test/../../out.wav": b"x"})
    with pytest.raises(ValueError, match="unsafe member name 'test/../../out.wav'"):
        prepared(MALAY, root, tmp_path / "outside")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"neither a folder test nor test\.tar\.gz"):
        prepared(MALAY, root, tmp_path / "none")
