"""What a training curve says about a run: known ways to fail, each with what to try.

`forgetting`, `no_switching` and `stage2_unstable` are the failure signatures that AsyncSwitch's
authors name (arXiv 2506.14190); the others are those of any training. The thresholds are ours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json
from espnet_plugin.text.stats import TextStats
from espnet_plugin.text.stats_report import LIMITS, percent

Row = Mapping[str, float]

MIXED = "cs"  # the language of code-switched data
PREFIX = "valid_loss_"


@dataclass(frozen=True)
class Limits:
    """When something is said; losses are compared as ratios.

    Attributes:
        rise: A loss that rose by more has risen.
        fall: A loss that fell by more has fallen.
        still: Change over the run that counts as none.
        explode: The loss of training over its lowest that is divergence, unless that of validation
            is at its lowest.
        patience: Epochs that a rise must last, or that are waited for a first change.
        spikes: In one epoch, that call stage 2 unstable.
    """

    rise: float = 0.03
    fall: float = 0.03
    still: float = 0.002
    explode: float = 1.5
    patience: int = 2
    spikes: int = 3


@dataclass(frozen=True)
class Finding:
    """A failure signature that was found.

    Attributes:
        name: One word; it is said once in a run.
        found: What the figures are.
        advice: What to try.
    """

    name: str
    found: str
    advice: str


def detect(
    rows: Sequence[Row], stage: str = "", after_text: bool = False, limits: Limits = Limits()
) -> list[Finding]:
    """Look for failure signatures in a curve.

    Args:
        rows: Of `curve.csv`, by epoch; epoch 0 is the start. What is missing or NaN is passed over.
        stage: The adaptation stage.
        after_text: Whether training started from a system whose stage 1 converged.
        limits: When to speak.
    """
    if not rows or rows[0]["epoch"] != 0 or len(rows) < 2:
        return []
    curve = _Curve(rows, limits)
    found = [
        curve.zero_rate(),
        curve.divergence(),
        curve.unstable_alignment() if stage == "adapt_align" and after_text else None,
        *curve.forgetting(),
        curve.no_switching(),
        curve.stuck(),
        curve.overfitting(),
    ]
    return [finding for finding in found if finding is not None]


class _Curve:
    def __init__(self, rows: Sequence[Row], limits: Limits) -> None:
        self.rows, self.start, self.now, self.limits = rows, rows[0], rows[-1], limits
        names = [name.removeprefix(PREFIX) for name in self.start if name.startswith(PREFIX)]
        self.mono = [name for name in names if name != MIXED]
        self.epoch = f"epoch {self.now['epoch']:.0f}"

    def change(self, key: str, row: Row | None = None) -> float:
        """Return the change of a loss since the start, as a ratio; NaN where it is not known."""
        before, after = self.start.get(key, math.nan), (row or self.now).get(key, math.nan)
        return after / before - 1 if before > 0 else math.nan

    def lasting(self, key: str) -> bool:
        """Tell whether a loss has been above its start for `patience` epochs, or all there are."""
        later = self.rows[1:][-self.limits.patience :]
        return all(self.change(key, row) > self.limits.rise for row in later)

    def moved(self, key: str) -> str:
        """Say where a loss came from and where it is."""
        return f"{self.start[key]:.3f} -> {self.now[key]:.3f} ({100 * self.change(key):+.0f} %)"

    def zero_rate(self) -> Finding | None:
        if self.now.get("lr", math.nan) != 0:
            return None
        return Finding(
            "zero_rate",
            f"in {self.epoch} the learning rate was 0 throughout: nothing was learned",
            "the schedule ended before the run did, or lr is 0: look at optim_conf lr, group_lr, "
            "and at total_steps and floor in scheduler_conf's inner_conf",
        )

    def divergence(self) -> Finding | None:
        losses = [r["train_loss"] for r in self.rows if r.get("train_loss", math.nan) > 0]
        now, lowest = self.now.get("train_loss", math.nan), min(losses, default=math.nan)
        valid = [row.get("valid_loss", math.nan) for row in self.rows]
        # Short epochs hold different batches: a run whose validation is at its best is healthy.
        if now > self.limits.explode * lowest and not valid[-1] < min(valid[:-1]):
            found = f"the training loss is {now:.3f} in {self.epoch}, it was {lowest:.3f}"
        elif self.change("valid_loss") > self.limits.explode - 1 and not self.forgetting():
            found = f"the validation loss went {self.moved('valid_loss')}"
        elif math.isnan(now) and "train_loss" in self.now:
            found = f"no batch of {self.epoch} had a finite loss"
        else:
            return None
        return Finding(
            "divergence",
            found,
            "lower the learning rate (or warm up longer), lower grad_clip, look at the events of "
            "kind spike and nonfinite_loss, and start again from the best checkpoint",
        )

    def unstable_alignment(self) -> Finding | None:
        """Stage 1 converged and stage 2 destabilises: paired data unlike the text corpus."""
        spikes = self.now.get("spikes", 0)
        if self.change("valid_loss") > self.limits.rise:
            found = f"the validation loss of stage 2 went {self.moved('valid_loss')}"
        elif spikes >= self.limits.spikes:
            found = f"{self.epoch} of stage 2 had {spikes:.0f} loss spikes"
        else:
            return None
        return Finding(
            "stage2_unstable",
            f"stage 1 converged, but {found}",
            "the transcripts are probably unlike the text corpus: compare both "
            "(espnet_plugin.bin.text_corpus stats), use one text_style and one normalisation for "
            "both, add in-domain text to stage 1, and lower stage 2's learning rate",
        )

    def forgetting(self) -> list[Finding]:
        """A monolingual set gets worse while code-switched speech or text gets better."""
        if not self.change(PREFIX + MIXED) < 0:
            return []
        return [
            Finding(
                f"forgetting_{language}",
                f"{self.epoch}: validation loss of {language} went {self.moved(PREFIX + language)} "
                f"while that of {MIXED} went {self.moved(PREFIX + MIXED)}",
                "this is forgetting: give the original model more weight in the merge (a lower "
                f"ratio), add {language} data to this stage, lower the learning rate, or train "
                "fewer updates",
            )
            for language in self.mono
            if self.lasting(PREFIX + language)
        ]

    def no_switching(self) -> Finding | None:
        """Monolingual sets get better, code-switched ones do not."""
        limits, mixed = self.limits, self.change(PREFIX + MIXED)
        others = [self.change(PREFIX + language) for language in self.mono]
        early = len(self.rows) - 1 < limits.patience
        if early or not others or not mixed > -limits.still or not max(others) < -limits.fall:
            return None
        languages = ", ".join(f"{m} {self.moved(PREFIX + m)}" for m in self.mono)
        return Finding(
            "no_switching",
            f"{self.epoch}: validation loss of {MIXED} went {self.moved(PREFIX + MIXED)}, while "
            f"monolingual sets improve ({languages})",
            "the data hardly switch language: look at the CMI in the text store's report, add "
            "switched text (recipe stage 2 makes some), or require a higher CMI (min_cmi)",
        )

    def stuck(self) -> Finding | None:
        losses = [row.get("valid_loss", math.nan) for row in self.rows]
        if len(self.rows) - 1 < self.limits.patience or any(map(math.isnan, losses)):
            return None
        if self.now.get("lr", math.nan) == 0:
            return None  # said already, with the reason
        if max(abs(loss / losses[0] - 1) for loss in losses[1:]) > self.limits.still:
            return None
        return Finding(
            "stuck",
            f"the validation loss has not moved in {self.now['epoch']:.0f} epochs "
            f"({self.moved('valid_loss')})",
            "the learning rate is far too low, every update is left out (see the column skipped "
            "and events.jsonl), or almost nothing moves (see the table at the start of the log)",
        )

    def overfitting(self) -> Finding | None:
        limits, rows = self.limits, self.rows[1:]
        if len(rows) < limits.patience + 1:
            return None
        best = min(row.get("valid_loss", math.nan) for row in rows)
        late = rows[-limits.patience :]
        up = all(row.get("valid_loss", math.nan) > best * (1 + limits.rise) for row in late)
        up = up and best < self.start.get("valid_loss", math.nan)
        before = rows[-limits.patience - 1].get("train_loss", math.nan)
        if not up or not self.now.get("train_loss", math.nan) < before:
            return None
        return Finding(
            "overfitting",
            f"validation loss {self.now['valid_loss']:.3f} in {self.epoch}, it was {best:.3f}; the "
            "training loss still falls",
            "the model learns its training data by heart: stop earlier (patience), keep the best "
            "checkpoint (keep: best), add data or augmentation, or lower the learning rate",
        )


def in_text(store: str | Path) -> list[Finding]:
    """Judge the text of stage 1 by the statistics that preparing its store left there."""
    report = Path(store) / "report" / "report.json"
    if not report.is_file():
        return []
    facts: dict[str, Any] = read_json(report)
    if facts["made_from"]["config"]["pair"] is None:
        return []  # words were not tagged
    figures = TextStats.from_json(facts["after"]).figures()
    if not figures["lines"] or figures["lines_switching"] >= LIMITS.switching:
        return []
    return [
        Finding(
            "no_switching_text",
            f"{percent(figures['lines_switching'])} of the lines of {store} switch language "
            f"(expected at least {percent(LIMITS.switching)}), the mean CMI is "
            f"{figures['cmi']:.1f}",
            "a model adapted to such text is typically good on monolingual and poor on "
            "code-switched speech: add switched text (recipe stage 2 makes some), require a "
            "higher CMI (min_cmi), or cap the sources that do not switch",
        )
    ]


def text_stage_converged(init_dir: str | Path) -> bool:
    """Tell whether training starts from a finished stage 1 that lowered its validation loss."""
    path = Path(init_dir) / "training.json"
    if not path.is_file():
        return False
    record = read_json(path)
    start, kept = record.get("valid_loss_start"), record.get("valid_loss_kept")
    return record.get("stage") == "adapt_text" and bool(start and kept) and kept < start
