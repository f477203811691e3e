"""Cross-entropy over Whisper's vocabulary without the logits of the whole batch.

The logits of 1 000 tokens over 51 866 entries are 207 MB in float32, and autograd keeps several
such arrays. Here they are made and used chunk by chunk, and the gradients are computed in the
same pass; the result equals `torch.nn.functional.cross_entropy` to float32 rounding.
`loss_kernels.py` has other implementations, for GPUs.
"""

from typing import Any

import torch

SHARE = 0.02  # of a GPU's memory, for a chunk's logits, their exponentials and their gradient
CPU_BYTES = 2**28  # the same on a CPU: more is not faster
LEAST, MOST = 64, 8192  # rows


def chunk_rows(device: torch.device, vocab: int) -> int:
    """Return how many rows of logits are held at once.

    Depends on the device's total memory, never on what is free, so that a run can be repeated.

    Args:
        device: Where the loss is computed.
        vocab: Entries of the vocabulary.
    """
    if device.type == "cuda":
        memory = SHARE * torch.cuda.get_device_properties(device).total_memory
    else:
        memory = CPU_BYTES
    rows = int(memory / (2 * 4 * vocab))  # float32 logits, and the product's output before the cast
    return max(LEAST, min(MOST, rows // LEAST * LEAST))


def _softmax_parts(
    logits: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Turn `(rows, vocabulary)` float32 logits into exponentials, in place.

    Returns:
        Losses `(rows,)`; whether no entry is above the target's `(rows,)`; and the sums of the
        exponentials `(rows, 1)`, whose largest is 1.
    """
    top = logits.amax(-1, keepdim=True)
    hit = logits.gather(1, target[:, None])
    sums = logits.sub_(top).exp_().sum(-1, keepdim=True)
    return (sums.log() + (top - hit))[:, 0], (hit >= top)[:, 0], sums


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
        chunk: int,
        scale: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        rows, vocab = hidden.shape[0], weight.shape[0]
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight: torch.Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.long, device=hidden.device)
        cast = weight.to(dtype)
        for low in range(0, rows, chunk):
            part, target = hidden[low : low + chunk].to(dtype), targets[low : low + chunk]
            logits = (part @ cast.T).float()
            mean = logits.mean(-1) if smoothing else None
            hit = logits.gather(1, target[:, None])[:, 0]
            nll, right, sums = _softmax_parts(logits, target)
            correct += right.sum()
            if mean is None:
                total += nll.sum()
            else:
                total += (nll + smoothing * (hit - mean)).sum()
            # d loss / d logits = softmax - (1 - e) one-hot - e / vocabulary. Here it is left
            # multiplied by the row's sum of exponentials and without `scale`; both are put on the
            # small factors of the two products below, which saves passes over the large ones.
            grad = logits
            if smoothing:
                grad -= smoothing / vocab * sums
            grad.scatter_add_(1, target[:, None], (smoothing - 1.0) * sums)
            grad, factor = grad.to(dtype), scale / sums
            if grad_hidden is not None:
                grad_hidden[low : low + chunk] = (grad @ cast).to(hidden.dtype) * factor
            if need_weight:
                scaled = (part * factor).to(dtype)
                if grad_weight is None:
                    grad_weight = (grad.T @ scaled).float()
                elif dtype == torch.float32:
                    grad_weight.addmm_(grad.T, scaled)
                else:
                    grad_weight += grad.T @ scaled
        if need_weight and grad_weight is None:  # no rows
            grad_weight = torch.zeros_like(weight, dtype=torch.float32)
        if grad_weight is not None:
            grad_weight = grad_weight.to(weight.dtype)
        ctx.gradients = (grad_hidden, grad_weight)
        ctx.mark_non_differentiable(correct)
        return total * scale, correct

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("this loss can be differentiated once: its gradients are given away")
        found: list[torch.Tensor | None] = list(ctx.gradients)
        ctx.gradients = None
        # On a GPU asking for the value would wait for it, and the product costs little.
        if grads[0].device.type != "cpu" or grads[0] != 1:
            found = [None if grad is None else grad * grads[0] for grad in found]
        return *found, None, None, None, None, None


def cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    dtype: torch.dtype = torch.float32,
    chunk: int | None = None,
    scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of a linear output layer, summed over rows.

    Args:
        hidden: `(rows, d_model)` float; the decoder's states at the positions that count.
        weight: `(vocabulary, d_model)` float; the output projection.
        targets: `(rows,)` long.
        label_smoothing: As in `torch.nn.functional.cross_entropy`, 0..1.
        dtype: Of the matrix products (bfloat16 under autocast); the rest is float32.
        chunk: Rows of logits held at once; default: `chunk_rows`.
        scale: Factor of the sum; 1 / rows makes it a mean, cheaper than dividing afterwards.

    Returns:
        The scaled sum of the losses (float32 scalar), and how many rows have no logit above that of
        their target (long scalar).
    """
    chunk = chunk or chunk_rows(hidden.device, len(weight))
    total, correct = _ChunkedCrossEntropy.apply(
        hidden, weight, targets, label_smoothing, dtype, chunk, scale
    )
    return total, correct


@torch.no_grad()
def token_losses(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    dtype: torch.dtype = torch.float32,
    chunk: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy of each row, for validation: as `cross_entropy`, without gradients.

    Returns:
        `(rows,)` float32 losses; `(rows,)` bool, whether no logit is above that of the target.
    """
    chunk = chunk or chunk_rows(hidden.device, len(weight))
    cast = weight.to(dtype)
    parts = [
        _softmax_parts((part.to(dtype) @ cast.T).float(), target)[:2]
        for part, target in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    losses, hits = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(hits)
