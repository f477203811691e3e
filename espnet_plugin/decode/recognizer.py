"""Audio in, text out: features, encoder and search of one model, without ESPnet."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.checkpoint import check_state, load_config, load_state
from espnet_plugin.decode.loops import is_loop, retry
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.rules import TokenRules, text_limit
from espnet_plugin.decode.search import Hypothesis, beam, greedy
from espnet_plugin.decode.slices import encode_slices, lay_out_for_few_rows
from espnet_plugin.features import N_SAMPLES, SAMPLE_RATE, LogMel
from espnet_plugin.prompt import PromptBuilder, parse_lang_tokens
from espnet_plugin.whisper import load_whisper


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
        self.model_dir = Path(model_dir)
        self.dtype = getattr(torch, options.dtype)
        self.prompt = PromptBuilder(model_dir, parse_lang_tokens(options.lang_tokens))
        self.whisper: Any = load_whisper(model_dir).eval().to(self.device, self.dtype)
        if self.device.type == "cpu":
            lay_out_for_few_rows(self.whisper.decoder)
        self._settings = load_config(model_dir)
        config: Any = self.whisper.config
        self.log_mel = LogMel(config.num_mel_bins).to(self.device)
        self.rules = TokenRules.of(
            self.prompt,
            config.vocab_size,
            suppress=options.suppress,
            timestamps=options.timestamps,
            device=self.device,
        )

    def load(self, model_dir: str | Path) -> None:
        """Take the weights of another directory of the same architecture and tokenizer.

        Raises:
            FileNotFoundError: If the weights are missing.
            ValueError: If its tensors are not those of this model.
        """
        state = load_state(model_dir)
        check_state(state, self._settings, str(model_dir))
        bare = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        self.whisper.load_state_dict(bare, strict=True)
        self.model_dir = Path(model_dir)

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
        if self.options.tail and self.options.pad == "batch":
            # Silence that is attended to: the padding of `pad_sequence` is, up to the new length.
            longer = (lengths + round(self.options.tail * SAMPLE_RATE)).clamp(max=N_SAMPLES)
            lengths = torch.maximum(longer, lengths)
            speech = torch.nn.functional.pad(speech, (0, int(lengths.max()) - speech.shape[1]))
        return self.log_mel(speech.to(self.device), lengths, self.options.pad)

    @torch.inference_mode()
    def encode(
        self, features: torch.Tensor, frames: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the encoder; returns `(batch, positions, d_model)` and `(batch,)` long lengths."""
        return encode_slices(self.whisper, features.to(self.dtype), frames)

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
            ValueError: If a language is not in `lang_tokens`, or the model computes NaN.
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
            found = greedy(*batch)
        else:
            beams = beam(*batch, options.beam_size, normalize_length=options.normalize_length)
            found = [hyps[0] for hyps in beams]
        looped = [row for row, hyp in enumerate(found) if self._is_loop(hyp)]
        again = [found[row] for row in looped]
        if looped and options.on_loop == "retry":
            again = retry(batch, looped, options.beam_size)
        for row, hyp in zip(looped, again, strict=True):
            if self._is_loop(hyp):
                found[row] = replace(found[row], loop="kept")
            else:
                found[row] = replace(hyp, loop="retried")
        return found

    def _is_loop(self, hypothesis: Hypothesis) -> bool:
        return is_loop(self.text(hypothesis), hypothesis.limited)

    def __call__(self, waves: Sequence[torch.Tensor], langs: Sequence[str]) -> list[Hypothesis]:
        """Decode a batch of utterances `(samples,)`; `text` turns a hypothesis into text."""
        seconds = [len(wave) / SAMPLE_RATE for wave in waves]
        return self.search(*self.encode(*self.features(waves)), seconds, langs)

    def text(self, hypothesis: Hypothesis) -> str:
        """Return the text on one line, white space single."""
        return " ".join(self.prompt.decode(hypothesis.ids).split())
