import sys
from types import ModuleType, SimpleNamespace

import pytest

from espnet_plugin.corpora.manifest import CORPUS
from espnet_plugin.corpora.manifest_hub import hub_tables, saved_tables
from tests.fixtures.nsc import wav_bytes, write
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import arrow, cell, saved_dataset


def rows(start, count):
    return [
        {"id": f"u{n}", "sentence": f"kata {n}", "audio": cell(wav_bytes(0.5, n), f"{n}.wav")}
        for n in range(start, start + count)
    ]


def test_what_save_to_disk_wrote_is_read_without_the_package(tmp_path):
    root = saved_dataset(tmp_path / "root", {"train": rows(0, 5), "validation": rows(5, 3)})
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {"manifest_train": 5, "manifest_valid": 3}
    assert table(tmp_path / "manifest_train/text") == {
        f"manifest_u{n}": f"kata {n}" for n in range(5)
    }
    report = prepared(CORPUS, root / "validation", tmp_path / "one")  # a single Dataset
    assert sets(report) == {"manifest_train": 3}


def test_rows_without_an_id_have_names_of_their_own(tmp_path):
    parts = {split: rows(n, 4) for split, n in (("train", 0), ("test", 4))}
    for part in parts.values():
        for row in part:
            del row["id"]
    root = saved_dataset(tmp_path / "root", parts)
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {"manifest_train": 4, "manifest_test": 4}
    names = {utt for name in report.sets for utt in table(tmp_path / name / "text")}
    assert len(names) == 8
    assert "manifest_test_data-00001-of-00002.arrow-00000001" in names


def test_damage_of_a_saved_data_set(tmp_path):
    root = saved_dataset(tmp_path / "root", {"train": rows(0, 4)})
    path = root / "train/data-00001-of-00002.arrow"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match=r"data-00001-of-00002\.arrow: truncated or damaged"):
        prepared(CORPUS, root, tmp_path)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"data-00001-of-00002\.arrow: missing; .*state\.js"
    ):
        saved_tables(root)
    write(root / "train/state.json", '{"_data_files": [{"filename": "../../x.arrow"}]}')
    with pytest.raises(ValueError, match="outside of the folder"):
        saved_tables(root)
    write(root / "train/state.json", '{"_data_files": [], "_indices_data_files": ["x"]}')
    with pytest.raises(ValueError, match="has an index of rows"):
        saved_tables(root)


def test_the_hub_needs_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match="hub:a/b: needs Hugging Face's package: pip install data"):
        prepared(CORPUS, "hub:a/b", tmp_path)
    with pytest.raises(ValueError, match="hub:a: not hub:OWNER/NAME"):
        hub_tables("hub:a")


def test_what_the_package_has_downloaded(tmp_path, monkeypatch):
    """The package is not installed here: its documented interface stands in for it."""
    files = {split: arrow(tmp_path / f"cache/{split}.arrow", rows(n, 2)) for n, split in
             ((0, "train"), (2, "test"))}  # fmt: skip
    asked = []

    def load_dataset(name, configuration):
        asked.append((name, configuration))
        return {s: SimpleNamespace(cache_files=[{"filename": str(f)}]) for s, f in files.items()}

    package = ModuleType("datasets")
    package.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", package)
    report = prepared(CORPUS, "hub:owner/name:ms_my", tmp_path / "out")
    assert asked == [("owner/name", "ms_my")]
    assert sets(report) == {"manifest_train": 2, "manifest_test": 2}
