import pytest

from espnet_plugin.corpora.splits import Shares
from espnet_plugin.corpora.spontaneous_speech import CORPUS
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table


def test_answers_with_quotes_line_breaks_and_sounds(tmp_path):
    root = public_sets.spontaneous_speech(tmp_path / "root")
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {f"spontaneous_speech_{s}": n for s, n in
                            (("train", 2), ("dev", 1), ("test", 1))}  # fmt: skip
    assert report.skipped == {"no transcript": 1, "no words": 1, "missing audio": 1}
    assert list(table(tmp_path / "spontaneous_speech_dev/text").values()) == [
        'Dia kata "ya" dan pergi'
    ]
    texts = table(tmp_path / "spontaneous_speech_train/text").values()
    assert list(texts) == ["Saya suka nasi lemak.", "Belum disemak."]


def test_clips_without_a_split_are_split_by_speaker(tmp_path):
    root = public_sets.spontaneous_speech(tmp_path / "root")
    report = prepared(CORPUS, root, tmp_path, Shares(0.5, 0.5))
    assert sum(sets(report).values()) == 4
    assert report.shared == {"speakers": 0, "sentences": 0}


def test_other_languages_and_roots(tmp_path):
    root = public_sets.spontaneous_speech(tmp_path / "root")
    with pytest.raises(FileNotFoundError, match=r"SPONTANEOUS_SPEECH=[\s\S]*Found: audios, ss-co"):
        prepared(CORPUS, root, tmp_path, language="xx")
    (root / "ss-corpus-ms-MY-2.tsv").write_text("client_id\n")
    with pytest.raises(ValueError, match=r"several tables: ss-corpus-ms-MY-2\.tsv ss-corpus-ms-MY"):
        prepared(CORPUS, root, tmp_path)
