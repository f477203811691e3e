"""The audio that exports are verified with."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.prompt import PromptBuilder

WHEEL = "eight recordings of ESPnet's wheel (an4)"


@dataclass(frozen=True)
class Clip:
    """One utterance.

    Attributes:
        utt: Its id.
        wave: ``(samples,)`` float32 within -1..1, 16 kHz, at most 30 s.
        code: Whisper's code of its language.
    """

    utt: str
    wave: np.ndarray[Any, Any]
    code: str


def spread(count: int, wanted: int) -> list[int]:
    """Return which of `count` things to take, evenly spread; all of them for 0."""
    if wanted <= 0 or wanted >= count:
        return list(range(count))
    return [i * count // wanted for i in range(wanted)]


def clips_of(
    sets: Sequence[str | Path],
    number: int,
    model_dir: str | Path,
    lang_tokens: Mapping[str, str],
) -> list[Clip]:
    """Read utterances of formatted sets, or those of ESPnet's wheel.

    Args:
        sets: Directories that recipe stage 3 made; none: the recordings in ESPnet's wheel.
        number: Utterances of each set, evenly spread over it; 0 takes all.
        model_dir: A model that knows the languages.
        lang_tokens: Language of the data -> Whisper's code.

    Raises:
        FileNotFoundError: A set is missing.
        ValueError: A language is not in the table, or audio is unusable.
    """
    if not sets:
        return _wheel(number)
    from espnet_plugin.decode.audio import load_set

    prompt = PromptBuilder(model_dir, lang_tokens)
    clips = []
    for path in map(Path, sets):
        utterances = load_set(path.parent, path.name)
        for i in spread(len(utterances), number):
            u = utterances[i]
            code = prompt.lang_code(u.lang, f"{path}: utterance {u.utt}")
            clips.append(Clip(u.utt, u.read().numpy(), code))
    return clips


def _wheel(number: int) -> list[Clip]:
    from espnet_plugin.corpora.an4 import find_archive, read_members, read_sound

    members = read_members(find_archive())
    names = sorted(name for name in members if name.endswith(".sph"))
    chosen = [names[i] for i in spread(len(names), number)]
    return [Clip(Path(name).stem, read_sound(members, name), "en") for name in chosen]


def clips_hash(clips: Sequence[Clip]) -> str:
    """Return a SHA-256 over ids, languages and samples."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(f"{clip.utt} {clip.code} {len(clip.wave)}\n".encode())
        digest.update(np.ascontiguousarray(clip.wave, dtype="<f4").tobytes())
    return digest.hexdigest()
