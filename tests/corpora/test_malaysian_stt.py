from dataclasses import replace

import pytest

from espnet_plugin.corpora import malaysian_stt
from espnet_plugin.corpora.malaysian_stt import CORPUS, YOUTUBE, speaker_of
from espnet_plugin.corpora.splits import Shares
from tests.fixtures import public_sets
from tests.fixtures.prepared import prepared, sets, table
from tests.fixtures.public_files import jsonl, mp3_bytes, zip_file

SKIPPED = {
    "id given twice": 2,
    "unusable audio": 2,
    "missing audio": 1,
    "no words": 1,
    "a translation, not a transcript": 1,
    "no transcript": 1,
    "no audio_filename": 1,
    "not JSON": 1,
    "not UTF-8": 1,
    "not a JSON object": 1,
    "pseudo-label: compression": 1,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return public_sets.malaysian_stt(tmp_path_factory.mktemp("my sets") / "stt")


def test_every_row_is_an_utterance_or_counted(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path)
    assert sets(report) == {"malaysian_stt_train": 21}
    assert report.skipped == SKIPPED
    assert report.notes == {"no timestamps": 2, "timestamps that cannot be were left out": 2}
    folder = tmp_path / "malaysian_stt_train"
    texts, times = table(folder / "text"), table(folder / "utt2times")
    utt = "malaysian_stt_output_audio_0_0-output-audio-0-0-1"
    assert texts[utt] == "Ayat nombor1 ini sangat senang nombor1"
    assert times[utt] == "0.00:1.00:3 1.20:1.90:3"
    utt = "malaysian_stt_chunks_0000000-chunks-7-1"
    assert (texts[utt], times[utt]) == ("masa terbalik", "0.00:2.00:2")
    assert texts["malaysian_stt_chunks_0000002-chunks-250-1"] == "simpan"  # without the prompt
    langs = table(folder / "utt2lang")
    assert langs["malaysian_stt_chunks_0000000-chunks-7-0"] == "en"
    sources = table(folder / "wav.scp")  # out of a zip, a split one, and as a file
    assert "media/output-audio-0" in sources["malaysian_stt_output_audio_0_1-output-audio-0-1-0"]
    assert "media/output-audio-1" in sources["malaysian_stt_output_audio_0_4-output-audio-0-4-0"]
    assert str(root) in sources["malaysian_stt_output_audio_0_7-output-audio-0-7-1"]


def test_segments_as_utterances(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path, rows="segments", tables="prepared-pseudolabel")
    folder = tmp_path / "malaysian_stt_train"
    stem = "malaysian_stt_output_audio_0_7-output-audio-0-7-1"
    found = {utt: text for utt, text in table(folder / "text").items() if utt.startswith(stem)}
    assert found == {
        f"{stem}-000000-001000": "Ayat nombor15 ini",
        f"{stem}-001200-001900": "sangat senang nombor15",
    }
    segments = table(folder / "segments")
    assert segments[f"{stem}-001200-001900"] == "malaysian_stt_output-audio-0-7-1 1.200 1.900"
    assert sets(report) == {"malaysian_stt_train": 34}


def test_splits_keep_videos_together(root, tmp_path):
    shares = Shares(0.2, 0.2)
    report = prepared(CORPUS, root, tmp_path, shares, tables="prepared-pseudolabel")
    assert set(report.sets) == {f"malaysian_stt_{split}" for split in ("train", "valid", "test")}
    assert report.shared == {"speakers": 0, "sentences": 0}
    again = tmp_path / "again"
    prepared(CORPUS, root, again, shares, tables="prepared-pseudolabel")
    for name in report.sets:
        assert table(again / name / "text") == table(tmp_path / name / "text")


def test_language_by_the_words(root, tmp_path):
    prepared(CORPUS, root, tmp_path, tables="extra", language="words", filter="none")
    langs = table(tmp_path / "malaysian_stt_train/utt2lang")
    assert langs["malaysian_stt_chunks_0000000-chunks-8-1"] == "cs"  # I want to makan nasi lemak
    assert langs["malaysian_stt_chunks_0000000-chunks-8-0"] == "ms"  # the loop, unfiltered
    assert langs["malaysian_stt_chunks_0000000-chunks-7-0"] == "en"


def test_filters_are_options(root, tmp_path):
    report = prepared(CORPUS, root, tmp_path, tables="extra", filter="repetition", max_repeats="2")
    assert report.skipped == {"pseudo-label: repetition": 1}
    with pytest.raises(ValueError, match="max_repeats is 'many', not a number"):
        prepared(CORPUS, root, tmp_path / "x", max_repeats="many")


def test_word_times_can_be_taken(tmp_path):
    rows = [
        {
            "audio_filename": "a/1-2-3.mp3",
            "segment_timestamp": "<|ms|><|0.00|> apa khabar<|0.50|>",
            "word_timestamp": "<|ms|><|0.00|> apa<|0.20|><|0.25|> khabar<|0.48|>",
        }
    ]
    jsonl(tmp_path / "root/x.jsonl", rows)
    zip_file(tmp_path / "root/x.zip", {"a/1-2-3.mp3": mp3_bytes()})
    prepared(CORPUS, tmp_path / "root", tmp_path, text_key="word_timestamp")
    times = table(tmp_path / "malaysian_stt_train/utt2times")
    assert list(times.values()) == ["0.00:0.20:1 0.25:0.48:1"]


def test_an_empty_key_gives_way_to_the_next(tmp_path):
    rows = [{"audio_filename": "a/1-2-3.mp3", "new_text": " ", "text": "<|ms|> apa khabar"}]
    jsonl(tmp_path / "root/x.jsonl", rows)
    zip_file(tmp_path / "root/x.zip", {"a/1-2-3.mp3": mp3_bytes()})
    prepared(CORPUS, tmp_path / "root", tmp_path)
    assert list(table(tmp_path / "malaysian_stt_train/text").values()) == ["apa khabar"]


def test_what_stands_for_a_speaker():
    assert speaker_of("output-audio/3-17-250.mp3") == "output_audio_3_17"
    assert speaker_of("a/b/1234-5.mp3") == "b_0000012"
    assert speaker_of("b/1299-0.mp3") == "b_0000012"
    assert speaker_of("extra/interview.wav") is None


def test_the_youtube_set_has_its_own_name(tmp_path):
    public_sets.malaysian_stt(tmp_path / "root")
    report = prepared(YOUTUBE, tmp_path / "root", tmp_path, tables="extra")
    assert sets(report) == {"malaysian_youtube_train": 5}
    with pytest.raises(FileNotFoundError, match=r"MALAYSIAN_YOUTUBE=[\s\S]*Expected below it"):
        list(YOUTUBE.find(str(tmp_path), {}))


@pytest.mark.parametrize("rows", [[], ["{}"], [{"audio_filename": "a.mp3", "text": "<|ms|>"}]])
def test_a_table_without_an_utterance(tmp_path, rows):
    jsonl(tmp_path / "root/x.jsonl", rows)
    with pytest.raises(ValueError, match=r"malaysian_stt: no usable utterance|nothing to prepare"):
        prepared(CORPUS, tmp_path / "root", tmp_path)


def test_mistakes_are_named(root, tmp_path):
    options = {name: option.default for name, option in CORPUS.options.items()}
    with pytest.raises(ValueError, match="tables: 'extr' is not there; there are extra prepared"):
        list(CORPUS.find(str(root), options | {"tables": "extr"}))
    with pytest.raises(FileNotFoundError, match="no such folder"):
        list(CORPUS.find(str(tmp_path / "nowhere"), options))


def test_the_result_does_not_depend_on_the_parts(root, tmp_path, monkeypatch):
    prepared(CORPUS, root, tmp_path / "one")
    monkeypatch.setattr("espnet_plugin.corpora.row_files.PART_BYTES", 300)
    units = list(CORPUS.find(str(root), {n: o.default for n, o in CORPUS.options.items()}))
    assert len(units) > 8
    prepared(replace(CORPUS, version=9), root, tmp_path / "many")
    for name in ("text", "utt2times", "utt2lang", "utt2dur"):
        one, many = (tmp_path / run / "malaysian_stt_train" / name for run in ("one", "many"))
        assert one.read_bytes() == many.read_bytes()
    assert malaysian_stt.WINDOWS == 100
