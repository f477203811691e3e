"""`RESULTS.md`: the results for people to read."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.data.tables import read_table
from espnet_plugin.monitor.events import FILE as EVENTS
from espnet_plugin.monitor.events import read_events
from espnet_plugin.score.check import STAGES
from espnet_plugin.score.plots import plot_curve, plot_sweep
from espnet_plugin.score.results import Report, write_results
from espnet_plugin.score.sweep import Choice, recommend

MARKS = "\\`*_{}[]<>|#"
EXAMPLE_SYSTEMS = ("init", "direct_full", "adapt_full", "merge_0.4")
N_EXAMPLES = 6

HOW_TO_READ = """\
- **WER** is the share of wrong words in percent: words replaced, left out or put in, divided by the
  words of the reference. Lower is better; it can exceed 100.
- Reference and hypothesis are normalised alike first (case, punctuation, hyphens, numbers; version
  {version}), except for **raw WER**, which compares the text as it was written.
- The **interval** in brackets says how far chance can move the figure: with other utterances of the
  same kind it would mostly fall in there (95 %, bootstrap over utterances). Two systems whose
  intervals overlap widely are not proven to differ.
- **Text-only words** are reference words that training met in text only, never in speech: what
  text-only adaptation is for. Their error counts replaced and left-out words.
- **Errors at language switches** counts only the two words beside each change of language.
- **CER** is the same as WER over characters: small slips in spelling weigh less.
- **RTFx** is seconds of audio recognised in one second.
- A text that **repeats itself** (zlib makes it 2.4 times smaller, or the length limit forced its
  end) is decoded again by a beam that writes no three tokens in a row twice, for every system
  alike unless it was decoded with `--on_loop keep`; each `decode.json` lists such utterances.
