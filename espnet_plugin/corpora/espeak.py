"""Speech by espeak-ng: each stretch of a sentence spoken in its own language by one voice.

espeak-ng's Malay voice reads English by Malay spelling rules, so English stretches are put in SSML
(``<voice xml:lang="en-us">``), which keeps timbre, pitch and speed.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from xml.sax.saxutils import escape

import numpy as np

from espnet_plugin.corpora.markup import Segment
from espnet_plugin.corpora.speakers import ACCENTS, MALAY, SPANISH, VARIANTS, Speaker

PROGRAM = "espeak-ng"
AMPLITUDE = 50  # of 200; at the default of 100 some variants clip
TIMEOUT = 30.0  # seconds for one sentence, which takes about 0.03


def install_command(platform: str = sys.platform) -> str:
    """Say how espeak-ng is installed on this kind of machine."""
    return "brew install espeak-ng" if platform == "darwin" else "sudo apt-get install espeak-ng"


def check_espeak() -> None:
    """Make sure that espeak-ng is there, has what the demo needs, and switches languages.

    Raises:
        FileNotFoundError: No espeak-ng; the message has the command that installs it.
        ValueError: A voice or variant is missing, or a second change of language in a sentence is
            ignored (espeak-ng 1.51 does so for some voice names).
    """
    if shutil.which(PROGRAM) is None:
        raise FileNotFoundError(f"{PROGRAM} is not installed; run: {install_command()}")
    advice = f"install a complete espeak-ng (1.51 or later): {install_command()}"
    listed = {line.split()[1] for line in _run("--voices").decode().splitlines()[1:]}
    if missing := sorted({MALAY, SPANISH} - listed):
        raise ValueError(f"{PROGRAM} has no voice for {' '.join(missing)}; {advice}")
    files = set(re.findall(r"!v/(\S+)", _run("--voices=variant").decode()))
    if missing := sorted({variant for split in VARIANTS.values() for variant in split} - files):
        raise ValueError(f"{PROGRAM} lacks the variants {' '.join(missing)}; {advice}")
    words = (("dia", "ms"), ("report", "en"), ("itu", "ms"), ("charger", "en"))
    probe = [Segment(*word) for word in words]
    for accent in ACCENTS:
        heard = _phonemes(MALAY, probe, accent)
        if "dZ" not in heard.split()[-1]:  # the Malay voice would say a hard g
            raise ValueError(
                f"{PROGRAM} does not speak a sentence's second English stretch with voice {accent} "
                f"(phonemes: {heard}); {advice}"
            )


def to_ssml(segments: Sequence[Segment], accent: str | None) -> str:
    """Write a sentence as SSML in which stretches of English name their voice.

    Args:
        segments: The sentence; stretches other than English are in the base voice's language.
        accent: espeak-ng's English voice; None leaves English to the base voice.

    Returns:
        One line of SSML; punctuation that follows an English stretch is inside its element, where
        it shapes the intonation.
    """
    parts: list[str] = []
    english = False
    for segment in segments:
        text = segment.text
        if english and segment.lang != "en":
            tail = re.match(r"[^\w\s]*", text)
            assert tail is not None
            parts[-1] = parts[-1].removesuffix("</voice>") + escape(tail.group()) + "</voice>"
            text = text[tail.end() :]
        english = accent is not None and segment.lang == "en"
        parts.append(
            f'<voice xml:lang="{accent}">{escape(text)}</voice>' if english else escape(text)
        )
    return "<speak>" + " ".join("".join(parts).split()) + "</speak>"


def base_voice(lang: str, speaker: Speaker) -> tuple[str, str | None]:
    """Name the voice that speaks a sentence, and the accent of its embedded English.

    Args:
        lang: The sentence's language: ``cs``, ``ms``, ``en`` or ``es``.
        speaker: The speaker.

    Returns:
        espeak-ng's voice (``ms+f2``), and the English voice for stretches inside it, or None.

    Raises:
        ValueError: A language that the demo does not speak.
    """
    voices = {"cs": MALAY, "ms": MALAY, "en": speaker.accent, "es": SPANISH}
    if lang not in voices:
        raise ValueError(f"no voice for language {lang!r}; there are {' '.join(voices)}")
    return f"{voices[lang]}+{speaker.variant}", speaker.accent if lang == "cs" else None


def speak(segments: Sequence[Segment], lang: str, speaker: Speaker) -> tuple[np.ndarray, int]:
    """Synthesise a sentence.

    Args:
        segments: The sentence, split by language.
        lang: Its language.
        speaker: Who says it.

    Returns:
        The waveform, float32 ``(samples,)`` within -1..1, and its sampling rate in Hz (22050).

    Raises:
        ValueError: espeak-ng failed, complained or was silent.
    """
    voice, accent = base_voice(lang, speaker)
    options = [
        "-v",
        voice,
        "-s",
        str(speaker.speed),
        "-p",
        str(speaker.pitch),
        "-a",
        str(AMPLITUDE),
    ]
    return _decode_wav(_run("-m", "--stdin", "--stdout", *options, text=to_ssml(segments, accent)))


def _decode_wav(data: bytes) -> tuple[np.ndarray, int]:
    """Read 16-bit mono PCM from a WAV stream, whose header cannot know its length."""
    start = data.find(b"data")
    if data[:4] != b"RIFF" or start < 0 or len(data) < start + 10:
        raise ValueError(f"{PROGRAM} gave no audio ({len(data)} bytes)")
    rate = int.from_bytes(data[24:28], "little")
    end = start + 8 + (len(data) - start - 8) // 2 * 2
    wave = np.frombuffer(data[start + 8 : end], dtype="<i2").astype(np.float32) / 32768
    if not np.abs(wave).max() > 0.01:
        raise ValueError(f"{PROGRAM} spoke only silence")
    return wave, rate


def _phonemes(voice: str, segments: Sequence[Segment], accent: str | None) -> str:
    """Ask how a sentence is pronounced, in espeak-ng's own notation."""
    ssml = to_ssml([Segment(f" {s.text} ", s.lang) for s in segments], accent)
    return " ".join(_run("-m", "-q", "-x", "-v", voice, "--stdin", text=ssml).decode().split())


def _run(*options: str, text: str = "") -> bytes:
    """Run espeak-ng; its errors are errors, even where it exits with 0."""
    command = [PROGRAM, *options]
    try:
        done = subprocess.run(
            command, input=text.encode(), capture_output=True, timeout=TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"{' '.join(command)} took over {TIMEOUT:.0f} s: {text}") from None
    complaint = done.stderr.decode(errors="replace").strip()
    if done.returncode != 0 or "error" in complaint.lower():
        reason = complaint or f"exit code {done.returncode}"
        raise ValueError(f"{' '.join(command)} failed: {reason}: {text}")
    return done.stdout
