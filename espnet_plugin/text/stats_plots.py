"""Pictures of text statistics, before and after filtering side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.score.plots import COLOURS, STYLE
from espnet_plugin.text.source_counts import CAPACITY
from espnet_plugin.text.stats import CMI_STEP, LENGTH_BINS, MOST_SPAN, MOST_SWITCHES, TextStats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LANGUAGES_SHOWN = 8
SOURCES_SHOWN = 10
SPANS_SHOWN = 12
SWITCHES_SHOWN = 10
NAME_LENGTH = 28  # characters of a source's name
_HATCHES = ("", "//")


def plot(before: TextStats | None, after: TextStats, output: str | Path) -> list[Path]:
    """Draw two pictures: how much the text switches, and what it is made of.

    Args:
        before: statistics before the filters; None draws one corpus alone.
        after: statistics after them.
        output: directory for `text_switching.png` and `text_content.png`; made if missing.

    Returns:
        The paths.

    Raises:
        ValueError: matplotlib is not installed.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
        from matplotlib.patches import Patch
    except ImportError:
        raise ValueError(
            "pictures need matplotlib: pip install 'espnet-asyncswitch[train]' (or [demo])"
        ) from None
    corpora = {"corpus": after} if before is None else {"before": before, "after": after}
    pictures = {
        "text_switching.png": (_cmi, _switches, _spans, _directions),
        "text_content.png": (_languages, _tags, _lengths, _sources),
    }
    paths = []
    for name, panels in pictures.items():
        with matplotlib.rc_context({**STYLE, "axes.titlesize": 11}):  # type: ignore[dict-item]
            layout = ConstrainedLayoutEngine(hspace=0.08, wspace=0.06)
            figure = Figure(figsize=(11, 8), layout=layout)
            for axis, panel in zip(figure.subplots(2, 2).flat, panels, strict=True):
                panel(axis, corpora)
            labels = [
                f"{title}: {corpus.lines:,} lines, {corpus.words:,} words"
                for title, corpus in corpora.items()
            ]
            figure.legend(
                [Patch(label=label, **_style(index)) for index, label in enumerate(labels)],
                labels,
                loc="outside upper center",
                ncols=2,
                frameon=False,
            )
            path = Path(output) / name
            with atomic_write(path) as file:
                figure.savefig(file, format="png")
        paths.append(path)
    return paths


def _style(index: int) -> dict[str, Any]:
    """Give the looks of a corpus: colour, and a hatch for readers who cannot tell colours."""
    return {
        "facecolor": COLOURS[index],
        "edgecolor": "white",
        "linewidth": 0.5,
        "hatch": _HATCHES[index],
    }


def _bars(
    axis: "Axes",
    names: Sequence[str],
    shares: Sequence[Sequence[float]],
    title: str,
    of: str,
    flat: bool = False,
) -> None:
    """Draw percentages: a group of bars for each name, one bar for each corpus.

    Args:
        axis: where.
        names: of the groups.
        shares: of each corpus, 0..1 for each name.
        title: of the panel.
        of: what the percentages are of.
        flat: draw from top to bottom, for long names.
    """
    width = 0.8 / len(shares)
    for index, values in enumerate(shares):
        offset = (index - (len(shares) - 1) / 2) * width
        places = [place + offset for place in range(len(names))]
        heights = [100 * value for value in values]
        if flat:
            axis.barh(places, heights, width, zorder=2, **_style(index))
        else:
            axis.bar(places, heights, width, zorder=2, **_style(index))
    axis.set_title(title)
    tallest = max((100 * value for values in shares for value in values), default=0)
    limit = 1.08 * tallest or 1
    if flat:
        axis.set_xlim(0, limit)
        axis.set_yticks(range(len(names)), names)
        axis.invert_yaxis()
        axis.set_xlabel(f"% of {of}")
        axis.grid(visible=False, axis="y")
    else:
        axis.set_ylim(0, limit)
        axis.set_xticks(range(len(names)), names)
        axis.set_ylabel(f"% of {of}")
        axis.grid(visible=False, axis="x")


