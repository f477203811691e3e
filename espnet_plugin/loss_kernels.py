"""Which implementation computes the training loss: our own, or a fused one for GPUs.

`loss_kernel` is one of

- `chunked`: `loss.py`, exact to float32 rounding, on every device;
- `liger`: LigerFusedLinearCrossEntropyLoss (`pip install liger-kernel`), on GPUs: chunked too, with
  softmax and gradient in one Triton kernel;
- `cce`: Cut Cross-Entropy, arXiv 2411.09009 (`pip install cut-cross-entropy`), on GPUs: no logits
  in memory at all; bfloat16 only, and the output layer's gradient is summed in bfloat16;
- `auto`: `liger` on a GPU where it is installed and Triton can compile it, else `chunked`.

Validation always uses `chunked`, which knows the loss of each token.
"""

import importlib.util
from typing import Any

import torch

from espnet_plugin.compiling import triton_lacks
from espnet_plugin.loss import cross_entropy

KERNELS = ("auto", "chunked", "liger", "cce")
LIBRARIES = {"liger": "liger-kernel", "cce": "cut-cross-entropy"}
_MODULES = {"liger": "liger_kernel", "cce": "cut_cross_entropy"}


def check(kernel: str, label_smoothing: float, autocast: str) -> None:
    """Check what can be checked before the device is known.

    Raises:
        ValueError: If the kernel is unknown, its library is not installed, or it cannot compute
            what the other options ask for.
    """
    if kernel not in KERNELS:
        raise ValueError(f"loss_kernel is one of {', '.join(KERNELS)}, got '{kernel}'")
    if kernel in LIBRARIES and not _installed(kernel):
        raise ValueError(
            f"loss_kernel {kernel} needs the package {LIBRARIES[kernel]}: pip install "
            f"{LIBRARIES[kernel]}, or choose loss_kernel chunked"
        )
    if kernel == "cce" and label_smoothing:
        raise ValueError(
            f"loss_kernel cce has no label smoothing: choose liger or chunked, or set "
            f"label_smoothing {label_smoothing} to 0"
        )
    if kernel == "cce" and autocast == "none":
        raise ValueError("loss_kernel cce computes in bfloat16 only: autocast none contradicts it")


def choose(kernel: str, device: torch.device, half: bool) -> tuple[str, str]:
    """Settle on an implementation for a device.

    Args:
        kernel: One of `KERNELS`.
        device: Where the loss is computed.
        half: Whether products run in bfloat16 there.

    Returns:
        `chunked`, `liger` or `cce`; and the reason, for the log.

    Raises:
        ValueError: If the kernel does not run there.
    """
    if kernel == "auto":
        if device.type != "cuda":
            return "chunked", f"the device is {device.type}"
        if not _installed("liger"):
            return "chunked", "liger-kernel is not installed"
        if lacks := triton_lacks():
            return "chunked", f"liger-kernel needs {lacks}"
        return "liger", "the device is a GPU and liger-kernel is installed"
    if kernel in LIBRARIES and device.type != "cuda":
        raise ValueError(
            f"loss_kernel {kernel} needs a CUDA device, this model is on {device.type}: choose "
            "chunked or auto"
        )
    if kernel == "cce" and not half:
        raise ValueError("loss_kernel cce computes in bfloat16 only, which this device has not")
    if kernel in LIBRARIES and (lacks := triton_lacks()):
        raise ValueError(f"loss_kernel {kernel} needs {lacks}; or choose chunked or auto")
    return kernel, "as asked"


def _installed(kernel: str) -> bool:
    return importlib.util.find_spec(_MODULES[kernel]) is not None


def training_loss(
    kernel: str,
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    label_smoothing: float = 0.0,
    dtype: torch.dtype = torch.float32,
    scale: float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Compute the loss by the implementation that `choose` returned.

    Args:
        kernel: `chunked`, `liger` or `cce`.
        hidden: `(rows, d_model)` float.
        weight: `(vocabulary, d_model)` float.
        targets: `(rows,)` long.
        label_smoothing: 0..1.
        dtype: Of the matrix products.
        scale: Factor of the sum.

    Returns:
        As `loss.cross_entropy`: the scaled sum of the losses, and the number of right guesses,
        which `cce` does not tell (None).
    """
    if kernel == "chunked":
        return cross_entropy(hidden, weight, targets, label_smoothing, dtype, scale=scale)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    if kernel == "liger":
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        loss: Any = LigerFusedLinearCrossEntropyLoss(
            label_smoothing=label_smoothing,
            reduction="sum",
            accum_dtype=torch.float32,
            return_token_accuracy=True,
        )
        out = loss(weight, hidden, targets)
        return out.loss.float() * scale, (out.token_accuracy.detach() * len(targets)).round().long()
    from cut_cross_entropy import linear_cross_entropy

    # filter_eps None: small gradients are computed too, not left out
    total = linear_cross_entropy(hidden, weight, targets, reduction="sum", filter_eps=None)
    return total.float() * scale, None
