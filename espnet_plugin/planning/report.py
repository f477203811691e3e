"""Plans of stages as data, as a table and as configuration."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from json import dumps
from typing import Any

from espnet_plugin.cli import nearest
from espnet_plugin.groups import select
from espnet_plugin.lora import check_stage
from espnet_plugin.lora import parse as parse_lora
from espnet_plugin.monitor.peaks import WITHOUT_BFLOAT16
from espnet_plugin.planning.budget import Setup
from espnet_plugin.planning.fit import (
    RATE,
    TOKENS_PER_SECOND,
    Fit,
    Options,
    largest_batch,
    options,
    worst,
)
from espnet_plugin.planning.machine import AMX, Machine, parse_machine
from espnet_plugin.planning.shapes import Shape, parameters, read_shape
from espnet_plugin.planning.support import missing
from espnet_plugin.stages import STAGES, Stage

# The method's numbers of the stages.
NUMBERS = {"1": "adapt_text", "2": "adapt_align", "3": "adapt_full"}
# A device's batch that makes do with no further saving: of text, of audio, of padded utterances.
AMPLE = {"positions": 2000, "samples": 90 * RATE, "utterances": 3}
AUTOCASTS = ("auto", "bfloat16", "none")
PADS = ("batch", "30s")
COLUMNS = ("weights", "grads", "optim", "copies", "acts", "working", "peak")


@dataclass(frozen=True)
class Row:
    """One way to run a stage, and what fits then.

    Attributes:
        setup: The way.
        fit: The largest batch.
        missing: What the package does not offer yet; the row is then for the future.
    """

    setup: Setup
    fit: Fit
    missing: list[str]

    @property
    def name(self) -> str:
        """Name the way."""
        parts = ["bf16" if self.setup.half else "fp32"]
        parts += [self.setup.sharding] if self.setup.sharding != "none" else []
        parts += ["8-bit Adam"] if self.setup.eight_bit else []
        parts += ["checkpointing"] if self.setup.checkpointing else []
        return " + ".join(parts)


@dataclass(frozen=True)
class StagePlan:
    """All ways to run one stage.

    Attributes:
        stage: The stage.
        trains: Selectors of what moves.
        moving: Parameters that move.
        total: All parameters.
        rows: Ways; those that can be run today first in each precision.
        chosen: The row that the configuration is for; None where nothing that can be run fits.
        options: The configuration.
        asked: The budget of the batch that was asked about, by the first row's setup.
        lora: Adapters, as given.
    """

    stage: Stage
    trains: tuple[str, ...]
    moving: int
    total: int
    rows: list[Row]
    chosen: Row | None
    options: Options | None
    asked: tuple[int, float] | None = None
    lora: str | None = None


def stage_names(stage: str) -> list[str]:
    """Return the stages that `--stage` names: 1, 2, 3, a name, or all (the three).

    Raises:
        ValueError: If there is no such stage.
    """
    if stage == "all":
        return list(NUMBERS.values())
    name = NUMBERS.get(stage, stage)
    if name not in STAGES:
        raise ValueError(
            f"--stage: there is no stage '{stage}'{nearest(stage, STAGES)}; choose 1, 2, 3, all "
            f"or one of {', '.join(STAGES)}"
        )
    return [name]


def ways(machine: Machine, autocast: str) -> list[Setup]:
    """Return the ways to run a stage on a machine; of the precision that is not the usual, one.

    `auto` is decided as in training. A GPU that only emulates bfloat16 has no way in it.

    Args:
        machine: The devices.
        autocast: As in training.
    """
    usual = autocast == "bfloat16" or (autocast == "auto" and machine.half)
    # In the order in which they are chosen: first what changes no result, the cheapest first.
    shardings = ("none", "zero1") if machine.world > 1 else ("none",)
    found = [
        Setup(usual, sharding, checkpointing, eight_bit)
        for eight_bit in (False, True)
        for checkpointing in (False, True)
        for sharding in shardings
    ]
    if machine.world > 1:
        found += [Setup(usual, "fsdp"), Setup(usual, "fsdp", checkpointing=True)]
    both = autocast == "auto" and machine.name not in WITHOUT_BFLOAT16
    return [*found, Setup(not usual)] if both else found


def choose(rows: Sequence[Row]) -> Row | None:
    """Return the first way that has room, else that with the largest batch; None if none fits."""
    usable = [row for row in rows if row.fit.bins and not row.missing]
    roomy = (row for row in usable if row.fit.bins >= AMPLE[row.fit.unit])
    return next(roomy, max(usable, key=lambda row: row.fit.bins, default=None))


def plan_stage(
    shape: Shape,
    machine: Machine,
    stage: Stage,
    pad: str = "batch",
    autocast: str = "auto",
    trains: Sequence[str] = (),
    tokens_per_second: float = TOKENS_PER_SECOND,
    target: int | None = None,
    batch_bins: int | None = None,
    lora: str | None = None,
) -> StagePlan:
    """Plan a stage.

    Args:
        shape: Of the model.
        machine: The devices.
        stage: What is run.
        pad: `batch` or `30s`.
        autocast: `auto` (both precisions), `bfloat16` or `none`.
        trains: Selectors of `groups.select` in place of the stage's groups, for a schedule
            that moves less.
        tokens_per_second: Text tokens for a second of speech.
        target: Positions, or seconds of audio, of an update on all devices.
        batch_bins: A batch to judge: positions, samples, or utterances with `pad: 30s`.
        lora: Adapters by group, as in training; what is not named is frozen.

    Raises:
        ValueError: If an option is unknown or out of range.
    """
    for option, value, known in (("pad", pad, PADS), ("autocast", autocast, AUTOCASTS)):
        if value not in known:
            raise ValueError(f"--{option}: '{value}' is not one of {', '.join(known)}")
    for option, number in (
        ("tokens_per_second", tokens_per_second),
        ("target", target),
        ("batch_bins", batch_bins),
    ):
        if number is not None and number <= 0:
            raise ValueError(f"--{option} must be above 0, got {number:g}")
    adapters = parse_lora(lora)
    check_stage(adapters, stage.name, stage.trains)
    ranks = tuple((group, each.r) for group, each in adapters.items() if each is not None)
    shape = replace(shape, lora=ranks)
    sizes = parameters(shape)
    selectors = tuple(trains) or tuple(adapters) or stage.trains
    moving = frozenset(select(selectors, sizes))
    if extra := {s.split(".")[0] for s in selectors} - set(stage.trains):
        raise ValueError(f"--trains: stage {stage.name} does not train {sorted(extra)[0]}")
    unit = "positions" if stage.data == "text" else {"batch": "samples", "30s": "utterances"}[pad]
    samples = target * RATE if target and stage.data == "paired" else target
    rows = []
    for setup in ways(machine, autocast):
        fit = largest_batch(shape, moving, machine, setup, unit, tokens_per_second)
        found = options(fit, machine.world, samples)
        if found is not None and found.lines["accum_grad"] != 1 and machine.world == 1:
            # Gradients stay between the batches of an update: a little less fits.
            setup = replace(setup, accumulate=True)
            fit = largest_batch(shape, moving, machine, setup, unit, tokens_per_second)
        rows.append(Row(setup, fit, missing(setup.sharding, setup.checkpointing)))
    chosen = choose(rows)
    asked = None
    if batch_bins is not None:
        first = worst(shape, moving, machine, rows[0].setup, unit, batch_bins, tokens_per_second)
        asked = (batch_bins, first.peak)
    return StagePlan(
        stage=stage,
        trains=selectors,
        moving=sum(sizes[name] for name in moving),
        total=sum(sizes.values()),
        rows=rows,
        chosen=chosen,
        options=options(chosen.fit, machine.world, samples) if chosen else None,
        lora=lora,
        asked=asked,
    )


def fits(fit: Fit) -> str:
    """Say what fits."""
    if not fit.bins:
        return "nothing"
    if fit.unit == "samples":
        return f"{fit.seconds:,.0f} s of audio"
    return f"{fit.bins:,} {fit.unit}"


def table(plan: StagePlan) -> str:
    """Return a stage's table: gigabytes on each device at the moment of the peak."""
    head = (
        f"{plan.stage.name}: {plan.moving / 1e6:,.1f} M of {plan.total / 1e6:,.1f} M parameters "
        f"move ({', '.join(plan.trains)})"
    )
    lines = [head, f"  {'way':<36}" + "".join(f"{c:>8}" for c in COLUMNS) + "  largest batch"]
    for row in plan.rows:
        b = row.fit.budget
        figures = (
            b.parameters,
            b.gradients + b.buckets,
            b.optimiser,
            b.copies,
            b.activations,
            b.working,
            b.peak,
        )
        note = f" (not offered yet: {', '.join(row.missing)})" if row.missing else ""
        if not row.fit.bins:
            note = f": the least batch takes {b.peak / 1e9:.1f} GB{note}"
        numbers = "".join(f"{figure / 1e9:8.2f}" for figure in figures)
        lines.append(f"  {row.name:<36}{numbers}  {fits(row.fit)}{note}")
    return "\n".join(lines)


