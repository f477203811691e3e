"""What others read of the directories equals what the miniatures were made of."""

import contextlib
import importlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.fixtures import public_sets
from tests.fixtures.nsc import wav_bytes
from tests.fixtures.prepared import prepared, table

SETS = {
    "malaysian_stt": {"rows": "segments"},
    "imda_stt": {},
    "mnsc": {},
    "en_malay_cs": {},
    "malay_conversational": {},
    "synth_manglish": {},
    "fleurs": {},
    "common_voice": {},
    "spontaneous_speech": {},
    "esb": {},
    "librispeech": {},
}


@pytest.fixture(scope="module")
def directories(tmp_path_factory) -> dict[str, Path]:
    found = {}
    output = tmp_path_factory.mktemp("data")
    for name, options in SETS.items():
        corpus = importlib.import_module(f"espnet_plugin.corpora.{name}").CORPUS
        root = getattr(public_sets, name)(output / "in" / name)
        report = prepared(corpus, root, output, **options)
        found |= {one: output / one for one in report.sets}
    root = public_sets.malay_conversational(output / "in/raw", raw=True)
    corpus = importlib.import_module("espnet_plugin.corpora.malay_conversational").CORPUS
    prepared(corpus, root, output / "raw")
    found["raw"] = output / "raw/malay_conversational_train"
    return found


def test_espnets_readers(directories):
    from espnet2.fileio.read_text import read_2columns_text
    from espnet2.fileio.sound_scp import SoundScpReader

    for path in directories.values():
        texts, speakers = (read_2columns_text(path / name) for name in ("text", "utt2spk"))
        assert texts == table(path / "text")
        assert list(texts) == list(speakers) == sorted(texts)
        lengths, segments = table(path / "utt2dur"), path / "segments"
        sounds = SoundScpReader(str(path / "wav.scp"))
        zipped = {key for key, source in table(path / "wav.scp").items() if ".zip:" in source}
        for key in set(sounds.keys()) - zipped:
            rate, samples = sounds[key]
            assert len(samples) / rate == pytest.approx(float(table(path / "reco2dur")[key]))
        if not segments.exists():
            recordings = table(path / "reco2dur")
            for utt, length in lengths.items():
                assert float(length) == pytest.approx(float(recordings[utt]), abs=1e-3)


def test_kaldiio_reads_wavs_in_zips(directories):
    import kaldiio

    path = directories["imda_stt_part1_train"]
    sounds = kaldiio.load_scp(str(path / "wav.scp"))
    rate, samples = sounds["imda_stt_p1_0003-000030001"]
    expected, _ = soundfile.read(io.BytesIO(wav_bytes(0.5, 3)), dtype="int16")
    assert rate == 16000
    np.testing.assert_array_equal(samples, expected)


def test_the_samples_are_those_that_went_in(directories):
    sources = table(directories["synth_manglish_train"] / "wav.scp")
    for utt, source in sources.items():
        number = int(utt.partition("line")[2][:2])
        assert Path(source).read_bytes() == wav_bytes(0.5, number)


def test_lhotse_agrees_on_durations_and_text(directories):
    lhotse = pytest.importorskip("lhotse")
    from lhotse.kaldi import load_kaldi_data_dir

    for path in directories.values():
        with contextlib.redirect_stdout(io.StringIO()):
            recordings, supervisions, _ = load_kaldi_data_dir(path, 16000)
        texts, lengths = table(path / "text"), table(path / "utt2dur")
        langs, speakers = table(path / "utt2lang"), table(path / "utt2spk")
        assert supervisions is not None and len(supervisions) == len(texts)
        for one in supervisions:
            assert (one.text, one.language) == (texts[one.id], langs[one.id])
            assert one.speaker == speakers[one.id]
            assert one.duration == pytest.approx(float(lengths[one.id]), abs=1e-3)
        whole = table(path / "reco2dur")
        assert {r.id for r in recordings} == set(whole)
        for one in recordings:
            assert one.duration == pytest.approx(float(whole[one.id]), abs=1e-3)
    assert lhotse.__version__
