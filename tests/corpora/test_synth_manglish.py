import pytest

from espnet_plugin.corpora.splits import Shares
from espnet_plugin.corpora.synth_manglish import CORPUS, voice_of
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return public_sets.synth_manglish(tmp_path_factory.mktemp("synth"))


def test_voices_are_speakers_and_in_one_set_each(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path, Shares(0.2, 0.2))
    assert sets(report) == {
        "synth_manglish_train": 6,
        "synth_manglish_valid": 2,
        "synth_manglish_test": 2,
    }
    voices = [set(table(tmp_path / name / "utt2spk").values()) for name in report.sets]
    assert sorted(map(len, voices)) == [1, 1, 3]
    assert len(set.union(*voices)) == 5


def test_language_by_the_words(root, tmp_path):
    prepared(CORPUS, root, tmp_path, language="words")
    langs = table(tmp_path / "synth_manglish_train/utt2lang")
    assert langs["synth_manglish_osman-line09__osman__1"] == "en"
    assert langs["synth_manglish_aina-line03__aina__1"] == "cs"


def test_names_without_a_voice():
    assert voice_of("a__rizal__2.wav") == "rizal"
    assert voice_of("a.wav") is None


def test_a_wrong_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"SYNTH_MANGLISH=[\s\S]*Found: nothing"):
        prepared(CORPUS, tmp_path, tmp_path / "out")
