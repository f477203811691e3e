import io
import shlex
import sys
import wave
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet_plugin.data.audio import AudioOptions, Cut, make_recording, to_mono
from espnet_plugin.data.source import AudioError, plain_file


def tone(seconds=1.0, rate=16000, hertz=440.0, level=0.5):
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def pcm(samples):
    return np.rint(samples * 32768).astype(np.int16)


def make(source, tmp_path, start=0.0, end=None, whole=True, **options):
    cut = Cut("u", start, end, tmp_path / "out put" / "u.flac")
    (made,) = make_recording(str(source), [cut], whole, AudioOptions(**options))
    return made


def samples_of(made):
    samples, rate = soundfile.read(made.path, dtype="int16")
    assert rate == 16000 and len(samples) == made.samples
    return samples


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "a b" / "x 1.wav"
    path.parent.mkdir()
    soundfile.write(path, pcm(tone()), 16000)
    return path


def test_ready_audio_is_referred_to(wav, tmp_path):
    made = make(wav, tmp_path)
    assert (made.path, made.samples, made.fault) == (str(wav), 16000, None)
    assert not (tmp_path / "out put").exists()


def test_copy_is_exact(wav, tmp_path):
    made = make(wav, tmp_path, copy=True)
    assert made.path == str(tmp_path / "out put" / "u.flac")
    np.testing.assert_array_equal(samples_of(made), pcm(tone()))


@pytest.mark.parametrize(
    ("suffix", "referred"), [(".flac", True), (".aiff", False), (".ogg", False)]
)
def test_other_formats(tmp_path, suffix, referred):
    path = tmp_path / f"x{suffix}"
    soundfile.write(path, tone(), 16000)
    made = make(path, tmp_path)
    assert (made.path == str(path)) == referred
    assert made.samples == 16000
    assert np.abs(samples_of(made) - pcm(tone()).astype(int)).max() < 2000


def test_float_wav_becomes_16_bit(tmp_path):
    soundfile.write(tmp_path / "f.wav", 3 * tone(), 16000, subtype="FLOAT")
    made = make(tmp_path / "f.wav", tmp_path)
    assert made.path.endswith(".flac") and made.notes == {"clipped": "peak 1.50 of 1"}
    assert samples_of(made).max() == 32767 and samples_of(made).min() == -32768


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(tmp_path, rate):
    soundfile.write(tmp_path / "r.wav", pcm(tone(rate=rate)), rate)
    made = make(tmp_path / "r.wav", tmp_path)
    assert made.samples == 16000 and made.notes == {"resampled": f"{rate} Hz"}
    middle = slice(1600, 14400)
    np.testing.assert_allclose(samples_of(made)[middle] / 32768, tone()[middle], atol=2e-3)


def test_resampling_removes_what_would_alias(tmp_path):
    soundfile.write(tmp_path / "r.wav", pcm(tone(rate=48000, hertz=11000)), 48000)
    made = make(tmp_path / "r.wav", tmp_path)
    assert np.abs(samples_of(made)[1600:14400]).max() < 33  # -60 dB


def test_channels(tmp_path):
    stereo = np.stack([tone(), tone(hertz=880)], axis=1)
    soundfile.write(tmp_path / "s.wav", pcm(stereo), 16000)
    made = make(tmp_path / "s.wav", tmp_path)
    assert made.notes == {"stereo": "2 channels, mixed down"}
    np.testing.assert_allclose(samples_of(made), pcm(stereo.mean(axis=1)), atol=1)
    made = make(tmp_path / "s.wav", tmp_path, channel="1")
    assert made.notes == {"stereo": "2 channels, channel 1 taken"}
    np.testing.assert_array_equal(samples_of(made), pcm(stereo)[:, 1])
    assert "no channel 2" in make(tmp_path / "s.wav", tmp_path, channel="2").fault
    soundfile.write(tmp_path / "o.wav", pcm(np.stack([tone(), -tone()], axis=1)), 16000)
    made = make(tmp_path / "o.wav", tmp_path)
    assert (made.kind, made.fault[:16]) == ("channels", "its 2 channels c")
    assert make(tmp_path / "o.wav", tmp_path, channel="0").samples == 16000
    assert not to_mono(np.zeros((9, 2), np.float32), "mean").any()


@pytest.mark.parametrize("channel", ["left", "-1", ""])
def test_bad_channel(channel):
    with pytest.raises(ValueError, match="channel is a number from 0 or 'mean'"):
        AudioOptions(channel=channel)


