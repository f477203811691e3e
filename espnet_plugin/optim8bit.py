"""AdamW whose two moments take a byte each in place of four: `--optim adamw8bit`.

bitsandbytes (`pip install bitsandbytes`, in the extra `gpu`) keeps them quantised by blocks of 256,
arXiv 2110.02861; it runs on GPUs and, more slowly, on CPUs. Small tensors and the token embedding
keep moments of 32 bits, as the paper advises.
"""

import functools
import importlib.util
from typing import Any

import torch


def adamw8bit(
    params: Any,
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    min_8bit_size: int = 4096,
) -> torch.optim.Optimizer:
    """Build the optimiser; the signature is what ESPnet shows and checks.

    Args:
        params: Parameters or groups, as of torch's AdamW.
        lr: As of torch's AdamW; so are the next three.
        betas: Decay rates of the moments.
        eps: Added to the denominator.
        weight_decay: Decoupled.
        min_8bit_size: Elements from which on a tensor's moments have 8 bits.

    Raises:
        ValueError: If bitsandbytes is not installed.
    """
    conf = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
    optimizer: torch.optim.Optimizer
    optimizer = load_class()(params, lr=lr, min_8bit_size=min_8bit_size, **conf)
    return optimizer


@functools.cache
def load_class() -> Any:
    """Return the optimiser's class; bitsandbytes is imported here, and not before.

    Raises:
        ValueError: If bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError(
            "optim adamw8bit needs the package bitsandbytes: pip install bitsandbytes, or choose "
            "optim adamw"
        )
    from bitsandbytes.optim import AdamW8bit

    class GroupedAdamW8bit(AdamW8bit):  # type: ignore[misc, unused-ignore]
        """bitsandbytes' optimiser, the embedding's moments in 32 bits."""

        def get_config(self, gindex: int, pindex: int, group: dict[str, Any]) -> dict[str, Any]:
            config: dict[str, Any] = super().get_config(gindex, pindex, group)
            if group.get("name") == "output" and group["params"][pindex].dim() == 2:
                config["optim_bits"] = 32
            return config

    return GroupedAdamW8bit
