import pytest

from espnet_plugin.corpora.esb import CORPUS, is_scored
from tests.fixtures import public_sets
from tests.fixtures.nsc import wav_bytes
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import cell, parquet


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return public_sets.esb(tmp_path_factory.mktemp("esb"))


def test_sets_of_the_leaderboard(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {
        "esb_ami_test": 2,
        "esb_common_voice_test": 2,  # one id, two recordings
        "esb_librispeech_test_clean": 2,
        "esb_librispeech_test_other": 2,
    }
    assert report.skipped == {"reference that is not scored": 5}
    texts = table(tmp_path / "esb_librispeech_test_clean/text")
    assert texts == {
        "esb_librispeech-librispeech_0-00000-000000": "CHAPTER clean one",  # from `sentence`
        "esb_librispeech-librispeech_0-00000-000001": "chapter clean two",
    }


@pytest.mark.parametrize(
    "text, scored",
    [
        ("a", True),
        ("uh hello", True),
        ("(hello there)", False),
        ("Ignore_Time_Segment_In_Scoring", False),
        ("<unk> <unk>", False),
        ("hmm, mm", False),
    ],
)
def test_references_that_are_scored(text, scored):
    assert is_scored(text) == scored


def test_some_sets_only(root, tmp_path):
    assert sets(prepared(CORPUS, root, tmp_path, sets="ami")) == {"esb_ami_test": 2}
    with pytest.raises(ValueError, match=r"'amy' \(did you mean ami\?\) is none of ami common_v"):
        prepared(CORPUS, root, tmp_path / "x", sets="amy")


def test_no_transcript(tmp_path):
    parquet(tmp_path / "root/ami/test-00000-of-00001.parquet", [{"audio": cell(wav_bytes(0.5))}])
    with pytest.raises(ValueError, match="has none of text sentence normalized_text .*but audio"):
        prepared(CORPUS, tmp_path / "root", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"ESB=[\s\S]*ami/test"):
        prepared(CORPUS, tmp_path / "root/ami", tmp_path)