def write_bytes(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def with_nan(path):
    samples = tone()
    samples[7] = np.nan
    soundfile.write(path, samples, 16000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("build", "fault"),
    [
        (lambda p, b: None, "no such file"),
        (lambda p, b: p.mkdir(), "not a file"),
        (lambda p, b: p.write_bytes(b""), "empty: 0 bytes"),
        (lambda p, b: p.write_bytes(b"RIFF but not a wav"), "corrupt or no audio: "),
        (lambda p, b: p.write_bytes(b"saya nak kopi " * 99), "corrupt or no audio: "),
        (lambda p, b: p.write_bytes(b[:20000]), "truncated: 19956 of 32000 bytes"),
        (lambda p, b: soundfile.write(p, np.zeros(0, np.int16), 16000), "empty: no samples"),
        (lambda p, b: with_nan(p), "has 1 NaN or infinite samples"),
    ],
)
def test_faults(tmp_path, wav, build, fault):
    path = tmp_path / "bad.wav"
    build(path, wav.read_bytes())
    made = make(path, tmp_path)
    assert made.fault.startswith(fault) and made.path == ""


def test_wav_of_unknown_length_is_no_fault(tmp_path, wav):
    data = wav.read_bytes()
    path = write_bytes(tmp_path / "p.wav", data[:40] + b"\xff\xff\xff\xff" + data[44:])
    assert make(path, tmp_path).samples == 16000


def test_segments_of_one_recording(wav, tmp_path):
    bounds = [(0.25, 0.5), (0.5, None), (0.5, 1.2), (0.5, 1.6), (1.2, 1.4), (0.5, 0.50001)]
    cuts = [Cut(f"u{i}", a, b, tmp_path / f"u{i}.flac") for i, (a, b) in enumerate(bounds)]
    made = make_recording(str(wav), cuts, False, AudioOptions())
    np.testing.assert_array_equal(samples_of(made[0]), pcm(tone())[4000:8000])
    assert [m.samples for m in made[:3]] == [4000, 8000, 8000]
    assert list(made[2].notes) == ["cut"]  # within Kaldi's tolerance of half a second
    assert made[3].fault == "segment 0.5-1.6 s passes the end of the recording (1.00 s)"
    assert made[4].fault == "segment 1.2-1.4 s passes the end of the recording (1.00 s)"
    assert made[5].fault == "segment 0.5-0.50001 s has no samples"


@pytest.mark.parametrize("form", ["wav", "AUDIO", "flac"])
def test_arks(tmp_path, form):
    """Entries as kaldiio writes them, in the middle of an ark."""
    path = tmp_path / "a b.ark"
    options = {} if form == "wav" else {"write_function": "soundfile"}
    if form == "flac":
        options["write_kwargs"] = {"format": "flac"}
    entries = {f"u{i}": (16000, pcm(tone(0.2 + 0.1 * i))) for i in range(3)}
    kaldiio.save_ark(str(path), entries, scp=str(tmp_path / "scp"), **options)
    lines = (tmp_path / "scp").read_text().splitlines()
    for i, line in enumerate(lines):
        made = make(line.split(maxsplit=1)[1], tmp_path)
        np.testing.assert_array_equal(samples_of(made), entries[f"u{i}"][1])
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert make(lines[2].split(maxsplit=1)[1], tmp_path).fault.startswith("truncated: ")


def test_arks_are_never_unpickled(tmp_path):
    kaldiio.save_ark(
        str(tmp_path / "p.ark"),
        {"u": np.zeros(3)},
        write_function="pickle",
        scp=str(tmp_path / "s"),
    )
    source = (tmp_path / "s").read_text().split()[1]
    assert make(source, tmp_path).fault.startswith("no audio at byte 2 of the ark")


def test_pipes_run_only_when_allowed(wav, tmp_path):
    witness = tmp_path / "ran"
    source = f"touch {shlex.quote(str(witness))}; cat {shlex.quote(str(wav))} |"
    made = make(source, tmp_path)
    assert made.fault == "is a shell command; give --allow_pipes true if you trust the data"
    assert not witness.exists()
    made = make(source, tmp_path, allow_pipes=True)
    np.testing.assert_array_equal(samples_of(made), pcm(tone()))


def test_pipe_that_fails(tmp_path):
    made = make("echo no disk >&2; exit 3 |", tmp_path, allow_pipes=True)
    assert made.fault == "the command failed with 3: no disk"
    assert make("true |", tmp_path, allow_pipes=True).fault == "empty: 0 bytes"


def test_wav_from_a_pipe_of_unknown_length(tmp_path):
    """What sox and ffmpeg write to a pipe: the header's sizes are unknown."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(pcm(tone()).tobytes())
    data = buffer.getvalue()
    path = write_bytes(
        tmp_path / "p", data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:]
    )
    made = make(
        f"{sys.executable} -c 'import sys; sys.stdout.buffer.write(open(sys.argv[1], "
        f'"rb").read())\' {shlex.quote(str(path))} |',
        tmp_path,
        allow_pipes=True,
    )
    assert made.samples == 16000


def test_plain_file(tmp_path):
    odd = write_bytes(tmp_path / "a:12", b"x")
    assert plain_file("x y.wav") == "x y.wav"
    assert plain_file("x y.ark:12") == "x y.ark"
    assert plain_file(str(odd)) == str(odd)  # a file of that name wins
    assert plain_file("sox x -t wav - |") is None


def test_a_full_disk_is_no_fault_of_the_audio(wav, tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        make(wav, tmp_path, copy=True)


def test_header_counted_as_samples_is_no_fault(tmp_path, wav):
    data = wav.read_bytes()
    path = write_bytes(tmp_path / "h.wav", data[:40] + (32044).to_bytes(4, "little") + data[44:])
    assert make(path, tmp_path).samples == 16000


def test_audio_error_is_no_value_error():
    assert not issubclass(AudioError, ValueError)  # so that a fault is never taken for an option's
