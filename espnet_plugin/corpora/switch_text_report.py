"""What was reached beside what was wanted, in words."""

from pathlib import Path
from typing import Any


def describe(report: dict[str, Any], output: str | Path) -> str:
    """Put a report in some lines of text."""
    target, reached, away = report["target"], report["reached"], report["distance"]
    lines = [
        f"{'unchanged: ' if report.get('unchanged') else ''}{output}: {report['lines']} lines of "
        f"{report['sentences_used']} sentences ({report['sentences']} read, "
        f"{report['turned_away']} turned away)",
        f"{'':24}{'target':>10}{'reached':>10}",
    ]
    for name in ("cmi", "switches_per_line", "embedded_words", "inner_words"):
        one, two = (
            "-" if figures[name] is None else f"{figures[name]:.2f}"
            for figures in (target, reached)
        )
        lines.append(f"  {name:22}{one:>10}{two:>10}")
    for name in ("matrix", "place", "directions"):
        for key, share in target[name].items():
            lines.append(f"  {name + ' ' + key:22}{share:>10.2f}{reached[name][key]:>10.2f}")
    worst = ", ".join(f"{name} {value:.2f}" for name, value in away.items())
    lines.append(f"  shares that differ: {worst}")
    for title in ("dropped", "phrases_refused"):
        if report[title]:
            shown = ", ".join(f"{reason}: {n}" for reason, n in report[title].items())
            lines.append(f"  {title.replace('_', ' ')}: {shown}")
    return "\n".join(lines)
