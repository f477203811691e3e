import shutil

import pytest

from espnet_plugin.corpora.malay_conversational import CORPUS
from espnet_plugin.corpora.prepare import Settings, prepare
from espnet_plugin.corpora.splits import Shares
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table


def test_commercial_use_is_forbidden_and_that_has_to_be_accepted(tmp_path):
    root = public_sets.malay_conversational(tmp_path / "root")
    with pytest.raises(ValueError, match=r"CC BY-NC-ND[\s\S]*accept_non_commercial"):
        prepare(CORPUS, str(root), tmp_path / "out", Settings())
    assert not (tmp_path / "out").exists()


def test_parquet_of_the_hub_is_split_by_speaker(tmp_path):
    root = public_sets.malay_conversational(tmp_path / "root")
    report = prepared(CORPUS, root, tmp_path, Shares(0.25, 0.25))
    assert sorted(sets(report)) == [f"malay_conversational_{s}" for s in ("test", "train", "valid")]
    assert report.skipped == {"no words": 1}
    speakers = [set(table(tmp_path / name / "utt2spk").values()) for name in report.sets]
    assert len(set.union(*speakers)) == sum(map(len, speakers)) == 4


def test_magichubs_files_keep_their_times(tmp_path):
    root = public_sets.malay_conversational(tmp_path / "root", raw=True)
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {"malay_conversational_train": 10}
    assert report.skipped == {
        "no words": 5,
        "missing audio": 3,
        "no duration": 1,
        "malformed line of a transcript": 1,
        "audio without transcript": 1,
    }
    folder = tmp_path / "malay_conversational_train"
    utt = "malay_conversational_G0003-A0001_S001_0_G0003-0000600-0001000"
    assert table(folder / "text")[utt] == "saya okay lah A0001_S001_0_G0003"
    recording = "malay_conversational_A0001_S001_0_G0003"
    assert table(folder / "segments")[utt] == f"{recording} 0.600 1.000"
    assert table(folder / "utt2times")[utt] == "0.00:0.40:4"


def test_speakers_of_a_conversation_stay_together(tmp_path):
    root = public_sets.malay_conversational(tmp_path / "root", raw=True)
    report = prepared(CORPUS, root, tmp_path, Shares(0.3, 0.3))
    heard = {
        name: {utt.split("-")[1][:10] for utt in table(tmp_path / name / "utt2spk")}
        for name in report.sets
    }
    assert len(heard) == 3
    assert all(len(conversations) == 1 for conversations in heard.values())


def test_the_raw_files_may_be_zipped(tmp_path):
    root = public_sets.malay_conversational(tmp_path / "raw/Malay_Conversational", raw=True)
    (tmp_path / "root").mkdir()
    shutil.make_archive(str(tmp_path / "root/corpus"), "zip", root.parent)
    report = prepared(CORPUS, tmp_path / "root", tmp_path)
    assert sets(report) == {"malay_conversational_train": 10}


def test_a_wrong_root(tmp_path):
    (tmp_path / "WAV").mkdir()
    with pytest.raises(FileNotFoundError, match=r"MALAY_CONVERSATIONAL=[\s\S]*parquet[\s\S]*WAV"):
        prepared(CORPUS, tmp_path, tmp_path / "out")
