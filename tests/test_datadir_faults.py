import io
import random
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from espnet_plugin.data.audio import AudioOptions, Cut, Made, make_recording
from espnet_plugin.data.faults import Finding, read_findings, write_findings

RATE = 16000
SUBTYPES = {"wav": "PCM_16", "flac": "PCM_16", "mp3": None, "ogg": "VORBIS", "opus": "OPUS"}
FORMATS = {"wav": "WAV", "flac": "FLAC", "mp3": "MP3", "ogg": "OGG", "opus": "OGG"}
ARKS = {"ark": "WAV", "flac.ark": "FLAC"}
ALL = [*FORMATS, *ARKS]


def noise(seconds: float = 1.0, rate: int = RATE, channels: int = 1) -> np.ndarray:
    samples = np.random.default_rng(0).normal(0, 0.1, (round(seconds * rate), channels))
    return samples.astype(np.float32).clip(-0.9, 0.9)


def encoded(form: str, samples: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=FORMATS[form], subtype=SUBTYPES[form])
    return buffer.getvalue()


def write(folder: Path, form: str, samples: np.ndarray, rate: int = RATE) -> tuple[str, Path]:
    """Write a recording; return its wav.scp value, and the file."""
    path = folder / f"x.{form}"
    if form in FORMATS:
        path.write_bytes(encoded(form, samples, rate))
        return str(path), path
    pcm = np.rint(np.squeeze(samples) * 32767).astype(np.int16)
    options = {"write_function": "soundfile", "write_kwargs": {"format": "flac"}}
    kaldiio.save_ark(
        str(path),
        {"u": (rate, pcm)},
        scp=str(folder / "scp"),
        **(options if form == "flac.ark" else {}),
    )
    return (folder / "scp").read_text().split(maxsplit=1)[1].strip(), path


def make(source: str, folder: Path, **options) -> Made:
    cut = Cut("u", 0.0, None, folder / "out" / "u.flac")
    return make_recording(source, [cut], True, AudioOptions(**options))[0]


@pytest.mark.parametrize("form", ALL)
def test_good_audio_has_no_findings(tmp_path, form):
    source, _ = write(tmp_path, form, noise())
    made = make(source, tmp_path)
    assert (made.fault, made.samples) == (None, RATE)
    assert made.notes == {}


@pytest.mark.parametrize("form", ALL)
def test_faults_of_files(tmp_path, form):
    source, path = write(tmp_path, form, noise())
    data = path.read_bytes()
    for keep in (len(data) // 2, len(data) - 100):
        path.write_bytes(data[:keep])
        made = make(source, tmp_path)
        # libsndfile does not say whether a FLAC that it cannot decode is cut or damaged
        expected = "damaged" if form == "flac" else "truncated"
        assert (made.kind, made.path, made.samples) == (expected, "", 0), keep
        assert made.fault.startswith("truncated")
    path.write_bytes(b"saya nak kopi satu " * 99)
    assert make(source, tmp_path).kind == "not audio"
    path.write_bytes(b"")
    assert make(source, tmp_path).kind == ("empty" if form in FORMATS else "truncated")
    path.unlink()
    assert (make(source, tmp_path).kind, make(source, tmp_path).fault) == (
        "missing",
        "no such file",
    )
    path.mkdir()
    assert make(source, tmp_path).fault == "not a file"


@pytest.mark.parametrize("form", ["wav", "flac", "ogg", "mp3", "ark", "flac.ark"])
def test_no_samples(tmp_path, form):
    source, _ = write(tmp_path, form, noise(0))
    assert make(source, tmp_path).kind in ("empty", "not audio")


@pytest.mark.parametrize("form", ALL)
def test_channels_and_rates_are_put_right_and_told(tmp_path, form):
    rate = 48000 if form == "opus" else 22050
    source, _ = write(tmp_path, form, noise(1, rate, 2), rate)
    made = make(source, tmp_path)
    assert made.notes == {"stereo": "2 channels, mixed down", "resampled": f"{rate} Hz"}
    assert abs(made.samples - RATE) <= 1 and made.path.endswith("u.flac")
    info = soundfile.info(made.path)
    assert (info.samplerate, info.channels, info.frames) == (RATE, 1, made.samples)


@pytest.mark.parametrize(("value", "form"), [(np.nan, "WAV"), (np.inf, "W64"), (-np.inf, "CAF")])
def test_samples_that_are_no_numbers(tmp_path, value, form):
    samples = noise()
    samples[7] = value
    path = tmp_path / "x"
    soundfile.write(path, samples, RATE, format=form, subtype="FLOAT")
    made = make(str(path), tmp_path)
    assert (made.kind, made.fault) == ("NaN", "has 1 NaN or infinite samples")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format=form, subtype="FLOAT")
    ark = b"AUDIO\x04" + len(buffer.getvalue()).to_bytes(4, "little") + buffer.getvalue()
    (tmp_path / "x.ark").write_bytes(ark)
    assert make(f"{tmp_path}/x.ark:0", tmp_path).kind == "NaN"