def fragment(plan: StagePlan, machine: Machine) -> str:
    """Return configuration for the way that is chosen."""
    if plan.chosen is None or plan.options is None:
        return f"# {plan.stage.name}: nothing that this package offers today fits on {machine}"
    update = plan.options.update
    unit = plan.chosen.fit.unit
    each = f"{update / RATE:,.0f} s of audio" if unit == "samples" else f"{update:,} {unit}"
    lines = [f"# {plan.stage.name} on {machine}: an update sees about {each}"]
    lines += [f"{key}: {value}" for key, value in plan.options.lines.items()]
    setup = plan.chosen.setup
    lines.append(f"autocast: {'bfloat16' if setup.half else 'none'}")
    lines += ["checkpointing: all"] if setup.checkpointing else []
    lines += ["shard_optimizer: true"] if setup.sharding == "zero1" else []
    lines += ["optim: adamw8bit"] if setup.eight_bit else []
    lines += [f'lora: "{plan.lora}"'] if plan.lora else []
    return "\n".join(lines)


def precision(machine: Machine) -> str:
    """Say what `autocast: auto` is there."""
    if machine.kind == "cpu":
        other = "" if machine.half else f" (with AMX tiles bfloat16: cpu:24:{AMX})"
    elif machine.half:
        other = "" if machine.name else " (before Ampere float32: name the GPU, 1x16:T4)"
    else:
        other = ": these GPUs have no bfloat16"
    return f"autocast: auto is {'bfloat16' if machine.half else 'float32'} there{other}"


