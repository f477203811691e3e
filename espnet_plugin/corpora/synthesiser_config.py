r"""Which synthesiser speaks, as a YAML file (`--synthesiser FILE`), or `espeak` without one.

    kind: command                      # a program that writes a file, or WAV to its output
    command: piper --model {voice}.onnx --output_file {output}
    stdin: "{text}"                    # what it reads; leave out where {text} is in the command
    voices:
      - {name: aida, ms: ms_MY-a-medium, en: en_GB-alba-medium}
      - {name: zul, cs: multi-7, ms: multi-7, en: multi-7}

    kind: http                         # a server that answers with audio
    url: http://127.0.0.1:5002/api/tts
    body: {text: "{text}", speaker: "{voice}", language: "{lang}"}   # sent as JSON; GET without it
    headers: {Authorization: "Bearer $TTS_TOKEN"}    # $NAME is read from the environment
    audio_field: audio                 # base64 in a JSON answer; leave out where the answer is audio
    languages: {ms: ms-MY, en: en-SG}  # what {lang} becomes; else the code itself
    timeout: 60
    retries: 3
    voices: [{name: v1, cs: v1, ms: v1, en: v1}]

A voice names what it can speak: ``cs`` is a whole line with both languages. A code-switched line is
spoken by a voice with ``cs`` as one, by a voice with both languages stretch by stretch, and joined
(then the set has ``utt2times``); by a voice with neither not at all. Placeholders are ``{text} {lang}
{voice} {output}``; words of a command that hold spaces are quoted as in a shell, which is not run.
"""  # noqa: E501

import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from espnet_plugin.cli import nearest

KINDS = ("espeak", "command", "http")
PLACEHOLDERS = ("text", "lang", "voice", "output")
_PLACEHOLDER = re.compile(r"\{(\w*)\}")
_VARIABLE = re.compile(r"\$([A-Za-z_]\w*)")
_NAME = re.compile(r"[A-Za-z0-9_.]+")


@dataclass(frozen=True)
class Voice:
    """A speaker of a synthesiser.

    Attributes:
        name: Part of ids; letters, digits, ``_`` and ``.``.
        speaks: What the synthesiser calls it, by language (``cs``: both in one line).
    """

    name: str
    speaks: Mapping[str, str]

    def __hash__(self) -> int:
        return hash(self.name)


