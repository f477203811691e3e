"""The one table of the method: which parameter groups an adaptation stage moves, and on what.

Everything that needs to know what a stage trains (freeze schedules, recipe scripts, audits, tests,
documents) reads it here; configuration files never list groups.

Source: AsyncSwitch, arXiv 2506.14190, section III-B (stages 1 to 3).
"""

import re
from dataclasses import dataclass

from espnet_plugin.cli import nearest
from espnet_plugin.groups import GROUPS


@dataclass(frozen=True)
class Stage:
    """One adaptation stage.

    Attributes:
        name: The name used on command lines and in directory names.
        data: `text` (unpaired lines) or `paired` (speech with transcripts).
        trains: Parameter groups that move; every other group is frozen.
        paper: Where the paper describes the stage.
        does: One line for people.
    """

    name: str
    data: str
    trains: tuple[str, ...]
    paper: str
    does: str

    @property
    def freezes(self) -> tuple[str, ...]:
        """Groups that stay bit-identical during this stage."""
        return tuple(group for group in GROUPS if group not in self.trains)


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(
            "adapt_text",
            "text",
            ("self_attn", "ffn", "output"),
            "III-B-1",
            "stage 1: the decoder becomes a language model of code-switched text (x = 0)",
        ),
        Stage(
            "adapt_align",
            "paired",
            ("cross_attn",),
            "III-B-2",
            "stage 2: cross-attention is aligned with the adapted decoder",
        ),
        Stage(
            "adapt_full",
            "paired",
            GROUPS,
            "III-B-3",
            "stage 3: everything is trained on paired speech",
        ),
        Stage(
            "acoustic",
            "paired",
            GROUPS,
            "the premise of III-B: an encoder that already knows the speech",
            "before stage 1: plain fine-tuning on monolingual speech (used by the demo)",
        ),
    )
}


@dataclass(frozen=True)
class System:
    """One trained system: where it starts, and the stage that makes it from there.

    Attributes:
        name: Directory under the experiment directory.
        start: The system whose weights it starts from.
        stage: The stage that is run, a key of `STAGES`.
        matched: True if it makes up for a skipped stage 2, so that every path from `init`
            to a finished system sees the same number of paired updates.
        does: One line for people.
    """

    name: str
    start: str
    stage: str
    matched: bool
    does: str


SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        System("init", "whisper_base", "acoustic", False, "where adaptation starts"),
        System("adapt_text", "init", "adapt_text", False, "stage 1"),
        System("adapt_align", "adapt_text", "adapt_align", False, "stages 1, 2"),
        System("adapt_full", "adapt_align", "adapt_full", False, "stages 1, 2, 3: the method"),
        System("direct_full", "init", "adapt_full", True, "stage 3 alone: plain fine-tuning"),
        System("text_full", "adapt_text", "adapt_full", True, "stages 1, 3: no alignment"),
        System("align_only", "init", "adapt_align", False, "stage 2 alone"),
        System("align_full", "align_only", "adapt_full", False, "stages 2, 3: no text"),
    )
}

# What is merged: the adapted model at ratio 1, and the prefix of its merges with BASE at ratio 0.
BASE = "init"
SWEEPS = (("adapt_full", "merge_"), ("direct_full", "direct_merge_"))

# The recipe's number of the stage that runs an adaptation stage (`asyncswitch.sh`).
RECIPE_STAGE = {"acoustic": 5, "adapt_text": 8, "adapt_align": 9, "adapt_full": 10}


def get_stage(name: str) -> Stage:
    """Return the stage called `name`.

    Raises:
        ValueError: If there is none; the message lists those that exist.
    """
    if name not in STAGES:
        raise ValueError(
            f"unknown adaptation stage '{name}'{nearest(name, STAGES)}: choose one of "
            f"{', '.join(STAGES)}"
        )
    return STAGES[name]


def get_system(name: str) -> System:
    """Return the system called `name`.

    Raises:
        ValueError: If there is none; the message lists those that exist.
    """
    if name not in SYSTEMS:
        raise ValueError(f"unknown system '{name}': choose from {', '.join(SYSTEMS)}")
    return SYSTEMS[name]


def merged_from(system: str) -> tuple[str, str] | None:
    """Return what a system is merged from, base and tuned; None where it is no merge."""
    for tuned, prefix in SWEEPS:
        if re.fullmatch(re.escape(prefix) + r"[0-9.]+", system):
            return BASE, tuned
    return None


def made_by(system: str) -> str:
    """Say which recipe stage makes a system."""
    if "merge_" in system:
        return "merging (recipe stage 11) makes it"
    if system in SYSTEMS:
        return f"recipe stage {RECIPE_STAGE[SYSTEMS[system].stage]} makes it"
    return "import (recipe stage 5) makes base models"