@pytest.mark.parametrize("inside", FORMATS)
@pytest.mark.parametrize("named", FORMATS)
def test_mislabelled_formats_are_read_for_what_they_are(tmp_path, named, inside):
    path = tmp_path / f"x.{named.upper()}"
    path.write_bytes(encoded(inside, noise()))
    made = make(str(path), tmp_path)
    assert (made.fault, made.samples) == (None, RATE)
    if FORMATS[named] == FORMATS[inside]:
        assert made.notes == {}
    else:
        assert made.notes == {"mislabelled": f"named .{named}, is {FORMATS[inside]}"}
        assert made.path.endswith("u.flac")  # never referred to under the wrong name


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"\0\0\0\x20ftypM4A ", "not audio that can be read: is MP4 or M4A"),
        (b"\x1a\x45\xdf\xa3", "not audio that can be read: is Matroska or WebM"),
        (b"\n <!doctype html>", "not audio that can be read: is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "is a Git LFS pointer: fetch"),
        (b"PK\x03\x04", "not audio that can be read: is a zip"),
        (b"\xff\xf1\x50\x80", "is AAC"),
    ],
)
@pytest.mark.parametrize("name", ["x.wav", "x.mp3", "x.raw", "x.vox"])
def test_other_files_under_a_name_of_sound(tmp_path, name, head, found):
    (tmp_path / name).write_bytes(head + bytes(2000))
    made = make(str(tmp_path / name), tmp_path)
    assert made.kind == "not audio"
    assert found in made.fault or name in ("x.raw", "x.vox")


def test_truncated_mp3_without_a_length_and_with_tags(tmp_path):
    data = encoded("mp3", noise(3))
    tagged = b"ID3\x04\0\0\0\0\x10\0" + bytes(2048) + data
    (tmp_path / "t.mp3").write_bytes(tagged)
    assert make(str(tmp_path / "t.mp3"), tmp_path).notes == {}
    (tmp_path / "t.mp3").write_bytes(tagged[:-300])
    assert make(str(tmp_path / "t.mp3"), tmp_path).fault.startswith("truncated: ")
    # without its first frame, which says how long it is, nobody can know
    second = data.index(data[:2], 10)
    (tmp_path / "n.mp3").write_bytes(data[second : len(data) // 2])
    made = make(str(tmp_path / "n.mp3"), tmp_path)
    assert made.fault is None and 0 < made.samples < 3 * RATE


def test_an_ogg_cut_between_pages_is_told(tmp_path):
    data = encoded("ogg", noise(20))
    (tmp_path / "x.ogg").write_bytes(data[: data.rindex(b"OggS")])
    made = make(str(tmp_path / "x.ogg"), tmp_path)
    assert made.fault is None and made.notes == {"no end mark": "may be truncated"}


def test_silence_is_told(tmp_path):
    source, _ = write(tmp_path, "wav", noise() * 0)
    assert make(source, tmp_path).notes == {"silent": "all samples are 0"}


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "W64", "RF64", "CAF", "NIST"])
def test_half_a_file_of_other_formats(tmp_path, form):
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(), RATE, format=form, subtype="PCM_16")
    data = buffer.getvalue()
    (tmp_path / "x").write_bytes(data)
    assert make(str(tmp_path / "x"), tmp_path).samples == RATE
    (tmp_path / "x").write_bytes(data[: len(data) // 2])
    assert make(str(tmp_path / "x"), tmp_path).fault is not None


def test_flacs_in_an_ark_that_does_not_say_how_long_they_are(tmp_path):
    parts = [encoded("flac", noise(0.5 + n)) for n in range(3)]
    (tmp_path / "x.ark").write_bytes(b"".join(b"u%d " % n + part for n, part in enumerate(parts)))
    offset = 0
    for n, part in enumerate(parts):
        made = make(f"{tmp_path}/x.ark:{offset + 3}", tmp_path)
        assert made.samples == (0.5 + n) * RATE
        samples, _ = soundfile.read(io.BytesIO(part), dtype="int16")
        np.testing.assert_array_equal(soundfile.read(made.path, dtype="int16")[0], samples)
        offset += len(part) + 3
    assert make(f"{tmp_path}/x.ark:{offset}", tmp_path).fault.startswith("truncated: the ark ends")
    (tmp_path / "x.ark").write_bytes(parts[0][:-900])
    assert make(f"{tmp_path}/x.ark:0", tmp_path).kind == "damaged"


@pytest.mark.slow
@pytest.mark.parametrize("form", ALL)
def test_no_damage_stops_the_run(tmp_path, form):
    """Random bytes changed or cut: a fault or a result, never another exception."""
    source, path = write(tmp_path, form, noise(0.5))
    data = path.read_bytes()
    for seed in range(300):
        generator = random.Random(seed)
        damaged = bytearray(data[: generator.choice([len(data), generator.randrange(len(data))])])
        for _ in range(generator.randrange(6)):
            limit = generator.choice([64, len(damaged)])
            if damaged:
                damaged[generator.randrange(min(limit, len(damaged)))] = generator.randrange(256)
        path.write_bytes(damaged)
        made = make(source, tmp_path)
        assert (made.fault is None) == bool(made.path) == bool(made.samples)
        assert (made.fault is None) != bool(made.kind)


def test_a_report_holds_whatever_was_found(tmp_path):
    findings = [
        Finding("b", "missing", "left out", "/a\tb\n.wav", "x|y\u2028z"),
        Finding("a", "stereo", "put right", "/\udcff.wav", "2 channels"),
    ]
    write_findings(tmp_path / "f.tsv", findings)
    assert list(read_findings(tmp_path / "f.tsv")) == [
        Finding("a", "stereo", "put right", "/ .wav", "2 channels"),
        Finding("b", "missing", "left out", "/a b .wav", "x|y z"),
    ]
    assert list(read_findings(tmp_path / "none.tsv")) == []
