"""Cross-entropy over Whisper's vocabulary without the logits of the whole batch.

The logits of 1 000 tokens over 51 866 entries are 207 MB in float32, and autograd keeps several
such arrays. Here they are made and used chunk by chunk, and the gradients are computed in the
same pass; the result equals `torch.nn.functional.cross_entropy` to float32 rounding.
`loss_kernels.py` has other implementations, for GPUs.
"""

from typing import Any

import torch

SHARE = 0.02  # of a GPU's memory, for a chunk's logits and their exponentials
CPU_BYTES = 2**28  # the same on a CPU, which needs no room for the exponentials
LEAST, MOST = 64, 8192  # rows
BLOCK_BYTES = 2**21  # of logits, that a CPU's cache holds


def chunk_rows(device: torch.device, vocab: int) -> int:
    """Return how many rows of logits are held at once.

    Depends on the device's total memory, never on what is free, so that a run can be repeated.

    Args:
        device: Where the loss is computed.
        vocab: Entries of the vocabulary.
    """
    if device.type == "cuda":
        rows = int(SHARE * torch.cuda.get_device_properties(device).total_memory / (8 * vocab))
    else:
        rows = CPU_BYTES // (4 * vocab)
    return max(LEAST, min(MOST, rows // LEAST * LEAST))


def _losses(
    logits: torch.Tensor, target: torch.Tensor, smoothing: float = 0.0, gradient: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the losses of some rows, and turn their logits into gradients, in place.

    Args:
        logits: `(rows, vocabulary)`; overwritten.
        target: `(rows,)` long.
        smoothing: 0..1.
        gradient: Whether `logits` is to hold d loss / d logits, each row multiplied by its sum.

    Returns:
        Losses `(rows,)` float32; whether no entry is above the target's `(rows,)`; and the sums
        `(rows, 1)` of exp(logit - largest logit).
    """
    vocab = logits.shape[1]
    # A few rows at a time stay in a CPU's cache through all that is done to them: three times as
    # fast as one step after another over all rows. A GPU wants all of them.
    step = len(logits) if logits.device.type != "cpu" else max(1, BLOCK_BYTES // (4 * vocab))
    parts = []
    for low in range(0, len(logits), max(step, 1)):
        part, aims = logits[low : low + step], target[low : low + step, None]
        block = part.float()  # the same memory where it is float32 already
        top = block.amax(-1, keepdim=True)
        hit = block.gather(1, aims)
        loss = top - hit
        if smoothing:
            loss += smoothing * (hit - block.mean(-1, keepdim=True))
        sums = block.sub_(top).exp_().sum(-1, keepdim=True)
        parts.append((loss.add_(sums.log()), hit >= top, sums))
        if gradient:
            # softmax - (1 - e) one-hot - e / vocabulary, times the sum of exponentials
            if smoothing:
                block.sub_(smoothing / vocab * sums)
            block.scatter_add_(1, aims, (smoothing - 1.0) * sums)
            if block is not part:
                part.copy_(block)
    if not parts:
        none = logits.new_zeros(0, 1, dtype=torch.float32)
        return none[:, 0], none[:, 0] > 0, none
    losses, hits, totals = (torch.cat(each) for each in zip(*parts, strict=True))
    return losses[:, 0], hits[:, 0], totals


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
        rows = len(hidden)
        need_hidden, need_weight = ctx.needs_input_grad[:2]
        grad_hidden = torch.empty_like(hidden) if need_hidden else None
        grad_weight: torch.Tensor | None = None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        correct = torch.zeros((), dtype=torch.long, device=hidden.device)
        cast = weight.to(dtype)
        chunk = -(-rows // -(-rows // chunk)) if rows else 1  # chunks of equal size
        for low in range(0, rows, chunk):
            part, target = hidden[low : low + chunk].to(dtype), targets[low : low + chunk]
            grad = part @ cast.T
            losses, hits, sums = _losses(grad, target, smoothing, need_hidden or need_weight)
            total += losses.sum()
            correct += hits.sum()
            # The rows' sums and `scale` are put on the small factors of the two products below,
            # which saves passes over the large one.
            factor = scale / sums
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
            del grad  # before the next chunk's logits are made
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
            for grad in found:  # ours alone, so there is no need for copies
                if grad is not None:
                    grad.mul_(grads[0])
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
        _losses(part.to(dtype) @ cast.T, target)[:2]
        for part, target in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    losses, hits = zip(*parts, strict=True)
    return torch.cat(losses), torch.cat(hits)
