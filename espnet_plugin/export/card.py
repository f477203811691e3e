"""The model card: README.md of a published model, with the hub's metadata."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espnet_plugin.export.facts import CardInfo, Facts, stage_text
from espnet_plugin.export.formats import target
from espnet_plugin.export.usage import TASK, folder_of, how_to_run

PAPER = "https://arxiv.org/abs/2506.14190"
CITATION = """\
@article{nguyen2025asyncswitch,
  title   = {AsyncSwitch: Asynchronous Text-Speech Adaptation for Code-Switched ASR},
  author  = {Nguyen, Tuan and Tran, Huy-Dat},
  journal = {arXiv preprint arXiv:2506.14190},
  year    = {2025}
}"""
TRAINED = {
    "acoustic": "everything on monolingual speech",
    "adapt_text": "the decoder on text alone",
    "adapt_align": "cross-attention on speech with transcripts",
    "adapt_full": "everything on speech with transcripts",
}
LIMITS = (
    "The error rates hold for the test sets above; other speakers, topics, noise and languages "
    "differ, and training on some languages makes a model forget others.",
    "Like every Whisper it can write fluent text that nobody said, most of all for silence, music "
    "and noise. Do not act on a transcript without checking where it matters.",
    "It was trained and tested on utterances of up to 30 s.",
)


def metadata(facts: Facts, info: CardInfo, repo: str) -> str:
    """Return the card's metadata as the hub reads it, YAML with `model-index`."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for entry in facts.results:
        same: dict[str, Any] = {
            "task_type": TASK,
            "task_name": "Automatic Speech Recognition",
            "dataset_type": entry["test_set"],
            "dataset_name": entry["test_set"],
            "dataset_split": "test",
        }
        interval = entry.get("wer_ci95")
        about = {"utterances": entry["n_utt"], "words": entry["n_ref"]}
        if interval:
            about["confidence_interval_95"] = [round(bound, 2) for bound in interval]
        results.append(
            EvalResult(
                metric_type="wer",
                metric_name="WER in percent, normalised",
                metric_value=round(entry["wer"], 2),
                metric_args=about,
                **same,
            )
        )
        results.append(
            EvalResult(
                metric_type="cer",
                metric_name="CER in percent, normalised",
                metric_value=round(entry["cer"], 2),
                **same,
            )
        )
    tags = ["whisper", "code-switching", "asyncswitch", "espnet", "ctranslate2"]
    if not any(name.startswith("ct2") for name in facts.exports):
        tags.remove("ctranslate2")
    data = ModelCardData(
        language=list(info.languages),
        license=info.licence,
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=facts.base,
        tags=tags,
        metrics=["wer", "cer"],
        model_name=repo.split("/")[-1],
        eval_results=results,
    )
    return data.to_yaml()


def _results(facts: Facts) -> Iterator[str]:
    starts = list(dict.fromkeys(system for system, _ in facts.baselines))
    head = [
        "test set",
        "utterances",
        "WER",
        "95 % interval",
        "CER",
        *(f"WER of `{s}`" for s in starts),
    ]
    yield f"| {' | '.join(head)} |"
    yield "| --- |" + " ---: |" * (len(head) - 1)
    for entry in facts.results:
        low, high = entry.get("wer_ci95") or (None, None)
        cells = [
            f"`{entry['test_set']}`",
            str(entry["n_utt"]),
            f"{entry['wer']:.1f}",
            "" if low is None else f"{low:.1f} to {high:.1f}",
            f"{entry['cer']:.1f}",
        ]
        for system in starts:
            other = facts.baselines.get((system, entry["test_set"]))
            cells.append("" if other is None else f"{other:.1f}")
        yield f"| {' | '.join(cells)} |"
    yield ""
    how = f"`decode_{facts.tag}`, pad: {facts.pad}"
    yield (
        "In percent, after normalisation; intervals by bootstrap over utterances. Decoded by this "
        f"project's own recogniser ({how})."
    )
    if facts.pad == "batch":
        yield "Other programs pad audio to 30 s, and their error rates may differ a little."
    if starts:
        names = {"whisper_base": "the model as released", "init": "where adaptation began"}
        yield "Beside it " + " and ".join(f"`{s}`, {names[s]}" for s in starts) + "."


