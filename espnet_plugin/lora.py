"""Low-rank adapters by group (LoRA, arXiv 2106.09685): `--lora "cross_attn=8, self_attn=16"`.

Each linear layer of the groups that are named gets two small matrices, W + (alpha / r) B A; they
alone move, W and all else is frozen. PEFT makes them, computes them, and merges them into plain
weights when the stage ends, so that the finished directory is a Whisper directory like any other.
A group can also be named with `full` and is then trained whole, as without LoRA.

Adapters belong to the group of the layer that they adapt: `groups.group_of` knows their names.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import yaml

from espnet_plugin.cli import nearest
from espnet_plugin.groups import ADAPTER, GROUPS, group_of

FULL = "full"
NAME = "default"  # PEFT's name of the adapter
BASE = ".base_layer."  # where PEFT puts the layer that it adapts
LINEAR_GROUPS = ("encoder", "self_attn", "ffn", "cross_attn")
FORM = "lora is written 'cross_attn=8, output=full' or {cross_attn: {r: 8, alpha: 16}}"


@dataclass(frozen=True)
class Adapter:
    """The adapters of a group.

    Attributes:
        r: Rank.
        alpha: B A is multiplied by alpha / r; default: 2 r.
        dropout: Of an adapter's input, 0..1.
    """

    r: int
    alpha: float = 0.0
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        """Factor of B A."""
        return (self.alpha or 2 * self.r) / self.r


def parse(value: str | Mapping[str, Any] | None) -> dict[str, Adapter | None]:
    """Read `--lora`.

    Args:
        value: `cross_attn=8, output=full`, or a mapping from groups to a rank, `full`, or
            `{r: 8, alpha: 16, dropout: 0.05}`; None or nothing: no adapters.

    Returns:
        Adapters by group, None for a group that is trained whole.

    Raises:
        ValueError: If a group is unknown or has no linear layers, a value is out of range, or all
            groups are trained whole.
    """
    if not value:
        return {}
    if isinstance(value, str) and value.lstrip().startswith("{"):  # the mapping, on a command line
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ValueError(f"lora: '{value}' is no mapping; {FORM}") from None
    if isinstance(value, str):
        pairs = [part.partition("=") for part in re.split(r"[,\s]+", value.strip(" ,"))]
        given: Mapping[str, Any] = {name: number for name, _, number in pairs}
        if len(given) != len(pairs):
            raise ValueError(f"lora: a group is named twice in '{value}'")
    else:
        given = value or {}
    found = {str(group): _adapter(str(group), each) for group, each in given.items()}
    if not any(found.values()):
        raise ValueError(f"lora: no group has a rank in '{value}': leave lora out, or give one")
    return found


def _adapter(group: str, given: Any) -> Adapter | None:
    if group not in GROUPS:
        raise ValueError(
            f"lora: unknown parameter group '{group}'{nearest(group, GROUPS)}; the groups are "
            f"{', '.join(GROUPS)}; {FORM}"
        )
    if given == FULL:
        return None
    if group not in LINEAR_GROUPS:
        raise ValueError(
            f"lora: {group} has no linear layers to adapt; {', '.join(LINEAR_GROUPS)} have; "
            f"{group}={FULL} trains it whole"
        )
    options = dict(given) if isinstance(given, Mapping) else {"r": given}
    if unknown := sorted(set(options) - {"r", "alpha", "dropout"}):
        raise ValueError(
            f"lora: {group} has no option '{unknown[0]}'"
            f"{nearest(unknown[0], ('r', 'alpha', 'dropout'))}; it has r, alpha, dropout"
        )
    rank = options.get("r", "nothing")
    if not re.fullmatch(r"[1-9]\d*", str(rank)):
        raise ValueError(f"lora: the rank of {group} is a whole number above 0, got {rank}; {FORM}")
    try:
        alpha, dropout = float(options.get("alpha", 0)), float(options.get("dropout", 0))
    except (TypeError, ValueError):
        raise ValueError(f"lora: alpha and dropout of {group} are numbers; {FORM}") from None
    if alpha < 0 or (alpha == 0 and "alpha" in options) or not 0 <= dropout < 1:
        raise ValueError(
            f"lora: {group} needs alpha > 0 and 0 <= dropout < 1, got alpha {alpha:g}, dropout "
            f"{dropout:g}"
        )
    return Adapter(int(rank), alpha, dropout)


def describe_options(adapters: Mapping[str, Adapter | None]) -> dict[str, Any]:
    """Return what the adapters of each group are, for the record: `parse` reads it again."""
    return {
        group: FULL
        if each is None
        else {"r": each.r, "alpha": each.scale * each.r, "dropout": each.dropout}
        for group, each in adapters.items()
    }


def check_stage(adapters: Mapping[str, Any], stage: str, trains: Sequence[str]) -> None:
    """Check that a stage trains every group that is named.

    Raises:
        ValueError: If it does not.
    """
    if extra := [group for group in adapters if group not in trains]:
        raise ValueError(
            f"lora: stage {stage} does not train {extra[0]}; it trains {', '.join(trains)}"
        )


def inject(whisper: torch.nn.Module, adapters: Mapping[str, Adapter | None]) -> None:
    """Put adapters into a module, in place; they start at nothing (B is zero).

    Args:
        whisper: A transformers `WhisperModel`.
        adapters: As `parse` returns them.

    Raises:
        ValueError: If PEFT is not installed.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise ValueError(f"lora needs the package peft: pip install peft ({error})") from None
    linear = [n for n, m in whisper.named_modules() if isinstance(m, torch.nn.Linear)]
    patterns = {
        group: _pattern(name for name in linear if group_of(name + ".weight") == group)
        for group, adapter in adapters.items()
        if adapter is not None
    }
    wanted = {group: adapter for group, adapter in adapters.items() if adapter is not None}
    config = LoraConfig(
        target_modules="|".join(patterns.values()),
        rank_pattern={patterns[group]: each.r for group, each in wanted.items()},
        alpha_pattern={patterns[group]: each.scale * each.r for group, each in wanted.items()},
    )
    inject_adapter_in_model(config, whisper, NAME)
    for name, module in whisper.named_modules():
        if isinstance(module, LoraLayer):
            # Under autocast the products cast by themselves; PEFT would make a float32 copy first.
            module.cast_input_dtype_enabled = False
            if share := wanted[group_of(name + ".weight")].dropout:
                module.lora_dropout[NAME] = torch.nn.Dropout(share)


