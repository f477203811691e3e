"""Freeze schedules: which parameter groups move, as an ESPnet scheduler.

`FreezeSchedule` wraps the learning-rate schedule and owns `requires_grad`. ESPnet builds it from
`--scheduler freeze --scheduler_conf ...`, steps it after each update, and saves and restores it
with the checkpoint. The groups come from `stages.py`; see `groups.py` for their names.

Frozen tensors stay bit-identical, weight decay included, because optimisers skip parameters whose
gradient is None; a gradient of zeros would still be decayed.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from espnet2.schedulers.abs_scheduler import AbsBatchStepScheduler, AbsEpochStepScheduler
from torch.optim.lr_scheduler import LRScheduler

from espnet_plugin.cli import nearest
from espnet_plugin.groups import GROUPS, group_of, is_fixed, select
from espnet_plugin.lora import describe as describe_adapters
from espnet_plugin.optim import numbers

KINDS = ("staged", "gradual")
UNITS = ("step", "epoch")


class WarmupLinear(LRScheduler, AbsBatchStepScheduler):
    """Linear warm-up to the base learning rate, then linear decay to a floor.

    factor(k) = (k + 1) / warmup_steps while k < warmup_steps, then falls linearly from 1 to
    `floor` at `total_steps`, where it stays; k counts updates from 0.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        warmup_steps: int = 0,
        total_steps: int = 1000,
        floor: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        """Build the schedule.

        Args:
            optimizer: Its groups' `lr` are the peaks.
            warmup_steps: Updates until the peak, >= 0.
            total_steps: Updates until the floor, > warmup_steps.
            floor: Final fraction of the peak, 0 to 1.
            last_epoch: As in torch: the last update, -1 at the start.

        Raises:
            ValueError: If a value is out of range.
        """
        if not 0 <= warmup_steps < total_steps or not 0 <= floor <= 1:
            raise ValueError(
                f"warmuplinear needs 0 <= warmup_steps < total_steps and 0 <= floor <= 1, got "
                f"warmup_steps={warmup_steps}, total_steps={total_steps}, floor={floor}"
            )
        self.warmup_steps, self.total_steps, self.floor = warmup_steps, total_steps, floor
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | torch.Tensor]:
        """Return the learning rate of each optimiser group at the current update."""
        step = self.last_epoch
        if step < self.warmup_steps:
            factor = (step + 1) / self.warmup_steps
        else:
            done = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
            factor = max(self.floor, 1 - done * (1 - self.floor))
        return [lr * factor for lr in self.base_lrs]


class FreezeSchedule(AbsBatchStepScheduler):
    """Which groups move and when, around an inner learning-rate schedule.

    Kinds: `staged` has one set for the whole run; with `gradual`, groups (or layers of groups)
    join at given epochs or updates and stay.

    Under DDP everything that will ever move is trainable while the model is wrapped; the
    trainer calls `begin_epoch` afterwards, which freezes what is not due yet. Groups that were
    frozen when DDP wrapped and joined later would diverge between ranks in silence.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        kind: str = "staged",
        trainable: Sequence[str] = (),
        joins: Sequence[Mapping[str, Any]] = (),
        inner: str | None = None,
        inner_conf: Mapping[str, Any] | None = None,
    ) -> None:
        """Build the schedule and freeze what will never move.

        Args:
            optimizer: Its groups carry parameter names (`param_names`), as ours do.
            kind: `staged` or `gradual`.
            trainable: For `staged`: selectors as in `groups.select`.
            joins: For `gradual`: `{"at": 0, "unit": "epoch"|"step", "groups": [selectors]}`.
                `at` counts finished epochs or updates, so something must join at 0.
            inner: Name of a learning-rate schedule that ESPnet knows and that steps once an
                update, e.g. `warmuplr` or `warmuplinear`; None keeps the rates constant.
            inner_conf: Its options.

        Raises:
            ValueError: If a kind, unit, group or inner schedule is unknown, a selector matches
                nothing, or nothing would move; the message lists what exists.
        """
        self.optimizer = optimizer
        self.kind = kind
        self._parameters = _named_parameters(optimizer)
        self._joins = self._plan(kind, trainable, joins)
        self.steps = 0
        self.epoch = 1
        self.inner = _build_inner(optimizer, inner, numbers(inner_conf or {}))
        ever = set().union(*(names for _, _, names in self._joins))
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name in ever)

    def _plan(
        self, kind: str, trainable: Sequence[str], joins: Sequence[Mapping[str, Any]]
    ) -> list[tuple[str, int, set[str]]]:
        if kind not in KINDS:
            raise ValueError(f"unknown freeze schedule '{kind}': choose {' or '.join(KINDS)}")
        if kind == "staged":
            if joins:
                raise ValueError("'joins' belongs to the gradual freeze schedule, not to staged")
            joins = [{"at": 0, "unit": "step", "groups": list(trainable)}]
        elif trainable:
            raise ValueError("'trainable' belongs to the staged freeze schedule, not to gradual")
        plan = []
        for entry in joins:
            unknown = set(entry) - {"at", "unit", "groups"}
            if unknown or "groups" not in entry:
                raise ValueError(f"a join has the keys at, unit and groups, got {dict(entry)}")
            unit, at = entry.get("unit", "epoch"), entry.get("at", 0)
            if unit not in UNITS or not isinstance(at, int) or at < 0:
                raise ValueError(f"a join needs a whole 'at' >= 0 in step or epoch: {dict(entry)}")
            plan.append((unit, at, select(entry["groups"], self._parameters)))
        if not any(at == 0 and names for _, at, names in plan):
            raise ValueError(
                "the freeze schedule moves nothing at its start; "
                f"the groups are {', '.join(GROUPS)}"
            )
        return plan

    def active(self) -> set[str]:
        """Return the names of the parameters that move now."""
        done = {"step": self.steps, "epoch": self.epoch - 1}
        return set().union(*(names for unit, at, names in self._joins if done[unit] >= at))

    def apply(self) -> None:
        """Set `requires_grad`; gradients of frozen parameters are dropped."""
        active = self.active()
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(name in active)
            if name not in active:
                parameter.grad = None

    def begin_epoch(self, epoch: int) -> None:
        """Tell the schedule which epoch (from 1) starts; the trainer does, after DDP wrapped."""
        self.epoch = epoch
        self.apply()

    def step(self, epoch: int | None = None) -> None:
        """Count one update, and let the learning rate follow."""
        self.steps += 1
        if self.inner is not None:
            self.inner.step()
        if self.kind == "gradual":
            self.apply()

    @property
    def changes(self) -> bool:
        """True if the set of moving parameters changes during the run."""
        return self.kind == "gradual" and len({at for _, at, _ in self._joins}) > 1

    def state_dict(self) -> dict[str, Any]:
        """Return plain values that ESPnet stores in its checkpoint."""
        inner = None if self.inner is None else self.inner.state_dict()
        return {"kind": self.kind, "steps": self.steps, "epoch": self.epoch, "inner": inner}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: If the state is of another kind of schedule.
        """
        if state["kind"] != self.kind or (state["inner"] is None) != (self.inner is None):
            raise ValueError(
                f"the checkpoint was written with a '{state['kind']}' freeze schedule, this run "
                f"asks for '{self.kind}' with another inner schedule: use a new output directory"
            )
        self.steps, self.epoch = state["steps"], state["epoch"]
        if self.inner is not None:
            self.inner.load_state_dict(state["inner"])

    def audit(self) -> str:
        """Return a table of what moves now: group, parameters, share, learning rate, decay."""
        active = self.active()
        total = sum(p.numel() for p in self._parameters.values())
        head = ("parameters", "moving")
        lines = [f"{'group':<12}{head[0]:>14}{head[1]:>14}{'%':>7}{'peak lr':>10}{'decay':>8}"]
        moving = 0
        for group in self.optimizer.param_groups:
            names = group["param_names"]
            size = sum(self._parameters[n].numel() for n in names)
            on = sum(self._parameters[n].numel() for n in names if n in active)
            moving += on
            lines.append(
                f"{group['name']:<12}{size:>14,}{on:>14,}{100 * on / max(size, 1):>7.1f}"
                f"{group.get('initial_lr', group['lr']):>10.1e}{group.get('weight_decay', 0):>8.3g}"
            )
        lines.append(f"{'total':<12}{total:>14,}{moving:>14,}{100 * moving / total:>7.1f}")
        lines += describe_adapters(self._parameters)
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Name what moves, for ESPnet's log."""
        plan = "; ".join(
            f"{sorted({group_of(n) for n in names})} from {unit} {at}"
            for unit, at, names in self._joins
        )
        return f"FreezeSchedule({self.kind}: {plan}; inner={self.inner!r})"