"""


def write_report(
    report: Report,
    expdir: Path,
    valid_sets: Sequence[str] = (),
    example_set: str = "test_cs",
    shown: str = "",
) -> Choice | None:
    """Write `results.json`, the pictures and `RESULTS.md`.

    Args:
        report: the scores.
        expdir: where they are written; `<system>/curve.csv` is read from there.
        valid_sets: sets to choose the merge ratio on.
        example_set: the set whose hypotheses are shown, if it was scored.
        shown: more to show at the end, Markdown (`shown_sets`).

    Returns:
        The recommended merge ratio, if validation was decoded for the merged systems.

    Raises:
        ValueError: matplotlib is missing; a ratio would be chosen on a test set; a broken curve.
    """
    sets = report.meta["configuration"]["sets"]
    choice = recommend(report, valid_sets)
    if choice is not None:
        report.meta["recommended_ratio"] = {
            "ratio": choice.ratio,
            "best_ratio": choice.best_ratio,
            "wer": {f"{ratio:g}": round(wer, 4) for ratio, wer in choice.wer.items()},
            "sets": list(choice.sets),
        }
    images = expdir / "images"
    sweep = plot_sweep(report, sets, images / "merge_sweep.png", choice)
    curves = []
    for system in dict.fromkeys([*report.systems, *STAGES]):
        curve = expdir / system / "curve.csv"
        if curve.is_file():
            curves.append(plot_curve(curve, images / f"loss_{system}.png", system))
    write_results(report, expdir)
    parts = [
        "# Results\n",
        _overview(report, sets),
        _otherwise(report.meta.get("decoded_otherwise", [])),
        "## How to read this\n\n" + HOW_TO_READ.format(version=report.meta["normalizer_version"]),
        _table("Words met in text only", report, sets, _text_only_cell),
        _table("Raw WER (as written, %)", report, sets, lambda r: _figure(r["wer_raw"])),
        _table("CER (%)", report, sets, lambda r: _figure(r["cer"])),
        _table(
            "Substitutions / deletions / insertions",
            report,
            sets,
            lambda r: f"{r['sub']} / {r['del']} / {r['ins']}",
        ),
        _breakdown("WER by language of the reference word", "wer_by_language", report, sets),
        _table("Errors at language switches (%)", report, sets, lambda r: _figure(r.get("pier"))),
        _breakdown("WER by recording condition", "wer_by_cond", report, sets),
        _table("Decoding speed (RTFx)", report, sets, lambda r: _figure(r.get("rtfx"))),
        _merging(choice, sweep, expdir),
        _curves(curves, expdir),
        _shared(report.meta.get("shared", [])),
        _noticed(expdir, list(dict.fromkeys([*report.systems, *STAGES]))),
        _examples(report, example_set),
        shown,
        "Versions: " + ", ".join(f"{k} {v}" for k, v in report.meta["versions"].items()) + ".\n",
    ]
    with atomic_write(expdir / "RESULTS.md", "w") as file:
        file.write("\n".join(part for part in parts if part))
    return choice


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _text_only_cell(result: dict[str, Any]) -> str:
    if not result.get("n_text_only_words"):
        return "-"
    return f"{result['wer_text_only_words']:.1f} ({result['n_text_only_words']})"


def _overview(report: Report, sets: Sequence[str]) -> str:
    def cell(result: dict[str, Any]) -> str:
        low, high = result["wer_ci95"]
        return f"{result['wer']:.1f} [{low:.1f}, {high:.1f}]"

    sizes = []
    for name in sets:
        words = sum(map(len, report.sets[name].words.values()))
        sizes.append(f"`{name}` {len(report.sets[name].raw)} utterances, {words} words")
    return (
        _table("WER (%) with 95 % interval", report, sets, cell) + "\n" + "; ".join(sizes) + ".\n"
    )


def _table(title: str, report: Report, sets: Sequence[str], cell: Any) -> str:
    """A table of systems by sets; empty where no cell has anything to say."""
    rows = []
    for system in report.systems:
        cells = [
            cell(report.result(system, name)) if (system, name) in report.scored else "-"
            for name in sets
        ]
        rows.append([f"`{system}`", *cells])
    if all(entry == "-" for row in rows for entry in row[1:]):
        return ""
    if title.startswith("Words met"):
        title += " (error in %, number of words)"
    return f"## {title}\n\n" + _markdown(["system", *sets], rows)


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _breakdown(title: str, key: str, report: Report, sets: Sequence[str]) -> str:
    """A table of a metric by group, for each set that has one."""
    parts = []
    for name in sets:
        found = {s: report.result(s, name) for s in report.systems if (s, name) in report.scored}
        groups = sorted({group for result in found.values() for group in result.get(key, {})})
        if len(groups) < 2:
            continue
        rows = [
            [f"`{system}`", *(_figure(result[key][group]["wer"]) for group in groups)]
            for system, result in found.items()
        ]
        first = next(iter(found.values()))[key]
        head = [f"{group} ({first[group]['n_ref']} words)" for group in groups]
        parts.append(f"`{name}`:\n\n" + _markdown(["system", *head], rows))
    return f"## {title} (%)\n\n" + "\n".join(parts) if parts else ""


def _otherwise(found: Sequence[str]) -> str:
    return (
        "Decoded otherwise than the rest:\n\n" + "".join(f"- {line}\n" for line in found)
        if found
        else ""
    )


def _shared(found: Sequence[str]) -> str:
    if not found:
        return ""
    text = "## What training and held-out sets share\n\n" + "".join(f"- {line}\n" for line in found)
    return text + "\nAn error rate on what was trained on says little about other recordings.\n"


def _merging(choice: Choice | None, sweep: Path | None, expdir: Path) -> str:
    if choice is None and sweep is None:
        return ""
    text = "## Merging with the original model\n\n"
    if sweep is not None:
        text += f"![WER over the merge ratio]({_relative(sweep, expdir)})\n\n"
    if choice is None:
        return (
            text + "No ratio is recommended: the merged systems were not decoded on validation.\n"
        )
    head = [f"{ratio:g}" for ratio in choice.wer]
    row = [_figure(wer) for wer in choice.wer.values()]
    names = ", ".join(f"`{name}`" for name in choice.sets)
    return (
        f"{text}WER (%) over the ratio on validation ({names}, {choice.n_utt} utterances):\n\n"
        + _markdown(["ratio", *head], [["WER", *row]])
        + f"\n**Recommended ratio: {choice.ratio:g}**, chosen on validation and on no test set. "
        f"{choice.best_ratio:g} has the lowest WER there; of the ratios that are not significantly "
        "worse (95 % interval of the paired difference) the smallest is taken, because it stays "
        "closest to the original model and so forgets least.\n"
    )


def _curves(curves: Sequence[Path], expdir: Path) -> str:
    if not curves:
        return ""
    images = (f"![{path.stem}]({_relative(path, expdir)})\n" for path in curves)
    return "## Loss curves\n\n" + "".join(images)


def _noticed(expdir: Path, systems: Sequence[str]) -> str:
    """Quote the failure signatures that were found in training."""
    found = "".join(
        f"- `{system}`: {event['found']}. What to try: {event['advice']}.\n"
        for system in systems
        for event in read_events(expdir / system / EVENTS)
        if "advice" in event
    )
    return f"## Noticed in training\n\n{found}" if found else ""


def _relative(path: Path, start: Path) -> str:
    return Path(os.path.relpath(path, start)).as_posix()


def _examples(report: Report, name: str) -> str:
    """Some utterances, spread evenly over the set, with what each system made of them."""
    systems = [s for s in EXAMPLE_SYSTEMS if (s, name) in report.scored]
    if not systems:
        return ""
    raw = report.sets[name].raw
    hyps = {system: report.scored[system, name].hyps for system in systems}
    shown = "".join(_example(utt, raw, hyps) for utt in _spread(list(raw)))
    return f"## Examples from `{name}`\n\n(spread evenly over the set, not chosen)\n{shown}"


def _example(utt: str, raw: Mapping[str, str], hyps: Mapping[str, Mapping[str, str]]) -> str:
    rows = [["reference", _escape(raw[utt])]]
    rows += [[f"`{s}`", _escape(texts[utt]) or "(nothing)"] for s, texts in hyps.items()]
    body = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    return f"\n| `{utt}` | |\n| --- | --- |\n{body}"


def shown_sets(expdir: Path, dumpdir: Path, names: Sequence[str], tag: str) -> str:
    """Show every utterance of sets that are too small to score, as some systems heard them.

    Args:
        expdir: holds `<system>/decode_<tag>/<set>/text`.
        dumpdir: holds the sets.
        names: the sets.
        tag: which decoding.

    Returns:
        Markdown; empty without sets.

    Raises:
        FileNotFoundError: a set is missing.
    """
    parts = []
    for name in names:
        raw = read_table(dumpdir / name / "text")
        found = {
            system: read_table(path, allow_empty=True)
            for system in ("whisper_base", *EXAMPLE_SYSTEMS)
            if (path := expdir / system / f"decode_{tag}" / name / "text").is_file()
        }
        body = "".join(_example(utt, raw, found) for utt in raw)
        parts.append(f"## `{name}`: shown, too few to score\n{body}")
    return "\n".join(parts)


def _spread(items: Sequence[str]) -> Iterator[str]:
    count = min(N_EXAMPLES, len(items))
    for index in range(count):
        yield items[(2 * index + 1) * len(items) // (2 * count)]


def _escape(text: str) -> str:
    """Keep a hypothesis from being read as Markdown."""
    return "".join("\\" + letter if letter in MARKS else letter for letter in text)