def render(shape: Shape, machine: Machine, plans: Sequence[StagePlan]) -> str:
    """Return everything as text."""
    text = [
        f"{shape.name} on {machine}: {machine.usable / 1e9:.1f} GB for tensors on each "
        f"(estimated: {machine.context / 1e9:.1f} GB for the process, some for fragments)",
        "GB on each device at the peak of a step; the batch is that of one device",
        precision(machine),
    ]
    for plan in plans:
        text += ["", table(plan)]
        if plan.asked:
            bins, peak = plan.asked
            verdict = "fits" if peak <= machine.usable else "does NOT fit"
            text.append(
                f"  {bins:,}, as asked ({plan.rows[0].name}): {peak / 1e9:.2f} GB, {verdict}"
            )
        text += ["", fragment(plan, machine)]
    return "\n".join(text)


def as_data(shape: Shape, machine: Machine, plans: Sequence[StagePlan]) -> dict[str, Any]:
    """Return everything as plain values, sizes in bytes."""
    stages = {}
    for plan in plans:
        stages[plan.stage.name] = {
            "trains": list(plan.trains),
            "parameters_moving": plan.moving,
            "parameters": plan.total,
            "ways": [
                {
                    "name": row.name,
                    **asdict(row.setup),
                    "not_offered": row.missing,
                    "unit": row.fit.unit,
                    "largest_batch": row.fit.bins,
                    "peak_bytes": row.fit.budget.peak,
                    "bytes": asdict(row.fit.budget),
                }
                for row in plan.rows
            ],
            "suggested": plan.options.lines if plan.options else None,
            "asked": plan.asked and {"bins": plan.asked[0], "peak_bytes": plan.asked[1]},
        }
    return {
        "model": asdict(shape),
        "machine": asdict(machine),
        "usable_bytes": machine.usable,
        "auto_is_bfloat16": machine.half,
        "stages": stages,
    }


def plan(
    model: str,
    stage: str,
    gpus: str,
    json: bool = False,
    **settings: Any,
) -> str:
    """Plan stages of a model on a machine; the whole of `espnet_plugin.bin.plan`.

    Args:
        model: Name or directory.
        stage: As in `stage_names`.
        gpus: As in `parse_machine`.
        json: JSON in place of a table.
        settings: As in `plan_stage`.

    Raises:
        ValueError: If an option is wrong.
        FileNotFoundError: If there is no such model.
    """
    names, machine, shape = stage_names(stage), parse_machine(gpus), read_shape(model)
    plans = [plan_stage(shape, machine, STAGES[name], **settings) for name in names]
    if json:
        return dumps(as_data(shape, machine, plans), indent=1)
    return render(shape, machine, plans)
