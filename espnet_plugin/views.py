"""ESPnet's encoder and decoder as views of the one Whisper module of `model.AsyncSwitchModel`.

A view keeps the module in a tuple, so it has no parameters and no state-dict entries of its own.
Its constructor reads `config.json` alone; the model loads the weights and calls `bind`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from espnet2.asr.decoder.abs_decoder import AbsDecoder
from espnet2.asr.encoder.abs_encoder import AbsEncoder
from espnet2.legacy.nets.scorer_interface import BatchScorerInterface

from espnet_plugin import whisper as passes
from espnet_plugin.checkpoint import load_config
from espnet_plugin.decode.rules import TokenRules
from espnet_plugin.prompt import MAX_TOKENS, PromptBuilder

if TYPE_CHECKING:
    _View = torch.nn.Module
else:
    _View = object

RAW_AUDIO = 1  # ESPnet's input_size where the model computes its own features


class _Bound(_View):
    """What both views share: a configuration, and later the module."""

    def _read(self, model_dir: str | Path) -> dict[str, Any]:
        self.model_dir = str(model_dir)
        self._bound: tuple[Any, ...] = ()
        return load_config(model_dir)

    def bind(self, whisper: torch.nn.Module, prompt: PromptBuilder) -> None:
        """Attach the model's Whisper module and its prompt builder."""
        self._bound = (whisper, prompt)  # a tuple: not registered as a submodule

    def _part(self, index: int) -> Any:
        if not self._bound:
            raise ValueError(f"{type(self).__name__} is not bound: build an AsyncSwitchModel")
        return self._bound[index]

    @property
    def whisper(self) -> Any:
        """The bound Whisper module; ValueError if the view is not part of a model yet."""
        return self._part(0)

    @property
    def prompt(self) -> PromptBuilder:
        """The bound prompt builder; ValueError if the view is not part of a model yet."""
        return self._part(1)


