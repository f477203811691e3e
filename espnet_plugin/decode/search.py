"""Greedy and beam search over a batch, with a key/value cache.

A result does not depend on the batch: padding is masked, and an utterance that has ended leaves
the batch. Shapes: B utterances, K beams, P tokens of the prompt, T encoder positions, D model
width, V vocabulary.
"""

import heapq
from dataclasses import dataclass
from typing import Any

import torch

from espnet_plugin.decode.rules import TokenRules, check_score
from espnet_plugin.decode.slices import drop_rows, start_contiguous
from espnet_plugin.whisper import decode, logits

KEEP = 0.75  # a batch of beams is made smaller when fewer of its utterances are still running


@dataclass(frozen=True)
class Hypothesis:
    """What was recognised.

    Attributes:
        ids: Tokens without prompt and end.
        score: Log-probability of the tokens and the end.
        limited: The length limit forced the end: most likely a repetition.
        loop: `retried` if the first text repeated itself and this one replaces it, `kept` if it
            repeats itself; else empty.
    """

    ids: list[int]
    score: float
    limited: bool = False
    loop: str = ""


def _check(memory: torch.Tensor, prompts: torch.Tensor, limits: torch.Tensor) -> None:
    if not memory.shape[0] == prompts.shape[0] == limits.shape[0] > 0:
        raise ValueError(
            f"{memory.shape[0]} utterances, {prompts.shape[0]} prompts, {limits.shape[0]} limits: "
            "must be as many, and at least one"
        )


@torch.inference_mode()
def greedy(
    whisper: Any,
    memory: torch.Tensor,
    lengths: torch.Tensor,
    prompts: torch.Tensor,
    rules: TokenRules,
    limits: torch.Tensor,
) -> list[Hypothesis]:
    """Take the likeliest token at each step.

    Args:
        whisper: A transformers `WhisperModel` in evaluation mode.
        memory: `(B, T, D)` float, the encoder's output.
        lengths: `(B,)` long, lengths in T.
        prompts: `(B, P)` long.
        rules: Tokens that may come next.
        limits: `(B,)` long, tokens (without prompt and end) before the end is forced.

    Returns:
        B hypotheses, in order.

    Raises:
        ValueError: If the batch sizes differ, or the model computes NaN.
    """
    _check(memory, prompts, limits)
    device = memory.device
    cache = start_contiguous(whisper, memory, lengths)
    row_of = torch.arange(len(memory), device=device)  # row in the cache -> utterance
    tokens = prompts.new_empty((len(memory), 0))
    score = torch.zeros(len(memory), device=device)
    results: list[Hypothesis | None] = [None] * len(memory)
    new, step = prompts, 0
    while True:
        hidden = decode(whisper, new, "zero", cache=cache)[:, -1]
        log_probs = rules.log_probs(logits(whisper, hidden), tokens)
        best, choice = log_probs.max(-1)
        forced = (limits[row_of] <= step) & (choice != rules.end)
        score = score + torch.where(forced, log_probs[:, rules.end], best)
        over = (forced | (choice == rules.end)).tolist()
        for row in (row for row, ended in enumerate(over) if ended):
            check_score(float(score[row]))
            results[int(row_of[row])] = Hypothesis(
                tokens[row].tolist(), float(score[row]), bool(forced[row])
            )
        if all(over):
            return [result for result in results if result is not None]
        tokens = torch.cat((tokens, choice[:, None]), 1)
        if any(over):
            keep = drop_rows(cache, over)
            row_of, tokens, score = row_of[keep], tokens[keep], score[keep]
        new, step = tokens[:, -1:], step + 1


