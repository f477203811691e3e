"""Audio in, text out: features, encoder and search of one model, without ESPnet."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.cli import nearest
from espnet_plugin.decode.rules import SUPPRESS, TokenRules, text_limit
from espnet_plugin.decode.search import Hypothesis, beam, greedy
from espnet_plugin.features import SAMPLE_RATE, LogMel
from espnet_plugin.prompt import PromptBuilder, parse_lang_tokens
from espnet_plugin.whisper import encode, load_whisper

PADS = ("batch", "30s")
DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Options:
    """How to decode. What changes a result is here and is written beside it.

    Attributes:
        pad: `batch` (as long as the batch needs, masked) or `30s` (Whisper's own).
        lang_tokens: Data languages to Whisper's codes, as `cs:ms ms:ms en:en`; None: the default.
        beam_size: 1 is greedy.
        normalize_length: Rank hypotheses of the beam by the mean score of a token.
        max_tokens_per_second: Guard against endless repetition: an utterance ends at this many
            tokens for each second of audio, and 10 more. 0: only Whisper's 448 positions.
        suppress: `none`, `begin` or `whisper`, as in `rules.TokenRules.of`.
        timestamps: Generate timestamps (they do not appear in the text).
        dtype: Of weights and activations.
    """

    pad: str = "batch"
    lang_tokens: str | None = None
    beam_size: int = 1
    normalize_length: bool = False
    max_tokens_per_second: float = 12.0
    suppress: str = "none"
    timestamps: bool = False
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, known in (("pad", PADS), ("suppress", SUPPRESS), ("dtype", DTYPES)):
            if (value := getattr(self, name)) not in known:
                hint = nearest(str(value), known)
                raise ValueError(f"{name} is one of {', '.join(known)}, got '{value}'{hint}")
        if self.beam_size < 1:
            raise ValueError(f"beam_size must be at least 1, got {self.beam_size}")
        if self.max_tokens_per_second < 0:
            raise ValueError(f"max_tokens_per_second is negative: {self.max_tokens_per_second}")
        parse_lang_tokens(self.lang_tokens)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the language table resolved."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        table = parse_lang_tokens(self.lang_tokens)
        return values | {"lang_tokens": " ".join(f"{k}:{v}" for k, v in table.items())}


class Recognizer:
    """One Whisper model that decodes batches of utterances of up to 30 s."""

    def __init__(
        self, model_dir: str | Path, options: Options, device: torch.device | str = "cpu"
    ) -> None:
        """Load a model directory.

        Args:
            model_dir: Hugging Face Whisper directory.
            options: How to decode.
            device: Where to compute.

        Raises:
            FileNotFoundError: If the directory or one of its files is missing.
            ValueError: If its tensors are not those of its configuration, or `lang_tokens` names
                a language that the model does not have.
        """
        self.options, self.device = options, torch.device(device)
        self.dtype = getattr(torch, options.dtype)
        self.prompt = PromptBuilder(model_dir, parse_lang_tokens(options.lang_tokens))
        self.whisper: Any = load_whisper(model_dir).eval().to(self.device, self.dtype)
        config = self.whisper.config
        self.log_mel = LogMel(config.num_mel_bins).to(self.device)
        self.rules = TokenRules.of(
            self.prompt,
            config.vocab_size,
            suppress=options.suppress,
            timestamps=options.timestamps,
            device=self.device,
        )

    @torch.inference_mode()
    def features(self, waves: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute log-mel features.

        Args:
            waves: Each `(samples,)` float within -1..1, 16 kHz, at most 30 s.

        Returns:
            `(batch, mel, frames)` float32, and `(batch,)` long frames.
        """
        lengths = torch.tensor([len(wave) for wave in waves], device=self.device)
        speech = torch.nn.utils.rnn.pad_sequence(list(waves), batch_first=True)
        return self.log_mel(speech.to(self.device), lengths, self.options.pad)

    @torch.inference_mode()
    def encode(
        self, features: torch.Tensor, frames: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the encoder; returns `(batch, positions, d_model)` and `(batch,)` long lengths."""
        return encode(self.whisper, features.to(self.dtype), frames)

    def search(
        self,
        memory: torch.Tensor,
        lengths: torch.Tensor,
        seconds: Sequence[float],
        langs: Sequence[str],
    ) -> list[Hypothesis]:
        """Decode an encoded batch.

        Args:
            memory: `(batch, positions, d_model)` float.
            lengths: `(batch,)` long.
            seconds: Length of each utterance.
            langs: Language of each, a key of `lang_tokens`.

        Returns:
            The best hypothesis of each, in order.

        Raises:
            ValueError: If a language is not in `lang_tokens`.
        """
        options = self.options
        prompts = [self.prompt.prompt(lang, options.timestamps) for lang in langs]
        rate = options.max_tokens_per_second or None
        limits = [text_limit(s, len(prompts[0]), rate) for s in seconds]
        batch = (
            self.whisper,
            memory,
            lengths,
            torch.tensor(prompts, device=self.device),
            self.rules,
            torch.tensor(limits, device=self.device),
        )
        if options.beam_size == 1:
            return greedy(*batch)
        found = beam(*batch, options.beam_size, normalize_length=options.normalize_length)
        return [hyps[0] for hyps in found]

    def __call__(self, waves: Sequence[torch.Tensor], langs: Sequence[str]) -> list[Hypothesis]:
        """Decode a batch of utterances `(samples,)`; `text` turns a hypothesis into text."""
        seconds = [len(wave) / SAMPLE_RATE for wave in waves]
        return self.search(*self.encode(*self.features(waves)), seconds, langs)

    def text(self, hypothesis: Hypothesis) -> str:
        """Return the text on one line, white space single."""
        return " ".join(self.prompt.decode(hypothesis.ids).split())
