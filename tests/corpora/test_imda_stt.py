import pytest

from espnet_plugin.corpora.imda_stt import CORPUS, who
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import jsonl


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return public_sets.imda_stt(tmp_path_factory.mktemp("imda"))


def test_parts_become_the_sets_of_the_national_speech_corpus(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {"imda_stt_part1_train": 6, "imda_stt_cs_train": 3}
    assert report.skipped == {
        "no words": 1,
        "another pair of languages": 1,
        "missing audio": 1,
    }
    folder = tmp_path / "imda_stt_cs_train"
    assert table(folder / "text") == {
        "imda_stt_p4_0000-sur_0000_0000_phnd_cs-mly-0": "I want to makan nasi now",
        "imda_stt_p4_0001-sur_0000_0001_phnd_cs-mly-0": "plain english here",
        "imda_stt_p4_0003-sur_0001_0003_phnd_cs-mly-0": "tak nak",
    }
    assert list(table(folder / "utt2tags").values()) == ["en en en ms ms en", "en en en", "ms ms"]
    assert list(table(folder / "utt2lang").values()) == ["cs", "en", "ms"]
    source = table(tmp_path / "imda_stt_part1_train/wav.scp")["imda_stt_p1_0003-000030001"]
    assert ".zip:" in source  # stored WAV is read in place


def test_other_pairs_of_languages_on_request(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path, parts="4", mixed="mly,chn")
    assert sets(report) == {"imda_stt_cs_train": 3, "imda_stt_cs_chn_train": 1}
    assert table(tmp_path / "imda_stt_cs_chn_train/utt2tags").popitem()[1] == "en zh en"


def test_without_any_tag_in_the_table_no_word_has_a_language(root, tmp_path):
    rows = [
        {"filename": f"imda-same-part4/sur_0000_000{n}_phnd_cs-mly-0.mp3", "text": "makan later"}
        for n in range(2)
    ]
    public_sets.imda_stt(tmp_path / "root")
    jsonl(tmp_path / "root/imda-same-part4.jsonl", rows)
    prepared(CORPUS, tmp_path / "root", tmp_path, parts="4")
    assert not (tmp_path / "imda_stt_cs_train/utt2tags").exists()


def test_speakers_from_names():
    assert who(1, "000010001") == ("p1_0001", None, "")
    assert who(2, "/x/220450123.WAV") == ("p2_2045", None, "")
    assert who(3, "conf_1_2_345.wav") == ("p3_conf_1_2_345", "p3_conf_1_2", "")
    assert who(3, "3001-2.wav") == ("p3_3001_2", "p3_3001", "")
    found = who(4, "a/sur_0012_0034_phns_cs-mly_chunk3.mp3")
    assert found[:2] == ("p4_0034", "p4_sur_0012")
    assert who(4, "a/what.mp3") == (None, None, "")


def test_a_wrong_root(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"IMDA_STT=[\s\S]*imda-part1\.jsonl"):
        prepared(CORPUS, tmp_path, tmp_path / "out")
