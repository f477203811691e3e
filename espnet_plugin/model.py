"""Whisper as an ESPnet model: one transformers module, three ways to feed its decoder.

Encoder and decoder, as ESPnet knows them, are views (`views.py`) of the one module `whisper`; the
state dict holds `whisper.*` and nothing else, the tied embedding once. There is no CTC layer.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel

from espnet_plugin import loss_kernels
from espnet_plugin import whisper as passes
from espnet_plugin.augment import augment_features
from espnet_plugin.by_language import batch_sums
from espnet_plugin.checkpointing import checkpointed
from espnet_plugin.checkpointing import parse as parse_checkpointing
from espnet_plugin.cli import nearest
from espnet_plugin.compiling import compile_layer
from espnet_plugin.features import LogMel
from espnet_plugin.lora import inject, keep_names
from espnet_plugin.lora import parse as parse_lora
from espnet_plugin.loss import token_losses
from espnet_plugin.pads import PADS
from espnet_plugin.prompt import PromptBuilder, parse_lang_tokens
from espnet_plugin.tied import embed
from espnet_plugin.views import WhisperDecoderView, WhisperEncoderView

AUTOCASTS = ("auto", "bfloat16", "none")
NO_CTC = "these models have no CTC layer: use --ctc_weight 0"


class NoCTC(torch.nn.Module):
    """Stands where ESPnet expects a CTC layer; has no parameters and refuses to be used."""

    def forward(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Refuse.

        Raises:
            ValueError: Always.
        """
        raise ValueError(NO_CTC)


