"""The experiment of stage 1 on a subset of the text (1 M lines), and what it shows.

Source: arXiv 2506.14190; the question is whether the decoder adapts without its cross-attention,
and what that costs each language. `local/run_experiment.sh text1m` runs it.
"""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from espnet_plugin.checkpoint import atomic_write, read_json
from espnet_plugin.text_store import SHARD_LINES, TextStore, finish_store, write_shard

Row = dict[str, float | None]  # of a curve, by column

POSITIONS = 5  # that prompt and end take besides a line's tokens


def subset(store: str | Path, output: str | Path, lines: int, seed: int = 0) -> dict[str, Any]:
    """Draw lines of a store at random into a store of their own, in their old order.

    A subset that was drawn in the same way from the same store is kept.

    Args:
        store: Where from.
        output: The new store.
        lines: How many; all of them where the store has fewer.
        seed: Another one draws others.

    Returns:
        The new store's manifest.

    Raises:
        FileNotFoundError: If there is no store.
        ValueError: If `lines` is less than 1, or the output is another store.
    """
    if lines < 1:
        raise ValueError(f"lines: at least 1, got {lines}")
    source, target = TextStore(store), Path(output)
    drawn = {
        "lines": lines,
        "seed": seed,
        "from": [facts["sha256"] for facts in source.manifest["shards"]],
    }
    if (target / "manifest.json").is_file():
        old = TextStore(target).manifest
        if old.get("drawn") != drawn:
            raise ValueError(f"{target} is another store: remove it, or give another --output")
        return old
    count = min(lines, len(source))
    chosen = np.sort(np.random.default_rng(seed).choice(len(source), count, replace=False))
    shards = [
        write_shard(target, index, *source.gather(chosen[low : low + SHARD_LINES]))
        for index, low in enumerate(range(0, count, SHARD_LINES))
    ]
    made = source.manifest
    return finish_store(
        target, shards, source.langs, made["tokenizer_sha256"], made["text_style"], {"drawn": drawn}
    )