def _pattern(names: Iterable[str]) -> str:
    """Return a regular expression of modules, whatever their layer."""
    kinds = {re.sub(r"(?<=\\\.)\d+(?=\\\.)", r"\\d+", re.escape(name)) for name in names}
    return "(" + "|".join(sorted(kinds)) + ")"


def keep_names(model: torch.nn.Module) -> None:
    """Make a model's state dict name adapted layers as before; adapters have names of their own.

    Args:
        model: A module with adapters somewhere inside.
    """
    owners = [n for n, _ in model.named_parameters() if BASE in n]

    def plain(_: Any, state: dict[str, Any], prefix: str, *__: Any) -> None:
        for name in list(state):  # all of them, so that their order stays
            state[name.replace(BASE, ".")] = state.pop(name)

    def wrapped(_: Any, state: dict[str, Any], prefix: str, *__: Any) -> None:
        for name in owners:
            if (tensor := state.pop(prefix + name.replace(BASE, "."), None)) is not None:
                state[prefix + name] = tensor

    model.register_state_dict_post_hook(plain)
    model.register_load_state_dict_pre_hook(wrapped)


def adapted(names: Iterable[str]) -> set[str]:
    """Return the names of the weights that adapters change.

    Args:
        names: Of a state dict.
    """
    return {ADAPTER.split(name)[0] + ".weight" for name in names if ADAPTER.search(name)}


def merged(
    state: Mapping[str, torch.Tensor], start: str, adapters: Mapping[str, Adapter | None]
) -> dict[str, torch.Tensor]:
    """Merge the adapters of a checkpoint into plain weights.

    Args:
        state: State dict of the trained model, `whisper.*`, adapters included.
        start: The model directory that training started from: its architecture.
        adapters: As `parse` returns them.

    Returns:
        The state dict of a model without adapters; what was not adapted is the same to the bit.
    """
    from peft.tuners.lora import LoraLayer

    from espnet_plugin.whisper import load_whisper

    holder = torch.nn.Module()
    whisper = load_whisper(start)
    inject(whisper, adapters)
    holder.whisper = whisper
    keep_names(holder)
    holder.load_state_dict(dict(state), strict=True)
    for module in holder.modules():
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
    return {n: t for n, t in holder.state_dict().items() if not ADAPTER.search(n)}


def describe(parameters: Mapping[str, torch.nn.Parameter]) -> list[str]:
    """Say which groups have adapters: a line for each.

    Args:
        parameters: By name.
    """
    lines = []
    for group in GROUPS:
        sizes = {
            name: parameter
            for name, parameter in parameters.items()
            if ADAPTER.search(name) and group_of(name) == group
        }
        if sizes:
            rank = next(p.shape[0] for n, p in sizes.items() if ".lora_A." in n)
            total = sum(p.numel() for p in sizes.values())
            lines.append(f"{group}: {len(sizes) // 2} adapters of rank {rank}, {total:,} in all")
    return lines
