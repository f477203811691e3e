import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_plugin.corpora import espeak
from espnet_plugin.corpora.markup import Segment, parse_markup
from espnet_plugin.corpora.speakers import ACCENTS, VARIANTS, speakers

needs_espeak = pytest.mark.skipif(
    shutil.which(espeak.PROGRAM) is None, reason=f"no espeak-ng: {espeak.install_command()}"
)
SENTENCE = parse_markup("Jom [buy lunch], saya [super hungry] ni.", "cs", "x")


def test_english_stretches_name_their_voice_and_take_the_punctuation():
    assert espeak.to_ssml(SENTENCE, "en-us") == (
        '<speak>Jom <voice xml:lang="en-us">buy lunch,</voice> saya '
        '<voice xml:lang="en-us">super hungry</voice> ni.</speak>'
    )
    assert (
        espeak.to_ssml([Segment("R&D <now>", "en")], None) == "<speak>R&amp;D &lt;now&gt;</speak>"
    )


@given(st.lists(st.tuples(st.text(max_size=9), st.sampled_from(["ms", "en"])), max_size=6))
def test_ssml_is_well_formed_and_loses_nothing(parts):
    parts = [("".join(c for c in t if c.isprintable()), lang) for t, lang in parts]
    ssml = espeak.to_ssml([Segment(*part) for part in parts], "en-gb")
    heard = "".join(ElementTree.fromstring(ssml).itertext())
    assert "".join(heard.split()) == "".join("".join(t for t, _ in parts).split())


def test_speakers_are_disjoint_and_differ():
    casts = {split: speakers(split) for split in VARIANTS}
    variants = [variant for split in VARIANTS.values() for variant in split]
    assert len(set(variants)) == len(variants)
    names = [s.name for cast in casts.values() for s in cast]
    assert len(set(names)) == len(names)
    assert len({len(name) for name in names}) == 1  # so utterances sort as their speakers do
    for cast in casts.values():
        assert len({(s.variant, s.pitch, s.speed, s.accent) for s in cast}) == len(cast)
        assert all(140 <= s.speed <= 185 for s in cast)
        assert {s.accent for s in cast} == set(ACCENTS)
    assert "en" not in ACCENTS


@pytest.mark.parametrize(("platform", "command"), [("linux", "apt-get"), ("darwin", "brew")])
def test_missing_program_names_the_command(platform, command, monkeypatch):
    monkeypatch.setattr(espeak.shutil, "which", lambda name: None)
    monkeypatch.setattr(espeak, "install_command", lambda: real(platform))
    with pytest.raises(FileNotFoundError, match=f"espeak-ng is not installed; run: .*{command}"):
        espeak.check_espeak()


real = espeak.install_command


class Fake:
    """An espeak-ng with other voices, or other pronunciation."""

    voices = "Pty Language\n 5  ms --/M Malay\n 5  es --/M Spanish\n"
    variants = "".join(f" 5 variant --/M x !v/{v}\n" for vs in VARIANTS.values() for v in vs)
    said = "d'i@ rI2p'o@t 'itu tS'A@dZ3"

    def run(self, command, **kwargs):
        listed = {"--voices": self.voices, "--voices=variant": self.variants}
        out = listed.get(command[1], self.said)
        return subprocess.CompletedProcess(command, 0, out.encode(), b"")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("voices", "Pty Language\n 5  es --/M Spanish\n", "espeak-ng has no voice for ms; install"),
        ("variants", " 5 variant --/M x !v/f1\n", r"lacks the variants Alex .*; install"),
        ("said", "d'i@ rI2p'o@t 'itu tS'arg@*r", "second English stretch with voice en-gb"),
    ],
)
def test_incomplete_program(field, value, message, monkeypatch):
    fake = Fake()
    monkeypatch.setattr(espeak.shutil, "which", lambda name: "/bin/" + name)
    monkeypatch.setattr(espeak.subprocess, "run", fake.run)
    espeak.check_espeak()
    setattr(fake, field, value)
    with pytest.raises(ValueError, match=message):
        espeak.check_espeak()


def test_failures_are_reported(monkeypatch):
    speaker = speakers("train")[0]

    def answer(code=0, out=b"", err=b""):
        done = subprocess.CompletedProcess([], code, out, err)
        monkeypatch.setattr(espeak.subprocess, "run", lambda *a, **k: done)

    answer(code=1, err=b"Error: no such voice")
    with pytest.raises(ValueError, match="failed: Error: no such voice: <speak>Jom"):
        espeak.speak(SENTENCE, "cs", speaker)
    answer(out=b"RIFF")
    with pytest.raises(ValueError, match=r"gave no audio \(4 bytes\)"):
        espeak.speak(SENTENCE, "cs", speaker)
    answer(out=b"RIFF" + bytes(32) + b"data" + bytes(2000))
    with pytest.raises(ValueError, match="only silence"):
        espeak.speak(SENTENCE, "cs", speaker)
    with pytest.raises(ValueError, match="no voice for language 'fr'"):
        espeak.speak(SENTENCE, "fr", speaker)


@needs_espeak
def test_every_english_stretch_is_english():
    espeak.check_espeak()
    text = parse_markup("Dia [report], itu [charger] saya, mana [charger]?", "cs", "x")
    for accent in ACCENTS:
        assert espeak._phonemes("ms", text, accent).count("dZ") == 2
    assert "dZ" not in espeak._phonemes("ms", text, None)


@needs_espeak
@pytest.mark.parametrize("lang", ["cs", "ms", "en", "es"])
def test_speech(lang):
    for speaker in (speakers("test")[0], speakers("test")[5]):
        wave, rate = espeak.speak(SENTENCE, lang, speaker)
        assert rate == 22050
        assert wave.dtype == np.float32
        assert 1.5 < len(wave) / rate < 6.0
        assert 0.05 < np.abs(wave).max() < 0.999
        again, _ = espeak.speak(SENTENCE, lang, speaker)
        assert np.array_equal(wave, again)
