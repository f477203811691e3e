"""Which tokens may come next, the same for our search and for ESPnet's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from espnet_plugin.decode.options import SUPPRESS
from espnet_plugin.prompt import MAX_TOKENS, PromptBuilder

MAX_INITIAL_TIME = 50  # timestamp tokens of 0.02 s: the first time is at most 1 s, as in Whisper


@dataclass(frozen=True)
class TokenRules:
    """Tokens that may not be generated, and the grammar of timestamps.

    Always banned: ids without a token, tokens that only occur in prompts, and timestamps unless
    they are asked for. The end of text ends a sequence; nothing may follow position 448.

    Attributes:
        end: Id of the end of text.
        timestamp_begin: Id of `<|0.00|>`.
        bias: `(vocabulary,)` float32, 0 or -inf, added to every score.
        first_bias: The same, added at the first position only.
        timestamps: Text comes between timestamps, as Whisper writes them.
        no_repeat: No so many tokens may occur in a row twice in a text; 0: they may.
    """

    end: int
    timestamp_begin: int
    bias: torch.Tensor
    first_bias: torch.Tensor
    timestamps: bool = False
    no_repeat: int = 0

    @classmethod
    def of(
        cls,
        prompt: PromptBuilder,
        vocab_size: int,
        *,
        suppress: str = "none",
        timestamps: bool = False,
        device: torch.device | str = "cpu",
    ) -> "TokenRules":
        """Build the rules of a model.

        Args:
            prompt: Of the model directory; has its tokenizer.
            vocab_size: Rows of the embedding, at least as many as the tokenizer has tokens.
            suppress: `none` bans nothing else; `begin` also bans the end and a lone space at the
                first position, so that no text is empty; `whisper` bans these and the symbols in
                the directory's `generation_config.json`, as other runtimes do.
            timestamps: Generate timestamps.
            device: Where the scores will be.

        Raises:
            ValueError: If `suppress` is unknown, or the directory lists no tokens to suppress.
        """
        if suppress not in SUPPRESS:
            raise ValueError(f"suppress is one of {', '.join(SUPPRESS)}, got '{suppress}'")
        allowed = torch.zeros(vocab_size, dtype=torch.bool)
        allowed[torch.tensor(sorted(set(prompt.vocab.values())))] = True
        allowed[torch.tensor(sorted(prompt.prompt_ids))] = False
        if not timestamps:
            allowed[prompt.timestamp_begin :] = False
        first: Sequence[int] = ()
        if suppress != "none":
            first = [prompt.token_id("Ġ"), prompt.end]  # how byte-level tokens write a space
        if suppress == "whisper":
            allowed[torch.tensor(_suppressed(prompt.model_dir))] = False
        bias = torch.zeros(vocab_size).masked_fill(~allowed, -torch.inf)
        first_bias = torch.zeros(vocab_size)
        first_bias[list(first)] = -torch.inf
        return cls(
            prompt.end,
            prompt.timestamp_begin,
            bias.to(device),
            first_bias.to(device),
            timestamps,
        )

    def log_probs(self, logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Turn scores into log-probabilities of the tokens that are allowed.

        Args:
            logits: `(rows, vocabulary)` float; may be overwritten.
            tokens: `(rows, n)` long, generated so far, without the prompt.

        Returns:
            `(rows, vocabulary)` float32, -inf for tokens that are not allowed.
        """
        scores = logits.float().add_(self.bias)
        if tokens.shape[1] == 0:
            scores += self.first_bias
        if self.timestamps:
            self._keep_grammar(scores, tokens)
        if self.no_repeat:
            self._ban_repeats(scores, tokens)
        return scores.log_softmax(-1)

    def only_end(self, log_probs: torch.Tensor, rows: torch.Tensor) -> None:
        """Leave only the end of text to some rows, with its score, in place.

        Args:
            log_probs: `(rows, vocabulary)` float32.
            rows: `(rows,)` bool.
        """
        if bool(rows.any()):
            end = log_probs[rows, self.end]
            log_probs[rows] = -torch.inf
            log_probs[rows, self.end] = end

    def _ban_repeats(self, scores: torch.Tensor, tokens: torch.Tensor) -> None:
        """Ban the tokens that would repeat `no_repeat` tokens in a row, in place."""
        context = self.no_repeat - 1
        for row, so_far in enumerate(tokens.tolist()):
            last = so_far[len(so_far) - context :]
            seen = range(len(so_far) - context)
            banned = [so_far[i + context] for i in seen if so_far[i : i + context] == last]
            scores[row, banned] = -torch.inf

    def _keep_grammar(self, scores: torch.Tensor, tokens: torch.Tensor) -> None:
        """Apply Whisper's grammar of timestamps, in place.

        Source: openai-whisper, `decoding.py` (`ApplyTimestampRules`): times come in pairs except
        before the end, never decrease, the first is at most 1 s, and a time is taken where all
        times together are likelier than every other token.
        """
        begin, n = self.timestamp_begin, tokens.shape[1]
        if n == 0:
            scores[:, :begin] = -torch.inf
            scores[:, begin + MAX_INITIAL_TIME + 1 :] = -torch.inf
            return
        is_time = tokens >= begin
        last = is_time[:, -1]
        before = is_time[:, -2] if n > 1 else torch.ones_like(last)
        vocabulary = torch.arange(scores.shape[1], device=scores.device)
        times, text = vocabulary >= begin, vocabulary < self.end
        banned = (last & before)[:, None] & times
        banned |= (last & ~before)[:, None] & text
        # Times grow: the same one again only to close the pair it opens.
        latest = torch.where(is_time, tokens, begin - 1).amax(1)
        lowest = torch.where(last & ~before, latest, latest + 1)
        banned |= times & (vocabulary < lowest[:, None])
        scores.masked_fill_(banned, -torch.inf)
        likelier = scores[:, begin:].logsumexp(-1) > scores[:, :begin].amax(-1)
        scores[:, :begin].masked_fill_(likelier[:, None], -torch.inf)


def text_limit(
    seconds: float, prompt_length: int, max_tokens_per_second: float | None, margin: int = 10
) -> int:
    """Return how many tokens an utterance may have before its end is forced.

    Fine-tuned Whisper can repeat a phrase until the decoder is full. Fast speech has 4 to 8 tokens
    a second, so a limit of 12 and a margin cuts only such loops.

    Args:
        seconds: Length of the audio.
        prompt_length: Tokens of the prompt.
        max_tokens_per_second: None leaves only the decoder's 448 positions.
        margin: Tokens that even the shortest utterance may have.
    """
    room = MAX_TOKENS - prompt_length - 1
    if max_tokens_per_second is None:
        return room
    return min(room, margin + int(seconds * max_tokens_per_second))


def check_score(score: float) -> None:
    """Refuse what a model wrote that computes nothing: every token is then `!`, the first.

    Raises:
        ValueError: The score is NaN.
    """
    if math.isnan(score):
        raise ValueError(
            "the model's scores are NaN: its weights are NaN or infinite, or what it computes does "
            "not fit the type (float16 reaches 65 504; bfloat16 and float32 much further)"
        )


def _suppressed(model_dir: str | Path) -> list[int]:
    from espnet_plugin.checkpoint import read_json

    path = Path(model_dir) / "generation_config.json"
    ids = read_json(path).get("suppress_tokens")
    if not ids:
        raise ValueError(f"{path} has no suppress_tokens: decode with another suppress")
    return [int(i) for i in ids]