def _named_parameters(optimizer: torch.optim.Optimizer) -> dict[str, torch.nn.Parameter]:
    named: dict[str, torch.nn.Parameter] = {}
    for group in optimizer.param_groups:
        if "param_names" not in group or "name" not in group:
            raise ValueError(
                "the freeze scheduler needs an optimiser with named groups, as "
                "espnet_plugin.optim.build_optimizer makes (run espnet_plugin.bin.asr_train)"
            )
        named.update(zip(group["param_names"], group["params"], strict=True))
    if fixed := [name for name in named if is_fixed(name)]:
        raise ValueError(f"{', '.join(fixed)}: constants must not be given to the optimiser")
    return named


def _build_inner(
    optimizer: torch.optim.Optimizer, name: str | None, conf: dict[str, Any]
) -> Any | None:
    if name is None:
        if conf:
            raise ValueError(f"inner_conf {conf} is given without an inner schedule")
        return None
    if name == "warmuplinear":
        check_options(WarmupLinear, conf, "inner_conf")
        if text := {k: v for k, v in conf.items() if isinstance(v, str)}:
            raise ValueError(f"inner_conf: warmuplinear takes numbers, got {text}")
        return WarmupLinear(optimizer, **conf)
    from espnet2.tasks.abs_task import scheduler_classes  # takes seconds: only when needed

    usable = {
        key: value
        for key, value in scheduler_classes.items()
        if issubclass(value, AbsBatchStepScheduler)
        and not issubclass(value, AbsEpochStepScheduler | FreezeSchedule)
    }
    if name not in usable:
        known = ", ".join(sorted({"warmuplinear", *usable}))
        raise ValueError(
            f"inner schedule '{name}' is unknown or does not step once an update (it would never "
            f"be stepped){nearest(name, ('warmuplinear', *usable))}: choose one of {known}"
        )
    check_options(usable[name], conf, "inner_conf")
    return usable[name](optimizer, **conf)


def check_options(kind: type, conf: Mapping[str, Any], where: str) -> None:
    """Check the options of a schedule.

    Args:
        kind: The schedule; its first argument is the optimiser.
        conf: Its options.
        where: What holds them, for the message.

    Raises:
        ValueError: If there is no such option; names the nearest.
    """
    known = [*inspect.signature(kind).parameters][1:]
    if unknown := sorted(set(conf) - set(known)):
        raise ValueError(
            f"{where}: {kind.__name__} has no option '{unknown[0]}'{nearest(unknown[0], known)}; "
            f"it has {', '.join(known)}"
        )
