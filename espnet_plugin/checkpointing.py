"""Gradient checkpointing: layers keep their input alone, and run again in the backward pass.

Chen et al., arXiv 1604.06174. `torch.utils.checkpoint` (non-reentrant) does it, with the random
state of dropout and autocast's settings restored; results are the same to the bit.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from espnet_plugin.cli import nearest

# What `--checkpointing` may be -> the parts of the model whose layers run again.
PARTS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "encoder": frozenset({"encoder"}),
    "decoder": frozenset({"decoder"}),
    "all": frozenset({"encoder", "decoder"}),
}


def parse(value: str | bool) -> frozenset[str]:
    """Read `--checkpointing`.

    Args:
        value: A key of `PARTS`, or true (all) or false (none).

    Returns:
        The parts whose layers run again: `encoder`, `decoder`.

    Raises:
        ValueError: If it is something else.
    """
    name = {"true": "all", "false": "none"}.get(str(value).lower(), str(value))
    if name not in PARTS:
        raise ValueError(
            f"checkpointing is {', '.join(PARTS)}, true or false, got '{value}'"
            f"{nearest(name, PARTS)}"
        )
    return PARTS[name]


def checkpointed(layer_pass: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return a pass over a layer that keeps the layer's inputs alone.

    Where no gradient flows (a frozen layer over frozen ones, validation) it is the plain pass:
    there is nothing to run again for.

    Args:
        layer_pass: `whisper.decoder_layer` or `whisper.encoder_layer`, or its compiled form.
    """

    def run(layer: torch.nn.Module, *inputs: Any) -> torch.Tensor:
        if not torch.is_grad_enabled() or not _flows(layer, inputs):
            return layer_pass(layer, *inputs)
        return checkpoint(layer_pass, layer, *inputs, use_reentrant=False)  # type: ignore[no-any-return]

    return run


def _flows(layer: torch.nn.Module, inputs: tuple[Any, ...]) -> bool:
    flat = [t for each in inputs for t in (each if isinstance(each, tuple) else (each,))]
    found = [t for t in flat if isinstance(t, torch.Tensor)]
    return any(t.requires_grad for t in (*found, *layer.parameters()))
