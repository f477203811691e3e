"""The decoder's input, built in one place for training, decoding and export checks.

Whisper's sequence: start, language, task, no-timestamps (or timestamps around the text), the
tokens of `" " + text` (Whisper writes words with a leading space), end of text.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.cli import nearest

MAX_TOKENS = 448  # positions of Whisper's decoder
TEXT_STYLES = ("as_is", "spoken")
TIME_PRECISION = 0.02  # seconds between two timestamp tokens
DEFAULT_LANG_TOKENS = {"cs": "ms", "ms": "ms", "en": "en"}


def text_tokenizer(model_dir: str | Path) -> Any:
    """Return a `tokenizers.Tokenizer` for which every text is text.

    Whisper's tokenizer turns a literal `<|endoftext|>` or `<|0.50|>` in a line into the special
    token of that name; `split_special_tokens` prevents only the first (timestamps are not marked
    special). Here the tokenizer is built without any added token.

    Raises:
        FileNotFoundError: If the directory has no `tokenizer.json`.
        ValueError: If that file cannot be read.
    """
    return _read(model_dir, _plain)


def _read[Made](model_dir: str | Path, make: Callable[[str], Made]) -> Made:
    """Make something of a directory's `tokenizer.json`; raises as `text_tokenizer`."""
    path = Path(model_dir) / "tokenizer.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; a model directory is made by espnet_plugin.bin.import_model "
            "(recipe stage 5)"
        )
    try:
        return make(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises nothing more specific
        raise ValueError(f"{path}: not a tokenizer ({error})") from None


# Models of one family have the same file, which takes a second to parse.
@lru_cache(maxsize=2)
def _plain(text: str) -> Any:
    from tokenizers import Tokenizer

    bare = {**json.loads(text), "added_tokens": [], "post_processor": None}
    return Tokenizer.from_str(json.dumps(bare))


@lru_cache(maxsize=2)
def _vocabulary(text: str) -> dict[str, int]:
    spec = json.loads(text)
    return {**spec["model"]["vocab"], **{t["content"]: t["id"] for t in spec["added_tokens"]}}


def parse_lang_tokens(table: str | Mapping[str, str] | None) -> dict[str, str]:
    """Parse a table from data languages to Whisper language codes, as `cs:ms ms:ms en:en`.

    Raises:
        ValueError: If an entry is not `language:code`.
    """
    if table is None:
        return dict(DEFAULT_LANG_TOKENS)
    if isinstance(table, Mapping):
        return dict(table)
    pairs = {}
    for entry in table.split():
        if not re.fullmatch(r"\w+:[a-z]+", entry):
            raise ValueError(f"lang_tokens: '{entry}' is not 'language:code', e.g. 'cs:ms'")
        key, _, value = entry.partition(":")
        pairs[key] = value
    if not pairs:
        raise ValueError("lang_tokens is empty: give e.g. 'cs:ms ms:ms en:en'")
    return pairs


@dataclass
class PromptBuilder:
    """Turns text and its language into the decoder's token sequence.

    Attributes:
        model_dir: A Hugging Face Whisper directory; its tokenizer gives every token id.
        lang_tokens: Language of the data (`cs`, `ms`, `en`, ...) -> Whisper language code.
        text_style: `as_is`, or `spoken` (normalised: lower case, no punctuation).
        task: `transcribe` or `translate`.
    """

    model_dir: str | Path
    lang_tokens: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_LANG_TOKENS))
    text_style: str = "as_is"
    task: str = "transcribe"

    def __post_init__(self) -> None:
        """Check the options against the tokenizer.

        Raises:
            ValueError: If a style, task or language code does not exist.
        """
        if self.text_style not in TEXT_STYLES:
            raise ValueError(f"text_style is one of {', '.join(TEXT_STYLES)}: '{self.text_style}'")
        for code in self.lang_tokens.values():
            if f"<|{code}|>" not in self.vocab:
                known = sorted(t[2:-2] for t in self.vocab if re.fullmatch(r"<\|[a-z]{2,3}\|>", t))
                raise ValueError(
                    f"lang_tokens: the model in {self.model_dir} has no language '{code}'"
                    f"{nearest(code, known)}; it has {' '.join(known)}"
                )
        if f"<|{self.task}|>" not in self.vocab:
            raise ValueError(f"task is transcribe or translate: '{self.task}'")

    @cached_property
    def tokenizer(self) -> Any:
        """The transformers tokenizer of the model directory, for other programs' sake: slow."""
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(str(self.model_dir))

    @cached_property
    def _text_tokenizer(self) -> Any:
        return text_tokenizer(self.model_dir)

    @cached_property
    def vocab(self) -> dict[str, int]:
        """Ids of all tokens, the special ones too."""
        return _read(self.model_dir, _vocabulary)

    def token_id(self, token: str) -> int:
        """Return the id of a special token such as `<|endoftext|>`.

        Raises:
            ValueError: If the tokenizer has no such token.
        """
        if token not in self.vocab:
            raise ValueError(f"the tokenizer in {self.model_dir} has no token {token}")
        return self.vocab[token]

    @property
    def start(self) -> int:
        """Id of `<|startoftranscript|>`."""
        return self.token_id("<|startoftranscript|>")

    @property
    def end(self) -> int:
        """Id of `<|endoftext|>`."""
        return self.token_id("<|endoftext|>")

    @cached_property
    def timestamp_begin(self) -> int:
        """Id of `<|0.00|>`; larger ids are later times."""
        return self.token_id("<|0.00|>")

    @cached_property
    def prompt_ids(self) -> frozenset[int]:
        """All ids that only occur in prompts: start, languages, tasks, no-timestamps.

        They lie between the end of text and the first timestamp; the loss skips them.
        """
        return frozenset(range(self.end + 1, self.timestamp_begin))

    def lang_code(self, lang: str, where: str = "") -> str:
        """Return Whisper's language code for a language of the data.

        Args:
            lang: A key of `lang_tokens`.
            where: File and line or utterance, for the message.

        Raises:
            ValueError: If the table has no entry; names the nearest.
        """
        if lang not in self.lang_tokens:
            known = " ".join(f"{k}:{v}" for k, v in self.lang_tokens.items())
            raise ValueError(
                f"{where + ': ' if where else ''}language '{lang}' is not in lang_tokens"
                f"{nearest(lang, self.lang_tokens)}: {known}"
            )
        return self.lang_tokens[lang]

    def prompt(self, lang: str, timestamps: bool = False) -> list[int]:
        """Return the prompt: start, language, task and, without timestamps, no-timestamps."""
        ids = [self.start, self.token_id(f"<|{self.lang_code(lang)}|>")]
        ids.append(self.token_id(f"<|{self.task}|>"))
        return ids if timestamps else [*ids, self.token_id("<|notimestamps|>")]

    def style(self, text: str, lang: str) -> str:
        """Apply `text_style` to a text."""
        if self.text_style == "as_is":
            return text.strip()
        from espnet_plugin.text import normalize

        return " ".join(normalize(text, lang).words)

    def text_ids(self, text: str, lang: str) -> list[int]:
        """Tokenise a text; a literal `<|endoftext|>` in it is text, never the special token."""
        return self.encode_batch([self.style(text, lang)])[0]

    def encode_batch(self, styled: Sequence[str]) -> list[list[int]]:
        """Tokenise texts that `style` has been applied to; an empty text gives no tokens."""
        encoded = self._text_tokenizer.encode_batch_fast(
            [" " + text for text in styled], add_special_tokens=False
        )
        return [e.ids if text else [] for e, text in zip(encoded, styled, strict=True)]

    def time_token(self, seconds: float) -> int:
        """Return the id of the timestamp token nearest to a time in seconds, within 0..30."""
        if not 0 <= seconds <= 30:
            raise ValueError(f"a timestamp lies within 0 and 30 s, got {seconds}")
        return self.timestamp_begin + round(seconds / TIME_PRECISION)

    def encode(
        self, text: str, lang: str, *, utt: str = "?", times: tuple[float, float] | None = None
    ) -> np.ndarray:
        """Build the whole sequence of one utterance or line.

        Args:
            text: The transcript, without Whisper's special tokens.
            lang: Its language, a key of `lang_tokens`.
            utt: Utterance id or line number, for messages.
            times: Start and end in seconds; the text is then put between timestamp tokens.

        Returns:
            `(tokens,)` int64: prompt, text, end.

        Raises:
            ValueError: If the text is empty or needs more than 448 positions.
        """
        body = self.text_ids(text, lang)
        if not body:
            raise ValueError(f"utterance {utt}: the text is empty")
        if times is not None:
            body = [self.time_token(times[0]), *body, self.time_token(times[1])]
        ids = [*self.prompt(lang, timestamps=times is not None), *body, self.end]
        if len(ids) > MAX_TOKENS:
            raise ValueError(
                f"utterance {utt}: {len(ids)} tokens with prompt and end, "
                f"Whisper's decoder has {MAX_TOKENS} positions"
            )
        return np.asarray(ids, dtype=np.int64)

    def decode(self, ids: Sequence[int]) -> str:
        """Turn tokens back into text: special tokens dropped, outer spaces stripped."""
        end = self.end
        return self._text_tokenizer.decode([i for i in ids if i < end]).strip()
