"""How to run a published model: where its files lie, and the four programs' own words."""

from __future__ import annotations

from collections.abc import Iterator

from espnet_plugin.export.facts import Facts
from espnet_plugin.export.formats import FORMATS, target

TASK = "automatic-speech-recognition"


def folder_of(name: str) -> str:
    """Return the folder of a published repository in which an export lies; empty is its root."""
    format_name, _, dtype = name.partition("_")
    folder = FORMATS[format_name].folder
    return f"{folder}-{dtype}" if folder and dtype else folder


def how_to_run(facts: Facts, repo: str) -> Iterator[str]:
    """Yield lines of the card: each exported format with its program."""
    codes = list(dict.fromkeys(facts.lang_tokens.values()))
    code = codes[0] if codes else "en"
    table = ", ".join(f"`{lang}`: `{token}`" for lang, token in facts.lang_tokens.items())
    yield "Whisper has no language of its own for mixed speech (`cs`). Give these: " + table + "."
    yield "A `revision`, the hash of a commit, fixes what you get."
    yield ""
    yield "transformers:"
    yield f"""```python
from transformers import pipeline

recognise = pipeline("{TASK}", model="{repo}")
options = {{"language": "{code}", "task": "transcribe"}}
print(recognise("audio.wav", generate_kwargs=options)["text"])
```"""
    for name in facts.exports:
        folder = folder_of(name)
        if name.startswith("openai"):
            yield "openai-whisper:"
            yield f"""```python
import whisper
from huggingface_hub import hf_hub_download

model = whisper.load_model(hf_hub_download("{repo}", "{folder}/{FORMATS["openai"].file}"))
print(model.transcribe("audio.wav", language="{code}")["text"])
```"""
        elif name.startswith("ct2"):
            yield f"faster-whisper ({target(*name.split('_', 1)).title}):"
            yield f"""```python
from faster_whisper import WhisperModel
from huggingface_hub import snapshot_download

path = snapshot_download("{repo}", allow_patterns="{folder}/*")
segments, _ = WhisperModel(path + "/{folder}").transcribe("audio.wav", language="{code}")
print("".join(segment.text for segment in segments))
```"""
        elif name.startswith("espnet"):
            yield "ESPnet, with this project's plugin (`pip install espnet-asyncswitch`):"
            yield f"""```python
import soundfile
from espnet_plugin import Speech2Text

recognise = Speech2Text.from_pretrained("{repo}", language="{code}")
print(recognise(soundfile.read("audio.wav")[0])[0][0])  # 16 kHz, one channel, up to 30 s
```"""