def _shares(counts: Sequence[float]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _last(shares: Sequence[Sequence[float]]) -> int:
    """Find the last bin that can be seen."""
    return max(
        (i for values in shares for i, share in enumerate(values) if share > 2e-4), default=0
    )


def _folded(counts: Sequence[int], shown: int) -> list[float]:
    """Give shares of the first bins, the rest summed up in one more."""
    return _shares([*counts[:shown], sum(counts[shown:])])


def _title(corpora: Mapping[str, TextStats], title: str, label: str, name: str) -> str:
    """Put a figure of each corpus behind a panel's title."""
    values = [corpus.figures()[name] for corpus in corpora.values()]
    text = " \N{RIGHTWARDS ARROW} ".join(
        "-" if value is None else f"{value:.2f}" for value in values
    )
    return f"{title} ({label} {text})"


def _cmi(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    title = _title(corpora, "CMI of lines", "mean", "cmi")
    shares = [_shares(corpus.histogram("cmi").tolist()) for corpus in corpora.values()]
    last = max(_last(shares), 50 // CMI_STEP)
    names = ["0", *(str(CMI_STEP * (i + 1)) for i in range(last))]
    _bars(axis, names, [values[: last + 1] for values in shares], title, "lines")
    axis.set_xlabel("code-mixing index: 0 (one language), then up to")


def _switches(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    title = _title(corpora, "Switch points of lines", "mean", "switch_points_per_line")
    shown = min(SWITCHES_SHOWN, MOST_SWITCHES)
    shares = [_folded(corpus.histogram("switches").tolist(), shown) for corpus in corpora.values()]
    names = [*map(str, range(shown)), f"{shown}+"]
    _bars(axis, names, shares, title, "lines")
    axis.set_xlabel("switch points")


def _spans(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    title = _title(corpora, "One-language spans, lines that switch", "burstiness", "burstiness")
    shown = min(SPANS_SHOWN, MOST_SPAN)
    shares = [
        _folded(corpus.histogram("spans").tolist()[1:], shown - 1) for corpus in corpora.values()
    ]
    names = [*map(str, range(1, shown)), f"{shown}+"]
    _bars(axis, names, shares, title, "spans")
    axis.set_xlabel("words")


def _directions(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    directions = [corpus.directions() for corpus in corpora.values()]
    names = sorted({name for counts in directions for name in counts})
    names.sort(key=lambda name: -directions[-1].get(name, 0))
    names = names[:LANGUAGES_SHOWN]
    shares = [
        [counts.get(name, 0) / max(sum(counts.values()), 1) for name in names]
        for counts in directions
    ]
    title = _title(corpora, "Directions of the switches", "I-index", "i_index")
    labels = [name.replace(" ", "\N{RIGHTWARDS ARROW}") for name in names]
    _bars(axis, labels, shares, title, "switch points")


def _languages(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    _named(axis, corpora, "lines_by_language", "Language of lines", "lines")


def _tags(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    title = _title(corpora, "Tags of words", "M-index", "m_index")
    _named(axis, corpora, "words_by_tag", title, "words")


def _named(
    axis: "Axes", corpora: Mapping[str, TextStats], figure: str, title: str, of: str
) -> None:
    found = [corpus.figures()[figure] for corpus in corpora.values()]
    names = list(dict.fromkeys(name for shares in reversed(found) for name in shares))
    names = names[:LANGUAGES_SHOWN]
    _bars(axis, names, [[shares.get(name, 0.0) for name in names] for shares in found], title, of)


def _lengths(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    title = _title(corpora, "Length of lines", "mean", "words_per_line")
    shares = [_shares(corpus.histogram("lengths").tolist()) for corpus in corpora.values()]
    last = _last(shares)
    names = ["0", "1", *(f"{2 ** (i - 1)}\N{EN DASH}{2**i - 1}" for i in range(2, LENGTH_BINS))]
    names.append(f"{2 ** (LENGTH_BINS - 1)}+")
    names = names[: last + 1]
    _bars(axis, names, [values[: last + 1] for values in shares], title, "lines")
    axis.set_xlabel("words")
    if len(names) > 8:
        axis.tick_params(axis="x", labelrotation=45)


def _sources(axis: "Axes", corpora: Mapping[str, TextStats]) -> None:
    share = [
        {name: count / corpus.lines for name, count in corpus.sources.top(CAPACITY)}
        for corpus in corpora.values()
    ]
    names = sorted(
        {name for counts in share for name in counts},
        key=lambda name: (-max(counts.get(name, 0) for counts in share), name),
    )[:SOURCES_SHOWN]
    if not names:
        axis.set_axis_off()
        return
    labels = [
        (
            name
            if len(name) <= NAME_LENGTH
            else f"{name[: NAME_LENGTH - 1]}\N{HORIZONTAL ELLIPSIS}"
        ).replace("$", r"\$")  # else a formula
        for name in names
    ]
    shares = [[counts.get(name, 0.0) for name in names] for counts in share]
    _bars(axis, labels, shares, "Top sources", "lines", flat=True)