@torch.inference_mode()
def beam(
    whisper: Any,
    memory: torch.Tensor,
    lengths: torch.Tensor,
    prompts: torch.Tensor,
    rules: TokenRules,
    limits: torch.Tensor,
    beam_size: int,
    nbest: int = 1,
    normalize_length: bool = False,
) -> list[list[Hypothesis]]:
    """Keep the `beam_size` likeliest hypotheses at each step.

    Without `normalize_length` an utterance ends when no running hypothesis can become better than
    the `nbest` that have ended (a log-probability only falls), which loses nothing. With it,
    hypotheses are ranked by log-probability per token, and an utterance ends when `beam_size` of
    them have ended, as in Whisper.

    Args:
        whisper: A transformers `WhisperModel` in evaluation mode.
        memory: `(B, T, D)` float, the encoder's output.
        lengths: `(B,)` long, lengths in T.
        prompts: `(B, P)` long.
        rules: Tokens that may come next.
        limits: `(B,)` long, tokens (without prompt and end) before the end is forced.
        beam_size: K, at least 1.
        nbest: How many hypotheses to return, at most K.
        normalize_length: Rank by the mean score of a token.

    Returns:
        B lists of up to `nbest` hypotheses, best first.

    Raises:
        ValueError: If the batch sizes differ, `nbest` is not within 1..K, or the model computes
            NaN.
    """
    _check(memory, prompts, limits)
    if not 1 <= nbest <= beam_size:
        raise ValueError(f"nbest must be within 1 and the beam size {beam_size}, got {nbest}")

    def rank(hypothesis: Hypothesis) -> float:
        # the end counts as a token, so that an empty hypothesis has a mean too
        return hypothesis.score / (len(hypothesis.ids) + 1 if normalize_length else 1)

    device, width, n_utt = memory.device, beam_size, len(memory)
    finished: list[list[Hypothesis]] = [[] for _ in range(n_utt)]
    cache = start_contiguous(whisper, memory, lengths)
    row_of = torch.arange(n_utt, device=device)  # group of beams -> utterance
    tokens = prompts.new_empty((n_utt, 1, 0))  # (B, beams, n); one beam in the first step
    score = torch.zeros(n_utt, 1, device=device)  # -inf: a beam that has ended
    new, step = prompts, 0
    while True:
        groups, beams = score.shape
        hidden = decode(whisper, new, "zero", cache=cache)[:, -1]
        log_probs = rules.log_probs(logits(whisper, hidden), tokens.flatten(0, 1))
        at_limit = (limits[row_of] <= step).repeat_interleave(beams)
        unforced = log_probs.argmax(-1) == rules.end
        rules.only_end(log_probs, at_limit)
        # the best of each beam, then the best of those: as all of them, without their sort
        top, choice = log_probs.topk(width, -1)
        total = (score.view(-1, 1) + top).view(groups, beams * width)
        score, index = total.topk(width, -1)
        choice = choice.view(groups, -1).gather(1, index)
        parent = index.div(width, rounding_mode="floor")
        rows = (parent + torch.arange(groups, device=device)[:, None] * beams).view(-1)
        old = tokens.flatten(0, 1)[rows].view(groups, width, -1)
        ended = (choice == rules.end) & score.isfinite()
        forced = at_limit[rows] & ~unforced[rows]
        for group, place in ended.nonzero().tolist():
            finished[int(row_of[group])].append(
                Hypothesis(
                    old[group, place].tolist(),
                    float(score[group, place]),
                    bool(forced[group * width + place]),
                )
            )
        score = score.masked_fill(choice == rules.end, -torch.inf)
        best = score.amax(1).tolist()
        check_score(sum(best))
        over = []
        for group, utt in enumerate(row_of.tolist()):
            if best[group] == -torch.inf:
                over.append(True)
            elif normalize_length:
                over.append(len(finished[utt]) >= beam_size)
            else:
                high = heapq.nlargest(nbest, (h.score for h in finished[utt]))
                over.append(len(high) == nbest and high[-1] >= best[group])
        if all(over):
            return [sorted(hyps, key=rank, reverse=True)[:nbest] for hyps in finished]
        score = score.masked_fill(torch.tensor(over, device=device)[:, None], -torch.inf)
        tokens = torch.cat((old, choice[..., None]), 2)
        shrink = over.count(False) < KEEP * groups
        if shrink:
            keep = torch.tensor([g for g, gone in enumerate(over) if not gone], device=device)
            rows = rows.view(groups, width)[keep].view(-1)
            row_of, tokens, score = row_of[keep], tokens[keep], score[keep]
        # Beams of one utterance have the same memory: it is copied only when the rows change.
        cache.select(rows, cross=shrink or beams != width)
        new, step = tokens[:, :, -1].reshape(-1, 1), step + 1
