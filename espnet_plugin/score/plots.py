"""Pictures of the report: WER over the merge ratio, and loss curves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.score.curves import read_curve
from espnet_plugin.score.results import Report
from espnet_plugin.score.sweep import Choice, sweep_systems
from espnet_plugin.stages import SWEEPS

# Okabe and Ito's colours, told apart with any kind of colour vision; shapes tell the lines apart
# too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLE = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.dpi": 150,
}


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise ValueError(
            "pictures need matplotlib: pip install 'espnet-asyncswitch[train]' (or [demo])"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: Path) -> Path:
    with atomic_write(path) as file:
        figure.savefig(file, format="png", bbox_inches="tight")
    return path


def plot_sweep(
    report: Report, sets: Sequence[str], path: Path, choice: Choice | None = None
) -> Path | None:
    """Draw WER over the merge ratio: a panel for each adapted model, a line with band for each set.

    Args:
        report: the scores; a sweep with fewer than three systems is left out.
        sets: names of the test sets.
        path: the PNG file.
        choice: the recommended ratio of the first sweep, marked by a line.

    Returns:
        The path; None when there is no sweep to draw.

    Raises:
        ValueError: matplotlib is not installed.
    """
    sweeps = [
        (tuned, found)
        for tuned, prefix in SWEEPS
        if len(found := sweep_systems(report.systems, tuned, prefix)) >= 3
    ]
    if not sweeps:
        return None
    plt = _pyplot()
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, len(sweeps), figsize=(1 + 4.6 * len(sweeps), 4.2), sharey=True, squeeze=False
        )
        for axis, (tuned, systems) in zip(axes[0], sweeps, strict=True):
            for index, name in enumerate(sets):
                _draw_line(axis, report, systems, name, index)
            axis.set_title(f"init merged with {tuned}")
            axis.set_xlabel(f"merge ratio (0 = init, 1 = {tuned})")
            axis.set_xticks(list(systems))
            axis.set_ylim(bottom=0)
            if choice is not None and tuned == SWEEPS[0][0]:
                axis.axvline(choice.ratio, color="0.4", linestyle=":", linewidth=1.5)
                axis.annotate(
                    "chosen on validation",
                    (choice.ratio, 0.99),
                    xycoords=("data", "axes fraction"),
                    xytext=(-3 if choice.ratio > 0.5 else 3, 0),
                    textcoords="offset points",
                    ha="right" if choice.ratio > 0.5 else "left",
                    va="top",
                    fontsize=8,
                    color="0.3",
                )
        axes[0][0].set_ylabel("word error rate (%)")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            title="band: 95 % interval",
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            frameon=False,
        )
        figure.tight_layout()
        _save(figure, path)
        plt.close(figure)
    return path


def _draw_line(axis: Any, report: Report, systems: dict[float, str], name: str, index: int) -> None:
    ratios = [ratio for ratio, system in systems.items() if (system, name) in report.scored]
    results = [report.result(systems[ratio], name) for ratio in ratios]
    colour = COLOURS[index % len(COLOURS)]
    axis.plot(
        ratios,
        [result["wer"] for result in results],
        marker=MARKERS[index % len(MARKERS)],
        color=colour,
        label=name,
    )
    low, high = zip(*(result["wer_ci95"] for result in results), strict=True)
    axis.fill_between(ratios, low, high, color=colour, alpha=0.15, linewidth=0)


def plot_curve(curve: Path, path: Path, title: str) -> Path:
    """Draw the training and validation loss of one stage over its updates.

    Args:
        curve: the stage's `curve.csv`.
        path: the PNG file.
        title: the system's name.

    Raises:
        FileNotFoundError: there is no curve.
        ValueError: the curve is malformed, or matplotlib is not installed.
    """
    points = read_curve(curve)
    plt = _pyplot()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 3.6))
        for index, (kind, label) in enumerate((("train", "training"), ("valid", "validation"))):
            line = [(p.updates, getattr(p, f"{kind}_loss")) for p in points]
            line = [(updates, loss) for updates, loss in line if loss is not None]
            if line:
                axis.plot(
                    *zip(*line, strict=True),
                    color=COLOURS[index],
                    marker=MARKERS[index],
                    linestyle=("--", "-")[index],
                    label=label,
                )
        valid = [(p.valid_loss, p.updates) for p in points if p.valid_loss is not None and p.epoch]
        if valid:
            loss, updates = min(valid)
            axis.plot([updates], [loss], "o", ms=13, mfc="none", color="0.3", label="best")
        axis.set_title(title)
        axis.set_xlabel("updates")
        axis.set_ylabel("loss (nats per token)")
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
        figure.tight_layout()
        _save(figure, path)
        plt.close(figure)
    return path