class AsyncSwitchModel(ESPnetASRModel):
    """Whisper for ESPnet's trainer and inference.

    With `speech` it is trained on pairs; without, on text alone: the encoder is not run and the
    decoder sees an encoder output of zeros (arXiv 2506.14190, section III-B-1).
    """

    def __init__(
        self,
        model_dir: str | Path | None = None,
        pad: str = "batch",
        memory: str = "zero",
        label_smoothing: float = 0.0,
        autocast: str = "auto",
        lang_tokens: str | Mapping[str, str] | None = None,
        text_style: str = "as_is",
        loss_kernel: str = "auto",
        compile: bool = False,
        checkpointing: str | bool = "none",
        lora: str | Mapping[str, Any] | None = None,
        encoder: Any = None,
        decoder: Any = None,
        token_list: Sequence[str] | None = None,
        specaug: torch.nn.Module | None = None,
        **stock: Any,
    ) -> None:
        """Load the weights of a model directory.

        Args:
            model_dir: Hugging Face Whisper directory; default: that of the `encoder` view.
            pad: `batch` (as long as the batch needs, masked) or `30s` (Whisper's own).
            memory: For text alone: `zero` (exact) or `skip` (no cross-attention, approximate).
            label_smoothing: 0..1.
            autocast: `bfloat16`, `none`, or `auto`: bfloat16 on a GPU that has it and on CPUs with
                AMX tiles; on CPUs with AVX512-BF16 alone it is slower than float32 (measured).
            lang_tokens: As in `prompt.parse_lang_tokens`.
            text_style: As in `prompt.PromptBuilder`.
            loss_kernel: Which implementation computes the training loss, see `loss_kernels.py`.
            compile: Run the layers through `torch.compile` in training and validation.
            checkpointing: Whose layers run again in the backward pass, see `checkpointing.py`.
            lora: Low-rank adapters by group, as in `lora.parse`.
            encoder: An unbound view, where ESPnet's own task builds the parts.
            decoder: Likewise.
            token_list: ESPnet's token list; its size must be the vocabulary's.
            specaug: ESPnet's SpecAugment, applied to the features in training.
            stock: What ESPnet's own task passes besides and these models do not have; anything
                that would change the result is refused.

        Raises:
            FileNotFoundError: If the model directory is missing.
            ValueError: If an option is unknown or a size differs.
        """
        AbsESPnetModel.__init__(self)
        for name in ("frontend", "normalize", "preencoder", "postencoder"):
            if stock.pop(name, None) is not None:
                raise ValueError(f"{name} must be null: Whisper's features are computed inside")
        for name in ("ctc", "joint_network", "vocab_size"):
            stock.pop(name, None)
        if stock:
            raise ValueError(f"unknown model option(s): {', '.join(sorted(stock))}")
        _check("pad", pad, PADS)
        _check("memory", memory, passes.MEMORIES)
        _check("autocast", autocast, AUTOCASTS)
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing lies in 0..1, got {label_smoothing}")
        loss_kernels.check(loss_kernel, label_smoothing, autocast)
        directory = model_dir if model_dir is not None else getattr(encoder, "model_dir", None)
        if directory is None:
            raise ValueError("model_dir is missing: the directory of the model to start from")
        self.pad, self.memory, self.label_smoothing = pad, memory, float(label_smoothing)
        self.autocast, self.loss_kernel, self.compile_layers = autocast, loss_kernel, compile
        self.checkpointing = parse_checkpointing(checkpointing)
        self._chosen: dict[torch.device, str] = {}  # loss kernel by device
        self.whisper: Any = passes.load_whisper(directory)
        if adapters := parse_lora(lora):
            inject(self.whisper, adapters)
            keep_names(self)
        config: Any = self.whisper.config
        self.log_mel, self.specaug = LogMel(config.num_mel_bins), specaug
        # DDP would send each process rank 0's filters and window with every batch.
        constants = [f"log_mel.{name}" for name, _ in self.log_mel.named_buffers()]
        self._ddp_params_and_buffers_to_ignore = constants
        self.prompt = PromptBuilder(directory, parse_lang_tokens(lang_tokens), text_style)
        if token_list is not None and len(token_list) != config.vocab_size:
            raise ValueError(
                f"vocabulary mismatch: the token list has {len(token_list)} entries, the model in "
                f"{directory} {config.vocab_size}"
            )
        self.token_list = list(token_list) if token_list is not None else []
        self.encoder = encoder if encoder is not None else WhisperEncoderView(model_dir=directory)
        self.decoder = (
            decoder
            if decoder is not None
            else WhisperDecoderView(config.vocab_size, config.d_model, model_dir=directory)
        )
        self.encoder.bind(self.whisper, self.prompt)
        self.decoder.bind(self.whisper, self.prompt)
        self.ctc = NoCTC()
        self.ctc_weight = 0.0
        self.use_transducer_decoder = False
        self.vocab_size = config.vocab_size
        self.blank_id = -1  # no token is blank: id 0 is "!"
        self.ignore_id = -1
        self.sos, self.eos = self.prompt.start, self.prompt.end
        low, high = min(self.prompt.prompt_ids), max(self.prompt.prompt_ids)
        self._prompt_range = (low, high)
        self.languages = tuple(self.prompt.lang_tokens)

    def precision(self, device: torch.device) -> str:
        """Say what products run in on this device, and why."""
        name = "bfloat16" if self._half(device) else "float32"
        old = self.autocast == "auto" and device.type == "cuda" and name == "float32"
        return f"{name} (--autocast {self.autocast}{': this GPU has no bfloat16' if old else ''})"

    def _half(self, device: torch.device) -> bool:
        """Tell whether products run in bfloat16 on this device."""
        if self.autocast != "auto":
            return self.autocast == "bfloat16"
        if device.type == "cuda":
            return torch.cuda.is_bf16_supported(including_emulation=False)  # T4, V100: slower
        return device.type == "cpu" and torch.cpu._is_amx_tile_supported()

    def _autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        if self._half(device):
            # Each weight is used once: autocast's cache would only keep the copies for longer.
            return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
        return nullcontext()

    def encode(
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, pad: str | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run features and encoder.

        Args:
            speech: `(batch, samples)` float, 16 kHz.
            speech_lengths: `(batch,)` long, samples.
            pad: In place of the model's own.

        Returns:
            Memory `(batch, positions, d_model)`, lengths `(batch,)` long; one position is 20 ms.
        """
        features, frames = self.log_mel(speech, speech_lengths, pad or self.pad)
        if self.specaug is not None and self.training and torch.is_grad_enabled():
            features = augment_features(self.specaug, features, speech_lengths)
        # Nothing below a frozen encoder needs a graph; it would hold all its activations.
        train = torch.is_grad_enabled() and any(
            p.requires_grad for p in self.whisper.encoder.parameters()
        )
        with torch.set_grad_enabled(train):
            layer_pass = self._layer_pass("encoder", features.device)
            return passes.encode(self.whisper, features.to(self._dtype), frames, layer_pass)

    def _layer_pass(self, part: str, device: torch.device) -> Callable[..., torch.Tensor]:
        run: Callable[..., torch.Tensor]
        run = passes.encoder_layer if part == "encoder" else passes.decoder_layer
        if self.compile_layers:
            run = compile_layer(run, device)
        return checkpointed(run) if part in self.checkpointing else run

    def _loss_kernel(self, device: torch.device) -> str:
        """Settle on a loss kernel, and say so once."""
        if device not in self._chosen:
            chosen = loss_kernels.choose(self.loss_kernel, device, self._half(device))
            self._chosen[device] = chosen[0]
            logging.info("loss kernel on %s: %s (%s)", device, *chosen)
        return self._chosen[device]

    @property
    def _dtype(self) -> torch.dtype:
        return self.whisper.decoder.embed_tokens.weight.dtype

    def forward(  # type: ignore[override]
        self,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        speech: torch.Tensor | None = None,
        speech_lengths: torch.Tensor | None = None,
        lang: torch.Tensor | None = None,
        utt_id: Sequence[str] = (),
        pad: str | None = None,
        **other: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Compute the loss of a batch.

        Args:
            text: `(batch, tokens)` long: prompt, text, end (`PromptBuilder.encode`), padded with
                any value.
            text_lengths: `(batch,)` long.
            speech: `(batch, samples)` float, 16 kHz; None trains on text alone.
            speech_lengths: `(batch,)` long.
            lang: `(batch,)` or `(batch, 1)` long, each utterance's language as an index into
                `languages`; for the statistics by language, in validation.
            utt_id: Ids; where they have an attribute `lang` (validation batches of text), it is
                the language of all of them.
            pad: Padding of the audio, in place of the model's own.
            other: Nothing else is allowed.

        Returns:
            Mean cross-entropy per counted token; statistics `loss`, `acc` (0..1; not by every loss
            kernel) and `ppl`, in validation also those of `by_language.batch_sums` if languages
            are known; and the number of counted tokens as the weight, so that averages over
            batches and ranks are averages over tokens. Prompt positions do not count.

        Raises:
            ValueError: If there is a stray batch entry.
        """
        if other:
            raise ValueError(f"unexpected batch entries: {', '.join(sorted(other))}")
        text = text[:, : int(text_lengths.max())]
        inputs, targets = text[:, :-1].clamp(min=0), text[:, 1:]
        counted = self.scored(text, text_lengths)
        # Asked before a GPU gets its work: later it would have to finish it before it answers.
        places = counted.flatten().nonzero()[:, 0]
        goals = targets.flatten()[places]
        with self._autocast(text.device):
            if speech is None or speech_lengths is None:
                memory: torch.Tensor | str = self.memory
                memory_lengths = None
            else:
                memory, memory_lengths = self.encode(speech, speech_lengths, pad)
                if (pad or self.pad) == "30s":
                    memory_lengths = None  # all of it is attended to
            embedded, weight = embed(self.whisper.decoder.embed_tokens.weight, inputs)
            hidden = passes.decode(
                self.whisper,
                inputs,
                memory,
                memory_lengths,
                layer_pass=self._layer_pass("decoder", text.device),
                embedded=embedded,
            )
        del memory  # under autocast the decoder has its own copy
        states = hidden.flatten(0, 1).index_select(0, places).float()
        dtype = torch.bfloat16 if self._half(text.device) else torch.float32
        count, sums = len(goals), {}
        correct: torch.Tensor | None
        if torch.is_grad_enabled():
            kernel = self._loss_kernel(text.device) if self.training else "chunked"
            smoothing = self.label_smoothing if self.training else 0.0
            loss, correct = loss_kernels.training_loss(
                kernel, states, weight, goals, smoothing, dtype, 1 / max(count, 1)
            )
        else:
            nll, hits = token_losses(states, weight, goals, dtype)
            loss, correct = nll.mean(), hits.sum()
            if (codes := self._language_codes(len(text), lang, utt_id)) is not None:
                rows = codes.to(text.device)[:, None].expand_as(counted).flatten()[places]
                sums = batch_sums(nll, hits, rows, self.languages)
        # a copy: ESPnet divides the loss by accum_grad in place
        stats = {"loss": loss.detach().clone(), "acc": None if correct is None else correct / count}
        stats |= {"ppl": loss.detach().exp()} | sums
        return force_gatherable((loss, stats, count), loss.device)

    def scored(self, text: torch.Tensor, text_lengths: torch.Tensor) -> torch.Tensor:
        """Tell which targets count in the loss: all but those of the prompt.

        Args:
            text: `(batch, tokens)` long, as for `forward`.
            text_lengths: `(batch,)` long.

        Returns:
            `(batch, tokens - 1)` bool, of `text[:, 1:]`.
        """
        targets, (low, high) = text[:, 1:], self._prompt_range
        inside = torch.arange(targets.shape[1], device=text.device) < text_lengths[:, None] - 1
        return inside & ((targets < low) | (targets > high))

    def _language_codes(
        self, batch: int, lang: torch.Tensor | None, utt_id: Sequence[str]
    ) -> torch.Tensor | None:
        """Return `(batch,)` long, indices into `languages`; None where they are not known."""
        if lang is not None:
            return lang.reshape(batch)
        if (name := getattr(utt_id, "lang", None)) is not None:
            return torch.full((batch,), self.languages.index(name))
        return None

    def collect_feats(  # type: ignore[override]
        self, speech: torch.Tensor, speech_lengths: torch.Tensor, **_: Any
    ) -> dict[str, torch.Tensor]:
        """Return log-mel features `(batch, frames, mel)` for ESPnet's `collect_stats`."""
        features, frames = self.log_mel(speech, speech_lengths, "batch")
        return {"feats": features.transpose(1, 2), "feats_lengths": frames}


def _check(option: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(
            f"{option} is one of {', '.join(known)}, got '{value}'{nearest(value, known)}"
        )