def _making(facts: Facts) -> Iterator[str]:
    for number, step in enumerate(reversed(facts.steps), 1):
        line = f"{number}. {stage_text(step)}"
        plan = facts.plan(step)
        used = []
        if text := facts.text.get(step.directory.name):
            used.append(f"{text['lines']:,} lines of text ({text['tokens']:,} tokens)")
        if data := plan.get("train_data"):
            name = Path(data).name
            stats = facts.sets.get(name)
            hours = (
                f", {stats['hours']:.2g} hours, {stats['utterances']:,} utterances" if stats else ""
            )
            used.append(f"`{name}`{hours}")
        yield line + (f"; data: {', '.join(used)}" if used else "")


def _formats(facts: Facts) -> Iterator[str]:
    yield "| files | format | weights | verified with | words that differ |"
    yield "| --- | --- | --- | --- | --- |"
    for record in facts.exports.values():
        made = target(record["format"], record["dtype"])
        checked = record["verification"]
        folder = folder_of(made.name)
        where = f"`{folder}/`" if folder else "the root"
        yield (
            f"| {where} | {made.title} | {record['weights']['text']} | {checked['runtime']} | "
            f"{checked['words_differing']} of {checked['words']} |"
        )
    yield ""
    yield (
        "Each was decoded with the program in the table, on the same audio as the model itself "
        "with this project's recogniser: 30 s windows, no timestamps, greedy."
    )


def _summary(facts: Facts) -> str:
    """Say in a sentence what the model is, as far as its records tell."""
    config = facts.config
    layers = f"{config['encoder_layers']} + {config['decoder_layers']} layers"
    text = f"A Whisper of {layers}, {config['d_model']} wide"
    trained = [s.record["stage"] for s in reversed(facts.steps) if s.kind == "training"]
    if trained:
        what = ", then ".join(TRAINED.get(stage, stage) for stage in trained)
        text += f", of which AsyncSwitch ([Nguyen and Tran]({PAPER})) trained {what}"
    merges = [step for step in facts.steps if step.kind == "merge"]
    if merges:
        text += f"; merged with what it started from at the ratio {merges[0].record['ratio']:g}"
    return text + "."


def card(facts: Facts, info: CardInfo, repo: str) -> str:
    """Return the model card.

    Args:
        facts: What the run's records say.
        info: What people know.
        repo: ``owner/name`` of the repository.
    """
    lines: list[str] = [
        "---",
        metadata(facts, info, repo),
        "---",
        "",
        f"# {info.title or repo.split('/')[-1]}",
        "",
        *([info.summary, ""] if info.summary else []),
        _summary(facts),
        "",
        "## Results",
        "",
        *_results(facts),
        "",
        "## How it was made",
        "",
        *_making(facts),
        "",
        "## How to run it",
        "",
        *how_to_run(facts, repo),
        "",
        "## Files",
        "",
        *_formats(facts),
        "",
        "## Intended use",
        "",
        info.intended_use,
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in (*info.limits, *LIMITS)),
        "",
        "## Licences",
        "",
        f"- This model: {info.licence}",
        f"- Base model{f' ({facts.base})' if facts.base else ''}: {info.base_licence}",
        *(f"- Data: {entry}" for entry in info.data),
        "",
        "## Versions",
        "",
        ", ".join(f"{name} {number}" for name, number in facts.versions.items()) + ".",
        f"SHA-256 over the weights: `{next(iter(facts.exports.values()))['model_sha256']}`.",
        *(["", f"Contact: {info.contact}"] if info.contact else []),
        "",
        "## Citation",
        "",
        "```bibtex",
        CITATION,
        "```",
        "",
    ]
    return "\n".join(lines)
