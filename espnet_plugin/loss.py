"""Cross-entropy over Whisper's vocabulary without the logits of the whole batch.

The logits of 1 000 tokens over 51 866 entries are 207 MB in float32, and autograd keeps several
such arrays. Here they are made and used chunk by chunk, and the gradients are computed in the
same pass; the result equals `torch.nn.functional.cross_entropy` to float32 rounding.
"""

from typing import Any

import torch

CHUNK = 512  # rows; 512 x 51 866 float32 logits are 106 MB


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the label-smoothed cross-entropy of `hidden @ weight.T` against targets."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        smoothing: float,
        dtype: torch.dtype,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, vocab = hidden.shape[0], weight.shape[0]
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if need_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.long, device=hidden.device)
        cast = weight.to(dtype)
        for low in range(0, rows, CHUNK):
            part, target = hidden[low : low + CHUNK].to(dtype), targets[low : low + CHUNK]
            logits = (part @ cast.T).float()
            correct += (logits.argmax(-1) == target).sum()
            lse = logits.logsumexp(-1)
            hit = logits.gather(1, target[:, None])[:, 0]
            total += (lse - (1 - smoothing) * hit).sum()
            if smoothing:
                total -= smoothing * logits.mean(-1).sum()
            if not (need_hidden or need_weight):
                continue
            # d loss / d logits = softmax - (1 - e) one-hot - e / vocabulary, in place
            grad = logits.sub_(lse[:, None]).exp_()
            if smoothing:
                grad -= smoothing / vocab
            grad.scatter_add_(1, target[:, None], torch.full_like(hit[:, None], smoothing - 1.0))
            grad = grad.to(dtype)
            if grad_hidden is not None:
                grad_hidden[low : low + CHUNK] = grad @ cast
            if grad_weight is not None:
                grad_weight += (grad.T @ part).float()
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.weight_dtype = weight.dtype
        ctx.mark_non_differentiable(correct)
        return total, correct

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        scale = grads[0]
        grad_hidden, grad_weight = ctx.saved_tensors
        if grad_hidden is not None:
            grad_hidden = grad_hidden * scale
        if grad_weight is not None:
            grad_weight = (grad_weight * scale).to(ctx.weight_dtype)
        return grad_hidden, grad_weight, None, None, None


def cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of a linear output layer, summed over rows.

    Args:
        hidden: `(rows, d_model)` float; the decoder's states at the positions that count.
        weight: `(vocabulary, d_model)` float; the output projection.
        targets: `(rows,)` long.
        label_smoothing: As in `torch.nn.functional.cross_entropy`, 0..1.
        dtype: Of the matrix products (bfloat16 under autocast); the rest is float32.

    Returns:
        The sum of the losses (float32 scalar), and how many rows have the target as their
        largest logit (long scalar).
    """
    total, correct = _ChunkedCrossEntropy.apply(hidden, weight, targets, label_smoothing, dtype)
    return total, correct
