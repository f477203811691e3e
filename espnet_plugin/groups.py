"""Names of Whisper's parameter groups, and which parameter belongs to which.

The groups are total and disjoint over the parameters of a transformers Whisper model: each
parameter name belongs to exactly one. Names follow the paper's symbols (arXiv 2506.14190,
section III-B): `encoder` is theta_E, `self_attn` theta_SA, `ffn` theta_FF, `cross_attn` theta_CA,
`output` theta_out; `position` (the decoder's learned positions) has no symbol there and moves in
stage 3 only.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from espnet_plugin.cli import nearest

GROUPS: tuple[str, ...] = ("encoder", "self_attn", "ffn", "cross_attn", "output", "position")

# Sinusoids: part of `encoder`, but a constant of the architecture that no stage may train.
FIXED: tuple[str, ...] = ("encoder.embed_positions.weight",)

# Parameters of low-rank adapters (`lora.py`), in the middle of their names.
ADAPTER = re.compile(r"\.lora_[AB]\.")

_PREFIX = re.compile(r"^(?:module\.)?(?:whisper\.)?(?:model\.)?")
_DECODER_LAYER = re.compile(r"^decoder\.layers\.(\d+)\.(\w+)\.")
_ENCODER_LAYER = re.compile(r"^encoder\.layers\.(\d+)\.")
_LAYER_GROUPS = {
    "self_attn": "self_attn",
    "self_attn_layer_norm": "self_attn",
    "encoder_attn": "cross_attn",
    "encoder_attn_layer_norm": "cross_attn",
    "fc1": "ffn",
    "fc2": "ffn",
    "final_layer_norm": "ffn",
}
# Each with its final dot or in full, so that a look-alike name is an error and not a member.
_TOP_LEVEL = (
    ("encoder.", "encoder"),
    ("decoder.embed_tokens.", "output"),
    ("decoder.layer_norm.", "output"),
    ("decoder.embed_positions.", "position"),
    ("proj_out.", "output"),
)


def group_of(name: str) -> str:
    """Return the group of one parameter.

    Args:
        name: Parameter name of a transformers Whisper model; the prefixes `model.`, `whisper.`
            (our ESPnet model) and `module.` (DDP) may be there or not.

    Raises:
        ValueError: If the name is not one of a Whisper model.
    """
    bare = _PREFIX.sub("", name)
    if match := _DECODER_LAYER.match(bare):
        if group := _LAYER_GROUPS.get(match.group(2)):
            return group
    else:
        for prefix, group in _TOP_LEVEL:
            if bare.startswith(prefix):
                return group
    raise ValueError(f"parameter '{name}' belongs to none of the groups {', '.join(GROUPS)}")


def layer_of(name: str) -> int | None:
    """Return the layer index of a parameter name, None if it lies outside the layers."""
    bare = _PREFIX.sub("", name)
    match = _DECODER_LAYER.match(bare) or _ENCODER_LAYER.match(bare)
    return int(match.group(1)) if match else None


def is_fixed(name: str) -> bool:
    """Tell whether a parameter is a constant of the architecture (the encoder's sinusoids)."""
    return _PREFIX.sub("", name) in FIXED


def partition(model: Any) -> dict[str, list[str]]:
    """Split a model's parameters into the groups.

    Args:
        model: A Whisper module (transformers, or our ESPnet model), or an iterable of parameter
            names. Tied parameters appear once, as in `named_parameters()`.

    Returns:
        Group name -> parameter names in the model's order; every group is there.

    Raises:
        ValueError: If a name belongs to no group, or a group would be empty.
    """
    if hasattr(model, "named_parameters"):
        names: Iterable[str] = [name for name, _ in model.named_parameters()]
    else:
        names = model
    groups: dict[str, list[str]] = {group: [] for group in GROUPS}
    for name in names:
        groups[group_of(name)].append(name)
    if empty := [group for group, members in groups.items() if not members]:
        raise ValueError(f"not a whole Whisper model: no parameter in {', '.join(empty)}")
    return groups


def select(selectors: Sequence[str], names: Iterable[str]) -> set[str]:
    """Return the names that group selectors choose.

    Args:
        selectors: Each a group (`ffn`), one layer of a group (`ffn.5`) or a range of layers, both
            ends included (`ffn.3-5`). Fixed parameters are never chosen, and of a group with
            adapters nothing but these.
        names: Parameter names to choose from.

    Raises:
        ValueError: If a selector is malformed, names an unknown group, or matches nothing; the
            message lists what exists.
    """
    candidates = [name for name in names if not is_fixed(name)]
    adapted = {group_of(name) for name in candidates if ADAPTER.search(name)}
    candidates = [n for n in candidates if ADAPTER.search(n) or group_of(n) not in adapted]
    chosen: set[str] = set()
    for selector in selectors:
        match = re.fullmatch(r"(\w+?)(?:\.(\d+)(?:-(\d+))?)?", selector)
        if match is None or match.group(1) not in GROUPS:
            raise ValueError(
                f"unknown parameter group '{selector}'{nearest(selector.split('.')[0], GROUPS)}: "
                f"the groups are {', '.join(GROUPS)}; one layer is written 'ffn.5', several "
                "'ffn.3-5'"
            )
        group, first, last = match.groups()
        members = [name for name in candidates if group_of(name) == group]
        if first is not None:
            low, high = int(first), int(last if last is not None else first)
            layers = sorted({layer for name in members if (layer := layer_of(name)) is not None})
            members = [n for n in members if (k := layer_of(n)) is not None and low <= k <= high]
            missing = [k for k in range(low, high + 1) if k not in layers]
            if not members or missing:
                have = f"layers {layers[0]} to {layers[-1]}" if layers else "no layers"
                raise ValueError(f"'{selector}' matches no parameter: {group} has {have}")
        elif not members:
            raise ValueError(f"'{selector}' matches no parameter of this model")
        chosen.update(members)
    return chosen
