"""Whisper's own normalisers, for languages that this project has no rules of its own for.

The classes are those of transformers (importing them does not import torch), kept linear; the
British-to-American spelling table is the file that openai-whisper ships. Both are loaded at first
use.
"""

import functools
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

# Written without spaces between words: every character is a word, as in the Whisper paper (appendix
# C), but for Latin words.
_UNSPACED = frozenset({"zh", "ja", "th", "lo", "my", "yue"})


@functools.cache
def english_spellings() -> dict[str, str]:
    """British to American spellings, 1 741 words, from openai-whisper's package data.

    Raises:
        ImportError: openai-whisper is not installed.
    """
    spec = importlib.util.find_spec(
        "whisper"
    )  # finds without importing: the package itself would import torch
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "normalizers" / "english.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    raise ImportError(
        "the English normaliser needs openai-whisper's spelling table: pip install openai-whisper"
    )


@functools.cache
def whisper_normalizer(lang: str) -> Callable[[str], str]:
    """Return EnglishTextNormalizer for `en`, BasicTextNormalizer for any other language."""
    from espnet_plugin.text.whisper_linear import Basic, English

    if lang == "en":
        return English(english_spellings())
    return Basic(split_letters=lang in _UNSPACED)
