"""Several runs of one experiment: means and spreads over seeds."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.score.results import read_results

# How often the first system has the lower WER: the claims worth counting over seeds.
DUELS = (("adapt_full", "direct_full"), ("adapt_full", "init"), ("merge_0.4", "init"))
METRICS = (("wer", "WER (%)"), ("wer_text_only_words", "Error on words met in text only (%)"))


def seeds_table(paths: Sequence[Path]) -> str:
    """Summarise the `results.json` of several runs.

    Args:
        paths: one file for each seed.

    Returns:
        Markdown: for each metric a table of systems by sets, mean +- standard deviation (n - 1) and
            in brackets the lowest and highest; then how often one system beat another.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: fewer than two files, or they differ in systems or sets.
    """
    if len(paths) < 2:
        raise ValueError(f"{len(paths)} results.json given; a spread needs two or more")
    runs = []
    for path in paths:
        runs.append({(r["system"], r["test_set"]): r for r in read_results(Path(path))})
        if differing := runs[0].keys() ^ runs[-1].keys():
            names = ", ".join(f"{system} on {name}" for system, name in sorted(differing))
            raise ValueError(f"{path}: not the same systems and sets as {paths[0]}: {names}")
    systems = list(dict.fromkeys(system for system, _ in runs[0]))
    sets = list(dict.fromkeys(name for _, name in runs[0]))
    parts = [f"# {len(paths)} seeds\n\nMean ± standard deviation [lowest, highest].\n"]
    for metric, title in METRICS:
        rows = []
        for system in systems:
            found = [[run.get((system, name), {}).get(metric) for run in runs] for name in sets]
            rows.append(f"| `{system}` | {' | '.join(map(_cell, found))} |\n")
        if any("±" in row for row in rows):
            head = f"| system | {' | '.join(sets)} |\n| --- |{' ---: |' * len(sets)}\n"
            parts.append(f"\n## {title}\n\n{head}{''.join(rows)}")
    duels = []
    for winner, loser in DUELS:
        for name in sets:
            if (winner, name) in runs[0] and (loser, name) in runs[0]:
                wins = sum(run[winner, name]["wer"] < run[loser, name]["wer"] for run in runs)
                duels.append(f"- `{name}`: `{winner}` beats `{loser}` in {wins} of {len(runs)}\n")
    if duels:
        parts.append("\n## How often the WER is lower\n\n" + "".join(duels))
    return "".join(parts)


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return "-"
    spread = statistics.stdev(known)
    return f"{statistics.mean(known):.1f} ± {spread:.1f} [{min(known):.1f}, {max(known):.1f}]"
