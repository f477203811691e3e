"""One bfloat16 copy of a tensor that several products read under autocast.

Autocast casts a product's input anew each time, and autograd keeps every copy: three for q, k and v
of a layer, and two of the encoder's output for each decoder layer. Here they share one.
"""

from typing import Any

import torch


class _Share(torch.autograd.Function):
    """A copy that stands for the original; its gradient goes to the original in its own type."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, copy: torch.Tensor) -> torch.Tensor:
        ctx.dtype = x.dtype
        return copy.view_as(copy)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grads[0].to(ctx.dtype), None


def shared(x: torch.Tensor, uses: int) -> tuple[torch.Tensor, ...]:
    """Cast a tensor as autocast would, once for several products.

    Values and gradients are those of separate casts, bit for bit: the gradients of the products
    are still added in the tensor's own type, not in bfloat16.

    Args:
        x: `(...)` float.
        uses: How many products read it.

    Returns:
        As many tensors over one memory; `x` itself without autocast, and inside `torch.compile`,
        which finds equal casts by itself.
    """
    device = x.device.type
    if torch.compiler.is_compiling() or not torch.is_autocast_enabled(device):
        return (x,) * uses
    dtype = torch.get_autocast_dtype(device)
    if x.dtype == dtype:
        return (x,) * uses
    copy = x.detach().to(dtype)
    if not (x.requires_grad and torch.is_grad_enabled()):
        return (copy,) * uses
    return tuple(_Share.apply(x, copy) for _ in range(uses))
