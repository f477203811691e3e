"""The optimiser: one parameter group per group of the method, with its own rate and decay."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import torch

from espnet_plugin.cli import nearest
from espnet_plugin.groups import GROUPS, group_of, is_fixed
from espnet_plugin.optim8bit import adamw8bit, load_class

FUSED = ("cpu", "cuda")  # devices with fused optimisers


def build_optimizer(
    model: torch.nn.Module,
    optim_class: Callable[..., torch.optim.Optimizer],
    optim_conf: Mapping[str, Any],
    group_lr: Mapping[str, float] | None = None,
    group_weight_decay: Mapping[str, float] | None = None,
    sharded_for: Iterable[str] | None = None,
) -> torch.optim.Optimizer:
    """Build an optimiser whose groups are those of `groups.py`, each with its parameters' names.

    Args:
        model: A model whose parameters are those of a Whisper module, under any known prefix.
        optim_class: A torch optimiser class, or `optim8bit.adamw8bit`.
        optim_conf: Its options, the same for every group. A class that has a fused form (one pass
            over memory in place of several) gets `fused: true` unless something else is said.
        group_lr: Learning rates of single groups, in place of `optim_conf["lr"]`.
        group_weight_decay: Weight decays of single groups.
        sharded_for: Spread the state over the processes of a distributed run; the groups that ever
            train, which are spread evenly. None keeps the whole state in each process.

    Returns:
        The optimiser; the encoder's sinusoids are in no group, since they never train.

    Raises:
        ValueError: If a rate or decay is given for an unknown group, or the class has no such
            option.
    """
    known = inspect.signature(optim_class).parameters
    flexible = any(p.kind is p.VAR_KEYWORD for p in known.values())
    if unknown := [] if flexible else sorted(set(optim_conf) - set(known)):
        raise ValueError(
            f"optim_conf: {optim_class.__name__} has no option '{unknown[0]}'"
            f"{nearest(unknown[0], known)}; it has {', '.join([*known][1:])}"
        )
    if optim_class is adamw8bit:
        optim_class = load_class()
    conf = numbers(optim_conf)
    if "fused" in known and not {"fused", "foreach", "differentiable"} & set(conf):
        conf["fused"] = all(p.device.type in FUSED for p in model.parameters())
    overrides = {"lr": group_lr or {}, "weight_decay": group_weight_decay or {}}
    for option, by_group in overrides.items():
        if unknown := sorted(set(by_group) - set(GROUPS)):
            raise ValueError(
                f"group_{option}: unknown parameter group '{unknown[0]}'"
                f"{nearest(unknown[0], GROUPS)}; the groups are {', '.join(GROUPS)}"
            )
        for group, value in by_group.items():
            if not _is_rate(value):
                raise ValueError(f"group_{option}: {group} needs a number, 0 or more, got {value}")
    members: dict[str, list[tuple[str, torch.nn.Parameter]]] = {group: [] for group in GROUPS}
    for name, parameter in model.named_parameters():
        if is_fixed(name):
            parameter.requires_grad_(False)
        else:
            members[group_of(name)].append((name, parameter))
    groups = [
        {"name": group, "params": named}
        | {option: float(by[group]) for option, by in overrides.items() if group in by}
        for group, named in members.items()
        if named
    ]
    try:
        if sharded_for is not None:
            from espnet_plugin.sharding import ShardedOptimizer

            return ShardedOptimizer(groups, optim_class, sharded_for, **conf)
        return optim_class(groups, **conf)
    except TypeError as error:
        raise ValueError(f"optim_conf {conf}: {error}") from error


def numbers(conf: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with texts such as `1e-3` as the numbers that YAML does not take them for."""
    found = dict(conf)
    for name, value in conf.items():
        if isinstance(value, str):
            with suppress(ValueError):
                found[name] = float(value)
    return found


def _is_rate(value: Any) -> bool:
    try:  # YAML reads 1e-5, without a point, as a string
        return float(value) >= 0
    except (TypeError, ValueError):
        return False