@dataclass(frozen=True)
class SynthesiserConfig:
    """A synthesiser. See the module for what each field is in YAML."""

    kind: str = "espeak"
    """``espeak``, ``command`` or ``http``."""
    command: str = ""
    """Of a command: program and options."""
    stdin: str = ""
    """Of a command: what it reads."""
    url: str = ""
    """Of a server."""
    body: Mapping[str, Any] | None = None
    """Of a server: sent as JSON by POST; None sends a GET request."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Of a server; ``$NAME`` is a variable of the environment."""
    audio_field: str = ""
    """Of a server: field of a JSON answer that holds the audio in base64."""
    languages: Mapping[str, str] = field(default_factory=dict)
    """Language -> what ``{lang}`` becomes."""
    timeout: float = 60.0
    """Seconds that one utterance may take."""
    retries: int = 3
    """Of a server: how often a request is repeated that failed for the moment."""
    voices: tuple[Voice, ...] = ()
    """Who speaks."""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: Naming the field, what was found and what is allowed.
        """
        if self.kind not in KINDS:
            raise ValueError(
                f"kind: '{self.kind}'{nearest(self.kind, KINDS)}; {' or '.join(KINDS)}"
            )
        if not 0 < self.timeout <= 3600:
            raise ValueError(f"timeout: {self.timeout} seconds; above 0, at most 3600")
        if not 0 <= self.retries <= 20:
            raise ValueError(f"retries: {self.retries}; 0 to 20")
        if self.kind == "espeak":
            return
        if not self.voices:
            raise ValueError("voices: none; at least one is needed")
        names = [voice.name for voice in self.voices]
        if len(set(names)) < len(names):
            raise ValueError("voices: one name is given twice")
        texts = self._check_command() if self.kind == "command" else self._check_http()
        for text in texts:
            for name in _PLACEHOLDER.findall(text):
                if name not in PLACEHOLDERS:
                    raise ValueError(
                        f"{{{name}}} in {text!r}: no such placeholder; there are "
                        f"{' '.join('{' + p + '}' for p in PLACEHOLDERS)}"
                    )
        if not any("{text}" in text for text in texts):
            raise ValueError("nothing is told what to say: {text} has to be in the command or body")

    def _check_command(self) -> list[str]:
        try:
            words = shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"command: {error}: {self.command}") from None
        if not words:
            raise ValueError("command: empty; a program is needed")
        return [*words, self.stdin]

    def _check_http(self) -> list[str]:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: '{self.url}'; http://HOST... or https://HOST... is needed")
        texts = [self.url, *strings(self.body)]
        if any("{output}" in text for text in texts):
            raise ValueError("{output} is for commands; a server answers with the audio")
        return texts


def strings(value: Any) -> list[str]:
    """Return all strings in a parsed JSON or YAML value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in strings(part)]
    return []


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values in the place of placeholders."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def from_environment(text: str) -> str:
    """Put variables of the environment in the place of their names.

    Raises:
        ValueError: One is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ValueError(f"headers: the environment has no variable {match[1]}")
        return os.environ[match[1]]

    return _VARIABLE.sub(value, text)


def read_config(path: str | Path) -> SynthesiserConfig:
    """Read a configuration.

    Args:
        path: ``espeak``, or a YAML file.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not YAML, or an unknown or wrong setting; names file and field.
    """
    if str(path) == "espeak":
        return SynthesiserConfig()
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; --synthesiser is espeak, or a YAML file")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ValueError(f"{path}: a mapping 'name: value' is expected")
    known = [entry.name for entry in fields(SynthesiserConfig)]
    for name, value in values.items():
        if name not in known:
            raise ValueError(
                f"{path}: unknown setting '{name}'{nearest(str(name), known)}; there are "
                f"{', '.join(known)}"
            )
        _check_type(f"{path}: {name}", name, value)
    if "voices" in values:
        values["voices"] = tuple(_voice(f"{path}: voices", v) for v in values["voices"])
    try:
        return SynthesiserConfig(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _check_type(where: str, name: str, value: Any) -> None:
    if name in ("headers", "languages"):
        good = isinstance(value, dict) and all(
            isinstance(k, str) and isinstance(v, str) for k, v in value.items()
        )
        wanted = "a mapping of texts"
    elif name == "body":
        good, wanted = isinstance(value, dict), "a mapping"
    elif name == "voices":
        good, wanted = isinstance(value, list), "a list"
    elif name in ("timeout", "retries"):
        number = int if name == "retries" else (int, float)
        good, wanted = isinstance(value, number) and not isinstance(value, bool), "a number"
    else:
        good, wanted = isinstance(value, str), "a text"
    if not good:
        raise ValueError(f"{where}: found {value!r:.60}, allowed is {wanted}")


def _voice(where: str, value: Any) -> Voice:
    if not isinstance(value, dict) or not all(
        isinstance(k, str) and isinstance(v, str) for k, v in value.items()
    ):
        raise ValueError(f"{where}: {value!r:.60} is not {{name: ..., LANGUAGE: ...}}")
    name = value.get("name", "")
    speaks = {language: voice for language, voice in value.items() if language != "name"}
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: the name '{name}' has not only letters, digits, _ and .")
    if not speaks or not all(re.fullmatch(r"[a-z]{2,3}", language) for language in speaks):
        raise ValueError(
            f"{where}: {name} speaks {' '.join(speaks) or 'no language'}; codes needed"
        )
    return Voice(name, speaks)
