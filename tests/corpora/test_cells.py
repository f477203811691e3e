import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.corpora.cells import cell_audio, named_audio, store
from espnet_plugin.corpora.corpus import AudioError, Context
from tests.fixtures.nsc import wav_bytes, write
from tests.fixtures.public_files import cell, flac_bytes, mp3_bytes


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "train-00000-of-00001.parquet"
    path.write_bytes(b"content")
    return str(path)


@pytest.mark.parametrize(
    "data, ending",
    [(wav_bytes(0.5), "wav"), (flac_bytes(), "flac"), (mp3_bytes(), "mp3")],
    ids=["wav", "flac", "mp3"],
)
def test_bytes_become_files_of_their_kind(tmp_path, table, data, ending):
    context = Context(str(tmp_path), media=tmp_path / "media")
    audio = cell_audio(cell(data, "anything.ogg"), context, table, 12345)
    assert audio.source.endswith(f"/00012/00012345.{ending}")
    assert Path(audio.source).read_bytes() == data
    assert audio.seconds == soundfile.info(audio.source).duration == 0.5
    assert cell_audio(data, context, table, 12345) == audio  # bare bytes; nothing is written again


def test_a_changed_table_gets_another_folder(tmp_path, table):
    context = Context(str(tmp_path), media=tmp_path / "media")
    first = cell_audio(wav_bytes(0.5, 1), context, table, 0)
    os.utime(table, (1, 1))
    second = cell_audio(wav_bytes(0.5, 2), context, table, 0)
    assert first.source != second.source


def test_samples_and_names(tmp_path, table):
    context = Context(str(tmp_path), media=tmp_path / "media")
    samples = [0.0, 0.25, -0.5] * 100
    audio = cell_audio({"array": samples, "sampling_rate": 16000, "path": None}, context, table, 0)
    np.testing.assert_array_equal(soundfile.read(audio.source, dtype="float32")[0], samples)
    write(tmp_path / "clips/a b.wav", wav_bytes(0.25))
    for name in ("a b.wav", "clips/a b.wav", "./clips/a b.wav", "other/clips/a b.wav"):
        found = cell_audio(cell(None, name), context, table, 0, [tmp_path / "clips"])
        assert found.source == str(tmp_path / "clips/a b.wav")
    assert named_audio(str(tmp_path / "clips/a b.wav"), []).seconds == 0.25


@pytest.mark.parametrize(
    "value, message",
    [
        (None, "no audio in the row"),
        ("", "no audio in the row"),
        (3, "no audio in the row"),
        (cell(None, None), "no audio in the row"),
        (cell(b"", "x.wav"), "empty: 0 bytes"),
        (cell(b"this is text", "x.wav"), "corrupt or no audio"),
        (cell(wav_bytes(0.5)[:100]), "truncated: 56 of 16000 bytes"),
        ({"array": ["x"], "sampling_rate": 16000}, "no samples"),
        ({"array": [0.0], "sampling_rate": None}, "no samples"),
        ("gone.wav", "no such file: gone.wav"),
        ("../gone.wav", "unsafe file name"),
        ("/no/where.wav", "no such file"),
    ],
)
def test_audio_that_is_none(tmp_path, table, value, message):
    context = Context(str(tmp_path), media=tmp_path / "media")
    with pytest.raises(AudioError, match=message):
        cell_audio(value, context, table, 0, [tmp_path])


def test_a_half_written_file_is_written_again(tmp_path):
    write(tmp_path / "x.wav", wav_bytes(0.5)[:-20])
    assert store(wav_bytes(0.5), str(tmp_path / "x")).seconds == 0.5
