"""Synthesisers: espeak-ng, any command, any HTTP endpoint; what each says of its failures.

A request that fails for itself (this text, this moment) raises `SynthesisError`, which is counted.
What would fail for every text raises ValueError at once: a missing program, a refused connection, a
server that says 401, 403 or 404. Nothing is replaced by another voice or by silence.
"""

import base64
import http.client
import io
import json
import shlex
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from espnet_plugin.corpora import espeak
from espnet_plugin.corpora.markup import Segment
from espnet_plugin.corpora.speakers import Speaker, speakers
from espnet_plugin.corpora.synthesiser_config import (
    SynthesiserConfig,
    Voice,
    fill,
    from_environment,
)

LOUDEST_SILENCE = 0.003  # of full scale
LARGEST = 64 << 20  # bytes of an answer
HOPELESS = (400, 401, 403, 404, 405)  # answers that another try would not change
LONGEST_WAIT = 30.0  # seconds between two tries
_FIRST_WAIT = 0.5


class SynthesisError(Exception):
    """One text could not be spoken; `reason` in few words, the message says what was found."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Synthesiser(ABC):
    """Speaks texts; used by several threads at a time.

    Attributes:
        voices: Who speaks.
        pause: Longest pause inside an utterance that is kept, seconds.
    """

    voices: tuple[Voice, ...]
    pause: float = 0.5

    @abstractmethod
    def speak(
        self, stretches: Sequence[tuple[str, str]], lang: str, voice: Voice
    ) -> tuple[np.ndarray, int]:
        """Speak a text.

        Args:
            stretches: ``(text, language)``, which join to it.
            lang: Its language, one that the voice has.
            voice: Who.

        Returns:
            float32 ``(samples,)``, and the sampling rate in Hz.

        Raises:
            SynthesisError: It could not be spoken.
            ValueError: Nothing can be.
        """


class Espeak(Synthesiser):
    """espeak-ng: 64 training voices of the demo (none of its validation or test voices)."""

    pause = 0.15  # it ends a clause wherever the language changes

    def __init__(self) -> None:
        """Make sure that espeak-ng is there.

        Raises:
            FileNotFoundError: It is not; says how to install it.
            ValueError: It lacks voices.
        """
        espeak.check_espeak()
        self._speakers: dict[str, Speaker] = {s.name: s for s in speakers("train")}
        self.voices = tuple(
            Voice(name, {"cs": name, "ms": name, "en": name, "es": name}) for name in self._speakers
        )

    def speak(
        self, stretches: Sequence[tuple[str, str]], lang: str, voice: Voice
    ) -> tuple[np.ndarray, int]:
        """Speak a text; its English stretches with an English voice."""
        segments = [Segment(text, language) for text, language in stretches]
        try:
            return espeak.speak(segments, lang, self._speakers[voice.name])
        except ValueError as error:
            raise SynthesisError("espeak-ng failed", str(error)) from error


class Command(Synthesiser):
    """A program that is run for each text, without a shell."""

    def __init__(self, config: SynthesiserConfig) -> None:
        """Find the program.

        Raises:
            FileNotFoundError: There is none of that name.
        """
        self.voices = config.voices
        self._config = config
        self._words = shlex.split(config.command)
        if shutil.which(self._words[0]) is None:
            raise FileNotFoundError(f"{self._words[0]}: no such program ({config.command})")

    def speak(
        self, stretches: Sequence[tuple[str, str]], lang: str, voice: Voice
    ) -> tuple[np.ndarray, int]:
        """Run the program; its audio is in {output}, or what it writes out where there is none."""
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "speech.wav"
            values = _values(self._config, stretches, lang, voice) | {"output": str(output)}
            words = [fill(word, values) for word in self._words]
            try:
                done = subprocess.run(
                    words,
                    input=fill(self._config.stdin, values).encode(),
                    capture_output=True,
                    timeout=self._config.timeout,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                raise SynthesisError(
                    "command took too long", f"over {self._config.timeout:g} s: {words}"
                ) from None
            except OSError as error:  # a text that is too long for a command line, say
                raise SynthesisError("command cannot run", f"{error}: {words[0]}") from None
            if done.returncode:
                last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
                found = f"exit code {done.returncode}: {' '.join(last)}: {words}"
                raise SynthesisError("command failed", found)
            if not any("{output}" in word for word in self._words):
                return decode(done.stdout, "command wrote")
            if not output.is_file():
                raise SynthesisError("command wrote no file", f"{words}")
            return decode(output.read_bytes(), "command wrote")


class Http(Synthesiser):
    """A server that is asked for each text."""

    def __init__(self, config: SynthesiserConfig) -> None:
        """Prepare the requests.

        Raises:
            ValueError: A header wants a variable that is not set.
        """
        self.voices = config.voices
        self._config = config
        self._headers = {name: from_environment(value) for name, value in config.headers.items()}
        # the environment's proxies are for the net, not for the server that the user names
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def speak(
        self, stretches: Sequence[tuple[str, str]], lang: str, voice: Voice
    ) -> tuple[np.ndarray, int]:
        """Ask the server, again where it is busy or breaks down for the moment."""
        request = self._request(_values(self._config, stretches, lang, voice))
        for attempt in range(self._config.retries + 1):
            try:
                with self._opener.open(request, timeout=self._config.timeout) as answer:
                    data = answer.read(LARGEST + 1)
                break
            except urllib.error.HTTPError as error:
                said = error.read(300).decode("utf-8", "replace").strip()
                found = f"{self._config.url}: {error.code} {error.reason}: {said}"
                if error.code in HOPELESS:
                    raise ValueError(f"the synthesiser refuses: {found}") from None
                wait = _wait(attempt, error.headers.get("Retry-After"))
                failure = SynthesisError(f"server said {error.code}", found)
            except TimeoutError:
                limit = f"no answer within {self._config.timeout:g} s"
                failure = SynthesisError("server took too long", f"{self._config.url}: {limit}")
                wait = _wait(attempt)
            except urllib.error.URLError as error:
                if isinstance(error.reason, TimeoutError):
                    failure = SynthesisError("server took too long", f"{self._config.url}")
                elif attempt == self._config.retries:
                    raise ValueError(
                        f"the synthesiser cannot be reached: {self._config.url}: {error.reason}"
                    ) from None
                wait = _wait(attempt)
            except (OSError, http.client.HTTPException) as error:  # the connection broke
                failure = SynthesisError("connection broke", f"{self._config.url}: {error}")
                wait = _wait(attempt)
            if attempt == self._config.retries:
                raise failure from None
            time.sleep(wait)
        if len(data) > LARGEST:
            raise SynthesisError("answer too large", f"over {LARGEST} bytes")
        if self._config.audio_field:
            data = self._unpack(data)
        return decode(data, "server sent")

    def _request(self, values: Mapping[str, str]) -> urllib.request.Request:
        quoted = {name: urllib.parse.quote(value, safe="") for name, value in values.items()}
        url = fill(self._config.url, quoted)
        if self._config.body is None:
            return urllib.request.Request(url, headers=self._headers)
        body = json.dumps(_filled(self._config.body, values), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", **self._headers}
        return urllib.request.Request(url, body, headers)

    def _unpack(self, data: bytes) -> bytes:
        name = self._config.audio_field
        try:
            return base64.b64decode(json.loads(data)[name], validate=True)
        except (ValueError, KeyError, TypeError) as error:
            found = f"{error!r}: {data[:100]!r}"
            raise SynthesisError(f"answer without audio in '{name}'", found) from None


def _wait(attempt: int, after: str | None = None) -> float:
    """Return how long to wait before the next try, seconds."""
    seconds = _FIRST_WAIT * 2**attempt
    if after is not None and after.isdigit():
        seconds = float(after)
    return min(seconds, LONGEST_WAIT)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, Mapping):
        return {name: _filled(part, values) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(part, values) for part in value]
    return value


def _values(
    config: SynthesiserConfig, stretches: Sequence[tuple[str, str]], lang: str, voice: Voice
) -> dict[str, str]:
    return {
        "text": "".join(text for text, _ in stretches).strip(),
        "lang": config.languages.get(lang, lang),
        "voice": voice.speaks[lang],
    }


def decode(data: bytes, who: str) -> tuple[np.ndarray, int]:
    """Read audio of any format that libsndfile reads; several channels become their mean.

    Args:
        data: The file.
        who: For the reasons, e.g. ``server sent``.

    Returns:
        float32 ``(samples,)``, and the sampling rate in Hz.

    Raises:
        SynthesisError: It is no audio, or silence.
    """
    if not data:
        raise SynthesisError(f"{who} nothing", "0 bytes")
    try:
        samples, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise SynthesisError(f"{who} no audio", f"{error}: {data[:60]!r}") from None
    wave = samples.mean(axis=1)
    if not len(wave) or not np.isfinite(wave).all() or np.abs(wave).max() < LOUDEST_SILENCE:
        raise SynthesisError(f"{who} silence", f"{len(wave) / max(rate, 1):.2f} s")
    return wave, int(rate)


def make_synthesiser(config: SynthesiserConfig) -> Synthesiser:
    """Make the synthesiser that a configuration describes.

    Raises:
        FileNotFoundError: Its program is missing.
        ValueError: It lacks something else.
    """
    if config.kind == "espeak":
        return Espeak()
    return Command(config) if config.kind == "command" else Http(config)
