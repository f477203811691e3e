"""The commands of `espnet_plugin.bin.text_corpus`: text to a token store, and what one holds."""

import importlib.util
import random
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json
from espnet_plugin.prompt import PromptBuilder, parse_lang_tokens
from espnet_plugin.text_store import TextStore


def prepare(
    input: Sequence[str],
    output: str,
    model: str,
    lang_tokens: str = "cs:ms ms:ms en:en",
    text_style: str | None = None,
    lang: str | None = None,
    config: str | None = None,
    valid_output: str | None = None,
    exclude: Sequence[str] = (),
    field: str | None = None,
    strict: bool | None = None,
    workers: int | None = None,
    executor: str = "local",
    scheduler: str | None = None,
    cluster: str | None = None,
    keep_work: bool = False,
    plots: bool = True,
) -> None:
    """Make a store of text; one that was made from the same inputs in the same way is kept.

    Args:
        input: Files (`.txt .jsonl .csv .tsv .parquet`, plain or compressed), folders, globs, Kaldi
            directories.
        output: The store to make. A report lies in its folder `report`.
        model: Model directory, for its tokenizer.
        lang_tokens: Languages of lines and Whisper's codes.
        text_style: `as_is` or `spoken`; None is what the configuration says.
        lang: Language of lines that do not carry one; None: from their words' tags.
        config: YAML of a `CorpusConfig`; None for its defaults.
        valid_output: A second store, for the lines that are held out.
        exclude: Inputs whose lines are dropped wherever they occur, such as texts of test sets.
        field: Field that holds the text; None is what the configuration says.
        strict: Fail at the first line that cannot be read; None is what the configuration says.
        workers: Processes on this machine; None is one a processor.
        executor: `local` or `dask`.
        scheduler: Address of a Dask scheduler.
        cluster: YAML of a `SlurmCluster`.
        keep_work: Leave the directory of unfinished work.
        plots: Draw pictures of the statistics, where matplotlib is installed.

    Raises:
        FileNotFoundError: If an input, the model or the configuration is missing.
        ValueError: As `text.corpus.pipeline.build`; an old store stays as it was.
    """
    from espnet_plugin.text.corpus.config import CorpusConfig, read_settings
    from espnet_plugin.text.corpus.pipeline import beside, build
    from espnet_plugin.text.corpus.plan import Plan
    from espnet_plugin.text.executors import make_executor
    from espnet_plugin.text.sources import expand

    target = Path(output).absolute()
    outputs = {"train": target}
    if valid_output is not None:
        outputs["valid"] = Path(valid_output).absolute()
        if outputs["valid"] == target:
            raise ValueError(f"--valid_output {valid_output} is --output: give another directory")
    given: dict[str, Any] = {"text_style": text_style, "field": field, "strict": strict}
    settings = read_settings(CorpusConfig, config, **given)
    if settings.pair and Path(settings.pair).suffix:  # workers may run in other directories
        settings = replace(settings, pair=str(Path(settings.pair).absolute()))
    plan = Plan(
        config=settings,
        model=str(Path(model).absolute()),
        lang_tokens=tuple(parse_lang_tokens(lang_tokens).items()),
        lang=lang,
        work=str(beside(target, "work")),
        exclude=tuple(str(path.absolute()) for path in expand(exclude)) if exclude else (),
    )
    if plots and importlib.util.find_spec("matplotlib") is None:
        plots = False
        print("no pictures: matplotlib is missing (pip install 'espnet-asyncswitch[train]')")
    start = time.monotonic()
    expand(input)
    plan.check()  # before workers are asked for, which on a cluster may take long
    with make_executor(executor, workers, scheduler, cluster) as chosen:
        report = build(input, outputs, plan, chosen, keep_work, plots)
    if report is None:
        for path in outputs.values():
            lines = len(TextStore(path))
            print(f"{path}: made earlier from the same text ({lines:,} lines), kept")
        return
    seconds = max(time.monotonic() - start, 1e-3)
    print(report.accounting())
    for warning in report.warnings():
        print(f"warning: {warning}")
    for path in outputs.values():
        print(_describe(str(path), TextStore(path).manifest))
    print(f"{report.read:,} lines in {seconds:.1f} s: {report.read / seconds:,.0f} lines/s")


def _describe(name: str, manifest: dict[str, Any]) -> str:
    """Return one line about a store, with its accounting where the manifest has it."""
    text = f"{name}: {manifest['lines']:,} lines, {manifest['tokens']:,} tokens; " + ", ".join(
        f"{lang} {n:,}" for lang, n in manifest["lines_by_lang"].items() if n
    )
    if "kept" in manifest:
        kept, dropped = manifest["kept"], manifest["dropped"]
        reasons = ", ".join(f"{reason} {n:,}" for reason, n in dropped.items())
        stores = " + ".join(f"{n:,} {part}" for part, n in kept.items())
        text += f"; {manifest['read']:,} lines read = {stores} + {sum(dropped.values()):,} dropped"
        text += f" ({reasons})" if reasons else ""
    return text


def stats(store: Sequence[str]) -> None:
    """Print what stores hold, and the figures of their text."""
    from espnet_plugin.text.stats_report import table

    columns: dict[str, Any] = {}
    origins: list[Any] = []  # stores that were made together have one text before them
    for path in store:
        opened = TextStore(path)
        print(_describe(path, opened.manifest))
        report = opened.path / "report" / "report.json"
        if report.is_file():
            found = read_json(report)
            if found["made_from"] not in origins:
                title = f"before {path}" if origins else "before"
                columns[title] = found["before"]["figures"]
                origins.append(found["made_from"])
            columns[found["part"] if found["part"] not in columns else path] = found["after"][
                "figures"
            ]
    if columns:
        print(table(columns))


def sample(store: str, model: str, lines: int = 10, seed: int = 0) -> None:
    """Print some lines of a store, decoded.

    Raises:
        ValueError: If `lines` is less than 1, or the store was made with another tokenizer.
    """
    if lines < 1:
        raise ValueError(f"--lines: at least 1, got {lines}")
    opened = TextStore(store)
    builder = PromptBuilder(model, {}, opened.manifest["text_style"])
    opened.check(builder)
    for index in random.Random(seed).sample(range(len(opened)), min(lines, len(opened))):
        ids, lang = opened[index]
        print(f"{index}\t{lang}\t{builder.decode(ids.tolist())}")
