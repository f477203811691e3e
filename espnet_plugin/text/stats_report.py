"""The figures of text statistics as a table, and what is wrong with them in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from espnet_plugin.text.source_counts import CAPACITY

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """When to warn. The paper does not publish its thresholds; these are ours.

    Attributes:
        switching: least share of lines with a switch point.
        dominance: largest share of one language among the words of any language.
        kept: least share of the lines that should pass the filters.
        spoken: least share of words that belong to a language.
    """

    switching: float = 0.2
    dominance: float = 0.9
    kept: float = 0.1
    spoken: float = 0.3


LIMITS = Limits()

_ROWS = (
    ("lines", "lines", "count"),
    ("words", "words", "count"),
    ("words per line", "words_per_line", "number"),
    ("Whisper tokens", "tokens", "count"),
    ("tokens per line", "tokens_per_line", "number"),
    ("lines by language", "lines_by_language", "shares"),
    ("words by tag", "words_by_tag", "shares"),
    ("lines that switch", "lines_switching", "share"),
    ("CMI, mean of all lines", "cmi", "number"),
    ("CMI, mean of lines that switch", "cmi_of_switching_lines", "number"),
    ("switch points", "switch_points", "count"),
    ("switch points per line", "switch_points_per_line", "number"),
    ("M-index (0 one language, 1 equal shares)", "m_index", "index"),
    ("I-index (0 never switches, 1 at every word)", "i_index", "index"),
    ("burstiness (-1 regular, 0 chance, 1 bursts)", "burstiness", "index"),
    ("words per one-language span", "span_length", "number"),
    ("sources", "sources", "count"),
    ("top sources", "top_sources", "ranking"),
)
_LISTED = 8  # entries of a list in a cell


def percent(share: float) -> str:
    """Write a share as a percentage with as many decimals as it needs to be told from 0 and 100."""
    value = 100 * share
    for decimals in range(1, 5):
        text = f"{value:.{decimals}f}"
        if value in (0, 100) or float(text) not in (0, 100):
            break
    return text + " %"


def _cell(figures: Figures, name: str, kind: str) -> str:
    value = figures[name]
    if value is None:
        return f"over {CAPACITY:,}" if name == "sources" else "-"
    if kind == "count":
        return f"{value:,}"
    if kind == "number":
        return f"{value:.2f}"
    if kind == "index":
        return f"{value:.3f}"
    if kind == "share":
        return percent(value)
    if kind == "shares":
        pairs = [f"{key} {percent(share)}" for key, share in value.items()]
    else:
        pairs = [f"{_escaped(key)} {count:,}" for key, count in value]
    more = f", {len(pairs) - _LISTED} more" if len(pairs) > _LISTED else ""
    return ", ".join(pairs[:_LISTED]) + more or "-"


def _escaped(name: str) -> str:
    """Keep a name from breaking the table."""
    return " ".join(name.split()).replace("|", "\\|")


def table(columns: Mapping[str, Figures]) -> str:
    """Return figures side by side as a Markdown table.

    Args:
        columns: figures (`TextStats.figures`) by title, such as `before` and `after`.

    Returns:
        The table, with a line end.
    """
    rows = [f"| | {' | '.join(columns)} |", "| --- |" + " ---: |" * len(columns)]
    for label, name, kind in _ROWS:
        cells = [_cell(figures, name, kind) for figures in columns.values()]
        rows.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def warnings(after: Figures, before: Figures | None = None, limits: Limits = LIMITS) -> list[str]:
    """Say in words what makes a corpus unfit for learning to switch language.

    Args:
        after: figures of the corpus to train on.
        before: figures before the filters, for how much they dropped.
        limits: when to warn.

    Returns:
        A sentence or two each; nothing where all is well.
    """
    found = []
    if before is not None and after["lines"] < limits.kept * before["lines"]:
        found.append(
            f"The filters left {after['lines']:,} of {before['lines']:,} lines "
            f"({percent(after['lines'] / before['lines'])}; expected at least "
            f"{percent(limits.kept)}): look at the counts by reason, and loosen the filter that "
            "drops the most."
        )
    if not after["lines"]:
        return found or ["There is no line of text."]
    spoken = sum(after["words_by_tag"].get(tag, 0) for tag in after["words_by_language"])
    if spoken < limits.spoken:
        found.append(
            f"Only {percent(spoken)} of the words were recognised as a word of a language "
            f"(expected at least {percent(limits.spoken)}): the text is in other languages than "
            "the configured pair, or is not prose."
        )
    if after["lines_switching"] < limits.switching:
        found.append(
            f"The corpus switches language too little: {percent(after['lines_switching'])} of the "
            f"lines do (expected at least {percent(limits.switching)}), the mean CMI is "
            f"{after['cmi']:.1f}. A model adapted to such text is typically good on monolingual "
            "and poor on code-switched speech: add switched text, require a higher CMI, or cap "
            "the sources that do not switch."
        )
    for language, share in after["words_by_language"].items():
        if share > limits.dominance:
            found.append(
                f"{percent(share)} of the words that have a language are {language} (expected at "
                f"most {percent(limits.dominance)}): the decoder learns the other language's words "
                "from the rest alone. Add text with more of it, or cap the sources that are "
                f"nearly all {language}."
            )
    return found
