"""Whether a checkpoint is of this run, and what a run may change when it goes on.

Stage, start, optimiser and adapters say what the tensors of a checkpoint mean: where they differ
the checkpoint is of another run. Rates, decays, the schedule's length and the data may change. A
checkpoint brings the rates that it was written with; those that this run asks for take their place,
and each change is said.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espnet_plugin import lora
from espnet_plugin.freeze import FreezeSchedule, WarmupLinear

BEGUN = 64  # values of each tensor that tell one start from another
OPTIONS = (
    *("train_data", "valid_data", "train_text", "valid_text", "seed", "accum_grad"),
    *("num_iters_per_epoch", "batch_type", "batch_size", "batch_bins"),
)
OF_DEVICE = ("fused", "foreach", "capturable", "differentiable")  # forms of the same update
NO_OPTIONS = ("params", "param_names", "name")
SHAPE = ("warmup_steps", "total_steps", "floor")


@dataclass
class Options:
    """What is noted of a run beside its checkpoints, besides what ESPnet's trainer is given.

    Attributes:
        optim: Name of the optimiser.
        lora: Ranks of adapters, as given.
        valid_text: Token store, or None.
        valid_data: Data directory, or None.
        num_iters_per_epoch: Batches of an epoch, or None.
        batch_type: ESPnet's.
        batch_size: ESPnet's.
        batch_bins: ESPnet's.
    """

    optim: str
    lora: Any
    valid_text: str | None
    valid_data: str | None
    num_iters_per_epoch: int | None
    batch_type: str
    batch_size: int
    batch_bins: int


def describe(options: Any, model: torch.nn.Module) -> dict[str, Any]:
    """Return what is noted of a run; JSON values.

    Args:
        options: The trainer's.
        model: As it starts, before a checkpoint is loaded.
    """
    run = {
        "adaptation_stage": options.adaptation_stage,
        "optim": options.optim,
        "lora": lora.describe_options(lora.parse(options.lora)) or None,
        "init_dir": str(options.init_dir),
        "start": fingerprint(model),
    }
    return {"run": run, "options": {name: getattr(options, name) for name in OPTIONS}}


def fingerprint(model: torch.nn.Module) -> str:
    """Return a hash of the beginning of each tensor; adapters, which begin at random, not counted.

    A whole hash would take a minute for a large model, and starts differ everywhere.
    """
    digest = hashlib.sha256()
    named = {n.replace(".base_layer", ""): p for n, p in model.named_parameters()}
    for name, parameter in sorted(named.items()):
        if "lora_" not in name:
            begun = parameter.detach().flatten()[:BEGUN].float().cpu().numpy()
            digest.update(f"{name} {tuple(parameter.shape)}".encode() + begun.tobytes())
    return digest.hexdigest()


def check(before: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
    """Check that a checkpoint is of this run.

    Args:
        before: What was noted beside it, as `describe` returns it; may be empty.
        now: Likewise, of this run.
        checkpoint: Its path, for the message.

    Raises:
        ValueError: If it is not; says what differs.
    """
    old, new = before.get("run", {}), now["run"]
    differ = [
        f"--{key} is {new[key]}, was {old[key]}"
        for key in ("adaptation_stage", "optim", "lora")
        if key in old and old[key] != new[key]
    ]
    if old.get("start", new["start"]) != new["start"]:
        same = old["init_dir"] == new["init_dir"]
        was = "whose weights have changed since" if same else f"was {old['init_dir']}"
        differ.append(f"--init_dir is {new['init_dir']}, {was}")
    if differ:
        raise ValueError(
            f"{checkpoint} is of another run: {'; '.join(differ)}. Give another --output_dir, or "
            "--resume false to begin this one anew and lose that"
        )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Say which options of data and batches differ from those noted beside a checkpoint."""
    old, new = before.get("options", {}), now.get("options", {})
    differ = [f"--{k} is {new[k]}, was {old[k]}" for k in new if k in old and old[k] != new[k]]
    if differ:
        yield f"not as before: {'; '.join(differ)}; batches from here on follow it"


class Asked:
    """Rates and other options of the optimisers as this run asks for them."""

    def __init__(
        self, optimizers: Sequence[torch.optim.Optimizer], schedulers: Sequence[Any]
    ) -> None:
        """Note them, before a checkpoint brings its own."""
        self.optimizers = optimizers
        self.groups = [[_options(group) for group in o.param_groups] for o in optimizers]
        self.inner = [s.inner for s in schedulers if isinstance(s, FreezeSchedule) and s.inner]
        self.shapes = [_shape(inner) for inner in self.inner]

    def apply(self) -> list[str]:
        """Put them in place of the checkpoint's; returns what changed by it, for people."""
        changed = dict[tuple[str, str, str], list[str]]()
        for optimizer, asked in zip(self.optimizers, self.groups, strict=True):
            for group, options in zip(optimizer.param_groups, asked, strict=True):
                for key, new in options.items():
                    if (old := group.get(key, new)) == new:
                        continue
                    group[key] = new
                    if key == "initial_lr":  # what the schedule has made of it
                        group["lr"] = group["lr"] * new / old if old else new
                    if key not in OF_DEVICE:
                        name = "lr" if key == "initial_lr" else key
                        changed.setdefault((name, str(new), str(old)), []).append(group["name"])
        said = [
            f"{key} is now {new}, was {old} ({', '.join(names)})"
            for (key, new, old), names in changed.items()
        ]
        for inner, shape in zip(self.inner, self.shapes, strict=True):
            found = _shape(inner)
            longer = [
                f"{k} is now {shape[k]}, was {found[k]}" for k in shape if shape[k] != found[k]
            ]
            vars(inner).update(shape)
            if said or longer:
                groups = inner.optimizer.param_groups
                inner.base_lrs = [group["initial_lr"] for group in groups]
                if shape:  # rates follow from the step alone
                    for group, rate in zip(groups, inner.get_lr(), strict=True):
                        group["lr"] = rate
            said += longer
        return said


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a group; its rate of the moment is none where a schedule sets it."""
    moment = ("lr",) if "initial_lr" in group else ()
    return {k: v for k, v in group.items() if k not in (*NO_OPTIONS, *moment)}


def _shape(inner: Any) -> dict[str, Any]:
    return {k: getattr(inner, k) for k in SHAPE} if isinstance(inner, WarmupLinear) else {}