def plan(
    store: str | Path,
    config: str | Path,
    output: str | Path,
    passes: int = 2,
    checks: int = 10,
) -> dict[str, Any]:
    """Write a training configuration that is as long as some passes over a store.

    Args:
        store: The text.
        config: What else holds: optimiser, rates, size of a batch.
        output: The YAML to write.
        passes: Over the text.
        checks: Validations, and checkpoints, in each pass.

    Returns:
        The configuration.

    Raises:
        FileNotFoundError: If store or configuration are missing.
        ValueError: If a number is less than 1, or the configuration lacks `batch_bins`.
    """
    for name, value in (("passes", passes), ("checks", checks)):
        if value < 1:
            raise ValueError(f"{name}: at least 1, got {value}")
    path = Path(config)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such configuration")
    conf = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(conf, dict) or not isinstance(conf.get("batch_bins"), int):
        raise ValueError(f"{path}: batch_bins must be a whole number")
    made = TextStore(store).manifest
    positions = made["tokens"] + POSITIONS * made["lines"]
    batches = math.ceil(positions / conf["batch_bins"])  # of all processes together
    conf["num_iters_per_epoch"] = max(1, math.ceil(batches / checks))
    conf["max_epoch"] = passes * checks
    conf.pop("patience", None)  # the whole curve is wanted
    updates = conf["num_iters_per_epoch"] * conf["max_epoch"] // conf.get("accum_grad", 1)
    inner = (conf.get("scheduler_conf") or {}).get("inner_conf") or {}
    if "warmup_steps" in inner:
        inner["warmup_steps"] = min(inner["warmup_steps"], updates // 10)
    with atomic_write(output, "w") as file:
        file.write(f"# {path.name}, as long as {passes} passes over {made['lines']} lines\n")
        yaml.safe_dump(conf, file, sort_keys=False)
    return conf


def report(system: str | Path, store: str | Path, output: str | Path) -> str:
    """Write what a run of stage 1 shows: a table, a picture and conclusions in words.

    Args:
        system: The finished system, with `curve.csv` and `freeze_proof.json`.
        store: The text that it was trained on.
        output: The Markdown file; the picture goes beside it, `.png`.

    Returns:
        The Markdown.

    Raises:
        FileNotFoundError: If the run is not finished.
        ValueError: If it was not validated.
    """
    from espnet_plugin.score.curves import validation_fall

    folder, target = Path(system), Path(output)
    if not (folder / "freeze_proof.json").is_file():
        raise FileNotFoundError(f"{folder}/freeze_proof.json is missing: training is not finished")
    start, best, epoch = validation_fall(folder / "curve.csv")
    rows = read_rows(folder / "curve.csv")
    proof, made = read_json(folder / "freeze_proof.json"), TextStore(store).manifest
    plot_perplexity(rows, target.with_suffix(".png"), folder.name)
    frozen = {name: g["changed"] for name, g in proof["groups"].items() if not g["changed"]}
    by_lang = ", ".join(f"{lang} {n:,}" for lang, n in made["lines_by_lang"].items() if n)
    lines = [
        f"# Stage 1 on {made['lines']:,} lines of text",
        "",
        f"{made['tokens']:,} tokens; lines by language: {by_lang}.",
        "",
        f"- Validation loss {start:.3f} at the start, {best:.3f} at best (epoch {epoch}).",
        f"- Bit-identical to the start: {', '.join(frozen)}. So the decoder "
        + ("adapted" if best < start else "did not adapt")
        + (" without its cross-attention." if "cross_attn" in frozen else "."),
        *_by_language(rows, epoch),
        "",
        f"![perplexity by language]({target.with_suffix('.png').name})",
        "",
        *_table(rows),
    ]
    text = "\n".join(lines) + "\n"
    with atomic_write(target, "w") as file:
        file.write(text)
    return text


def read_rows(curve: str | Path) -> list[Row]:
    """Read all columns of a `curve.csv`; None where nothing was measured."""
    with open(curve, encoding="utf-8", newline="") as file:
        return [
            {name: float(value) if value else None for name, value in row.items()}
            for row in csv.DictReader(file)
        ]


def plot_perplexity(rows: list[Row], path: Path, title: str) -> None:
    """Draw the perplexity of each language over the updates.

    Raises:
        ValueError: If matplotlib is not installed.
    """
    from espnet_plugin.score.plots import COLOURS, MARKERS, STYLE, _pyplot, _save

    plt = _pyplot()
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(5.2, 3.6))
        for index, lang in enumerate(languages(rows)):
            points = [(row["updates"], row[f"valid_ppl_{lang}"]) for row in rows]
            axis.plot(
                *zip(*[point for point in points if None not in point], strict=True),
                color=COLOURS[index % len(COLOURS)],
                marker=MARKERS[index % len(MARKERS)],
                label=lang,
            )
        axis.set_title(title)
        axis.set_xlabel("updates")
        axis.set_ylabel("perplexity per token")
        axis.set_yscale("log")
        axis.legend(frameon=False)
        figure.tight_layout()
        _save(figure, path)
        plt.close(figure)


def languages(rows: list[Row]) -> list[str]:
    """Return the languages that a curve tells apart."""
    prefix = "valid_ppl_"
    return [name.removeprefix(prefix) for name in rows[0] if name.startswith(prefix)]


def _by_language(rows: list[Row], epoch: int) -> list[str]:
    """Say how each language stands at the best epoch against the start."""
    said = []
    kept = next(row for row in rows if row["epoch"] == epoch)
    for lang in languages(rows):
        before, after = rows[0][f"valid_ppl_{lang}"], kept[f"valid_ppl_{lang}"]
        if before is None or after is None:
            continue
        verdict = "better" if after < before else "WORSE: forgotten"
        said.append(f"- Perplexity of {lang}: {before:.1f} to {after:.1f} ({verdict}).")
    return said


def _table(rows: list[Row]) -> list[str]:
    columns = {"updates": "updates", "train_loss": "training loss", "valid_loss": "validation loss"}
    columns |= {f"valid_ppl_{lang}": f"perplexity {lang}" for lang in languages(rows)}
    table = ["| " + " | ".join(columns.values()) + " |", "| --- " * len(columns) + "|"]
    for row in rows:
        cells = []
        for name in columns:
            value = row[name]
            if value is None:
                cells.append("")
            elif name == "updates":
                cells.append(f"{value:.0f}")
            else:
                cells.append(f"{value:.3f}" if name.endswith("loss") else f"{value:.1f}")
        table.append("| " + " | ".join(cells) + " |")
    return table