class WhisperEncoderView(_Bound, AbsEncoder):
    """Whisper's encoder as ESPnet knows encoders."""

    def __init__(self, input_size: int = RAW_AUDIO, *, model_dir: str | Path) -> None:
        """Read the size of the model.

        Args:
            input_size: 1 (`--input_size 1`: raw audio) or the checkpoint's mel bins.
            model_dir: Hugging Face Whisper directory.

        Raises:
            FileNotFoundError: If the directory is missing.
            ValueError: If the input size is another one.
        """
        super().__init__()
        config = self._read(model_dir)
        n_mels = config["num_mel_bins"]
        if input_size not in (RAW_AUDIO, n_mels):
            raise ValueError(
                f"input_size is {input_size}, the model in {model_dir} has {n_mels} mel bins "
                f"(give --input_size {RAW_AUDIO}: it computes them itself)"
            )
        self._output_size = int(config["d_model"])

    def output_size(self) -> int:
        """Return the model's width."""
        return self._output_size

    def forward(
        self,
        xs_pad: torch.Tensor,
        ilens: torch.Tensor,
        prev_states: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Encode log-mel features.

        Args:
            xs_pad: `(batch, frames, mel)` float; values beyond `ilens` are ignored.
            ilens: `(batch,)` long, frames.
            prev_states: Not used.

        Returns:
            Memory `(batch, positions, d_model)`, lengths `(batch,)` long, None.
        """
        features = xs_pad.transpose(1, 2)
        if (mask := passes.length_mask(ilens, features.shape[2])) is not None:
            features = features * mask[:, 0]
        return *passes.encode(self.whisper, features, ilens), None


@dataclass(frozen=True)
class _State:
    """Where a hypothesis of ESPnet's search finds its keys and values.

    Caches are never changed once a state refers to them, so any number of hypotheses may go on
    from one state.

    Attributes:
        cache: Of all hypotheses of the step.
        row: The hypothesis's row.
        length: Tokens of `ys` that are in the cache, `<sos>` included.
        memory: What ESPnet passed as `xs`.
    """

    cache: passes.Cache
    row: int
    length: int
    memory: torch.Tensor


class WhisperDecoderView(_Bound, AbsDecoder, BatchScorerInterface):
    """Whisper's decoder as ESPnet knows decoders: a batched scorer with a key/value cache.

    ESPnet's hypotheses begin with `<sos>` alone; the scorer puts the prompt of the chosen language
    in its place.
    """

    def __init__(self, vocab_size: int, encoder_output_size: int, *, model_dir: str | Path) -> None:
        """Check the sizes of the model.

        Args:
            vocab_size: Entries of ESPnet's token list.
            encoder_output_size: Width of the encoder.
            model_dir: Hugging Face Whisper directory.

        Raises:
            FileNotFoundError: If the directory is missing.
            ValueError: If a size is not the model's.
        """
        super().__init__()
        config = self._read(model_dir)
        for what, given, found in (
            ("vocabulary mismatch: the token list has", vocab_size, config["vocab_size"]),
            ("size mismatch: the encoder's output has", encoder_output_size, config["d_model"]),
        ):
            if given != found:
                raise ValueError(f"{what} {given} entries, the model in {model_dir} has {found}")
        self.vocab_size = vocab_size
        self._prompt_ids: tuple[int, ...] = ()
        self._rules: TokenRules | None = None

    def choose(self, lang: str, timestamps: bool = False, suppress: str = "none") -> None:
        """Choose language and tokens of what is decoded next.

        Args:
            lang: Language of the data, a key of the model's `lang_tokens`.
            timestamps: Generate timestamps.
            suppress: As in `decode.rules.TokenRules.of`.

        Raises:
            ValueError: If the language or `suppress` is unknown.
        """
        self._prompt_ids = tuple(self.prompt.prompt(lang, timestamps))
        self._rules = TokenRules.of(
            self.prompt, self.vocab_size, suppress=suppress, timestamps=timestamps
        )

    @property
    def prompt_length(self) -> int:
        """Tokens that stand for `<sos>`."""
        return len(self._prompt_ids)

    def forward(
        self,
        hs_pad: torch.Tensor,
        hlens: torch.Tensor,
        ys_in_pad: torch.Tensor,
        ys_in_lens: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Score whole sequences, as in training.

        Args:
            hs_pad: `(batch, positions, d_model)` float, the encoder's output.
            hlens: `(batch,)` long.
            ys_in_pad: `(batch, tokens)` long, prompt first; padded on the right with any id.
            ys_in_lens: `(batch,)` long.

        Returns:
            Scores `(batch, tokens, vocabulary)` and `ys_in_lens`.
        """
        hidden = passes.decode(self.whisper, ys_in_pad.clamp(min=0), hs_pad, hlens)
        return passes.logits(self.whisper, hidden), ys_in_lens

    def score(
        self, y: torch.Tensor, state: _State | None, x: torch.Tensor
    ) -> tuple[torch.Tensor, _State]:
        """Score the next token of one hypothesis `y` `(tokens,)` with memory `x` `(T, D)`."""
        scores, states = self.batch_score(y[None], [state], x[None])
        return scores[0], states[0]

    @torch.no_grad()
    def batch_score(
        self,
        ys: torch.Tensor,
        states: list[Any],
        xs: torch.Tensor,
        xs_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, list[Any]]:
        """Score the next token of each hypothesis.

        Args:
            ys: `(hypotheses, tokens)` long, `<sos>` first.
            states: What the last call returned for their prefixes, or None.
            xs: `(hypotheses, T, D)` float, the encoder's output of each.
            xs_mask: `(hypotheses, 1, T)` bool, True where not padded; None: nothing is padded.

        Returns:
            Log-probabilities `(hypotheses, vocabulary)`, -inf for tokens that are not allowed; at
            the last of Whisper's 448 positions only the end is. And the new states.
        """
        if self._rules is None or self._rules.bias.device != xs.device:
            self._follow(xs.device)
        rules = self._rules
        assert rules is not None
        length = ys.shape[1]
        position = len(self._prompt_ids) + length - 1
        if position >= MAX_TOKENS:  # candidates that ESPnet keeps beside the forced end
            scores = xs.new_full((len(ys), self.vocab_size), -torch.inf, dtype=torch.float32)
            scores[:, rules.end] = 0.0
            return scores.to(xs.dtype), states
        cache, seen = self._cache(states, xs, xs_mask)
        new = ys[:, seen:]
        if not seen:
            prompt = torch.tensor(self._prompt_ids, dtype=ys.dtype, device=ys.device)
            new = torch.cat((prompt.expand(len(ys), -1), ys[:, 1:]), 1)
        hidden = passes.decode(self.whisper, new.to(xs.device), "zero", cache=cache)[:, -1]
        text = ys[:, 1:].to(xs.device)
        scores = rules.log_probs(passes.logits(self.whisper, hidden), text)
        if position == MAX_TOKENS - 1:
            rules.only_end(scores, torch.ones(len(ys), dtype=torch.bool, device=xs.device))
        return scores.to(xs.dtype), [_State(cache, row, length, xs) for row in range(len(ys))]

    def _follow(self, device: torch.device) -> None:
        """Choose the first language of the table unless one is chosen, and use a device."""
        if self._rules is None:
            self.choose(next(iter(self.prompt.lang_tokens)))
        rules = self._rules
        assert rules is not None
        self._rules = TokenRules(
            rules.end,
            rules.timestamp_begin,
            rules.bias.to(device),
            rules.first_bias.to(device),
            rules.timestamps,
        )

    def _cache(
        self, states: list[Any], xs: torch.Tensor, xs_mask: torch.Tensor | None
    ) -> tuple[passes.Cache, int]:
        """Return a cache with a row for each hypothesis, and how many tokens it holds."""
        n = len(states)
        # One utterance: ESPnet passes its memory once, seen n times. So does the cache.
        shared = n == 1 or xs.stride(0) == 0
        if states[0] is None:
            lengths = torch.full((n,), xs.shape[1], device=xs.device)
            if xs_mask is not None:
                lengths = xs_mask[:, 0].sum(-1)
            if not shared:
                return passes.start_cache(self.whisper, xs, lengths), 0
            return _widen(passes.start_cache(self.whisper, xs[:1], lengths[:1]), 0, n), 0
        old: _State = states[0]
        if any(state.cache is not old.cache for state in states):
            raise ValueError("batch_score: the hypotheses come from different steps or searches")
        cache = passes.Cache(
            old.cache.memory_mask, list(old.cache.cross), list(old.cache.own), old.cache.length
        )
        rows = torch.tensor([state.row for state in states], device=xs.device)
        cache.select(rows, cross=not shared and xs is not old.memory)
        return _widen(cache, old.row, n) if shared else cache, old.length


def _widen(cache: passes.Cache, row: int, n: int) -> passes.Cache:
    """Show the memory of one row `n` times without copying it."""

    def repeat(x: torch.Tensor) -> torch.Tensor:
        return x[row : row + 1].expand(n, *x.shape[1:])

    cache.cross = [(repeat(k), repeat(v)) for k, v in cache.cross]
    if cache.memory_mask is not None:
        cache.memory_mask = repeat(cache.memory_mask)
    return cache
