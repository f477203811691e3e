from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin import synth_data
from espnet_plugin.corpora.data_dir import Utterance, write_data_dir, write_wav
from espnet_plugin.corpora.speed import at_speed, change_speed, parse_factors, perturb_speed
from espnet_plugin.data import DataDir

RATE = 16000


def tone(frequency: float = 400.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE)).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "my data"
    rows = [
        Utterance(
            f"spk{n}-u{n}",
            f"spk{n}",
            "dua  perkataan, ya?",
            "ms",
            write_wav(source / "wav" / f"{n}.wav", tone(400 + n)),
            {"utt2tags": "ms ms", "utt2cond": "clean"},
        )
        for n in (2, 1)
    ]
    write_data_dir(source, rows)
    return source


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 1.25, 2.0])
def test_length_and_pitch(factor: float):
    fast = change_speed(tone(), factor)
    assert len(fast) == int(np.ceil(RATE / factor))
    spectrum = np.abs(np.fft.rfft(fast))
    assert np.fft.rfftfreq(len(fast), 1 / RATE)[spectrum.argmax()] == pytest.approx(
        400 * factor, rel=0.01
    )


def test_full_scale_stays_within_full_scale():
    square = np.sign(tone()).astype(np.float32)
    assert np.abs(change_speed(square, 1.1)).max() <= 1.0


def test_directory(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    output = tmp_path / "my data_sp"
    arguments = [
        "speed",
        "--input",
        str(source),
        "--output",
        str(output),
        "--factors",
        "0.9, 1.0 1.1",
    ]
    synth_data.main(arguments)
    assert "6 utterances" in capsys.readouterr().out
    data = DataDir.load(output)
    assert data.utterances == [
        f"{prefix}spk{n}-u{n}" for prefix in ("sp0.9-", "sp1.1-", "") for n in (1, 2)
    ]
    assert data.utt2spk["sp0.9-spk1-u1"] == "sp0.9-spk1"
    assert data.utt2spk["spk1-u1"] == "spk1"
    assert set(data.text.values()) == {"dua  perkataan, ya?"}
    assert set(data.utt2lang.values()) == {"ms"}
    assert data.extra["utt2tags"]["sp1.1-spk2-u2"] == "ms ms"
    for name, length in (("sp0.9-spk1-u1", 17778), ("spk1-u1", 16000), ("sp1.1-spk1-u1", 14546)):
        wave, rate = soundfile.read(data.wav[name])
        assert (len(wave), rate) == (length, RATE)
    original, _ = soundfile.read(source / "wav" / "1.wav")
    assert np.array_equal(soundfile.read(data.wav["spk1-u1"])[0], original)


def test_segments_are_cut(source: Path, tmp_path: Path):
    (source / "segments").write_text("spk1-u1 spk1-u1 0.25 0.75\nspk2-u2 spk2-u2 0 -1\n")
    assert perturb_speed(source, tmp_path / "out", [1.0, 0.5]) == 4
    data = DataDir.load(tmp_path / "out")
    lengths = {name: len(soundfile.read(path)[0]) for name, path in data.wav.items()}
    assert lengths == {
        "spk1-u1": 8000,
        "spk2-u2": 16000,
        "sp0.5-spk1-u1": 16000,
        "sp0.5-spk2-u2": 32000,
    }


@pytest.mark.parametrize("text", ["", "fast", "0.9 0.9", "0.1", "1.0 nan"])
def test_bad_factors(text: str):
    with pytest.raises(ValueError, match="speed factors .* expected"):
        parse_factors(text)


def test_bad_recordings_are_named(source: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="same directory"):
        perturb_speed(source, source, [1.1])
    (source / "wav" / "1.wav").write_bytes(b"RIFF, but no more")
    with pytest.raises(ValueError, match=r"utterance spk1-u1, .*1\.wav: corrupt"):
        perturb_speed(source, tmp_path / "out", [1.1])
    (source / "wav" / "1.wav").unlink()
    with pytest.raises(ValueError, match=r"utterance spk1-u1, .*1\.wav: no such file"):
        perturb_speed(source, tmp_path / "out", [1.1])


def test_rows_that_do_not_fit_together(tmp_path: Path):
    row = Utterance("spk1-u1", "spk1", "apa", "ms", tmp_path / "x.wav")
    with pytest.raises(ValueError, match="spk1-u1 occurs twice"):
        write_data_dir(tmp_path / "d", [row, row])
    with pytest.raises(ValueError, match="does not begin with its speaker s-"):
        write_data_dir(tmp_path / "d", [Utterance("x-1", "s", "apa", "ms", tmp_path / "x.wav")])
    with pytest.raises(ValueError, match="no utterances"):
        write_data_dir(tmp_path / "d", [])
    with pytest.raises(ValueError, match=r"x\.wav: samples are not within"):
        write_wav(tmp_path / "x.wav", np.array([0.0, 1.5]))
    with pytest.raises(ValueError, match=r"x\.wav: samples are not within"):
        write_wav(tmp_path / "x.wav", np.array([0.0, np.nan]))


@pytest.mark.parametrize(
    ("table", "line", "expected"),
    [
        ("utt2dur", "1.800", "2.000"),
        ("utt2times", "0.00:0.90:2 0.99:1.80:1", "0.000:1.000:2 1.100:2.000:1"),
        ("utt2tags", "ms en", "ms en"),
    ],
)
def test_durations_and_times_follow_the_speed(table: str, line: str, expected: str) -> None:
    assert at_speed(table, line, 0.9) == expected
    assert at_speed(table, line, 1.0) == line
