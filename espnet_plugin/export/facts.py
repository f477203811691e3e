"""What a model card says, gathered from the records of the run: nothing is told, all is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import (
    load_config,
    model_dir_exists,
    model_hash,
    read_json,
    tensor_hashes,
)
from espnet_plugin.cli import nearest
from espnet_plugin.export.formats import FORMATS, target
from espnet_plugin.export.history import Step, history, training_config
from espnet_plugin.prompt import parse_lang_tokens
from espnet_plugin.stages import STAGES, made_by
from espnet_plugin.text.corpus.config import read_settings

BASELINES = ("whisper_base", "init")
# Where importing finds the demo's weights they are OpenAI's; packages carry them.
DEMO_BASE = "openai/whisper-base"


@dataclass(frozen=True)
class CardInfo:
    """What only people know about a model; `conf/card.yaml` is an example."""

    title: str = ""
    """The card's heading; empty: the repository's name."""
    summary: str = ""
    """A sentence or two on what the model is for."""
    languages: tuple[str, ...] = ()
    """ISO 639-1 codes of the languages, such as ms and en."""
    licence: str = ""
    """The model's licence by the hub's name: mit, apache-2.0, cc-by-nc-4.0, other."""
    base_licence: str = ""
    """The base model's licence, in words."""
    data: tuple[str, ...] = ()
    """Training data, each 'NAME: licence and where it comes from'."""
    intended_use: str = ""
    """What the model is meant for, and what not."""
    limits: tuple[str, ...] = ()
    """What is known not to work, besides what the results show."""
    contact: str = ""
    """Whom to ask."""

    def __post_init__(self) -> None:
        """Check that licences are stated.

        Raises:
            ValueError: One is not.
        """
        wanted = {
            "licence": "the model's licence",
            "base_licence": "the base model's licence",
            "data": "the training data and its licences",
            "languages": "the languages",
            "intended_use": "what the model is meant for",
        }
        for name, what in wanted.items():
            if not getattr(self, name):
                raise ValueError(f"{name} is missing: a model card says {what}")


def read_info(path: str | Path) -> CardInfo:
    """Read `CardInfo` from YAML.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: A setting is unknown, missing or of a wrong type.
    """
    return read_settings(CardInfo, path)


@dataclass(frozen=True)
class Facts:
    """All that a card needs.

    Attributes:
        system: The system's name.
        config: Its `config.json`.
        steps: What made it, the last step first.
        results: Its entries of `results.json`.
        baselines: Word error rates of the systems it started from, by (system, set).
        sets: Statistics of the sets, by name.
        text: Lines and tokens of the text stores, by the step's system.
        exports: Records of its exports, by name such as ``ct2_int8``.
        versions: Versions of the programs that made the results.
        tag: Name of the decoding that was scored.
        pad: How audio was fed to it.
        lang_tokens: Language of the data -> Whisper's code.
    """

    system: str
    config: dict[str, Any]
    steps: list[Step]
    results: list[dict[str, Any]]
    baselines: dict[tuple[str, str], float]
    sets: dict[str, dict[str, Any]]
    text: dict[str, dict[str, int]]
    exports: dict[str, dict[str, Any]]
    versions: dict[str, str]
    tag: str
    pad: str
    lang_tokens: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> str | None:
        """The base model as a hub id; None where it was none."""
        last = self.steps[-1] if self.steps else None
        if last is None or last.kind != "import":
            return None
        source = str(last.record["source"])
        if source == "demo":
            return DEMO_BASE
        return source if source.count("/") == 1 and not source.startswith(("/", ".")) else None

    def plan(self, step: Step) -> dict[str, Any]:
        """Return the options of a training step; empty where they were not recorded."""
        path = step.directory / "plan.json"
        return read_json(path) if path.is_file() else {}


def gather(expdir: str | Path, system: str, exports: Sequence[str | Path]) -> Facts:
    """Read everything about a system.

    Args:
        expdir: The experiment's directory.
        system: The system.
        exports: Directories of its exports.

    Raises:
        FileNotFoundError: The system or its results are missing; says which stage makes them.
        ValueError: Results or exports are of other weights; an export was not verified.
    """
    expdir = Path(expdir)
    directory = expdir / system
    if not model_dir_exists(directory):
        there = [p.name for p in sorted(expdir.glob("*")) if model_dir_exists(p)]
        raise FileNotFoundError(
            f"{directory} is not a model directory{nearest(system, there)}: {made_by(system)}"
        )
    results_path = expdir / "results.json"
    if not results_path.is_file():
        raise FileNotFoundError(f"{results_path}: missing; stage 13 (score) makes it")
    content = read_json(results_path)
    results = [entry for entry in content["results"] if entry["system"] == system]
    results = [r for r in results if r["test_set"] not in _valid_sets(content)]
    if not results:
        raise ValueError(f"{results_path}: no results of {system}; stages 12 and 13 make them")
    tag, model = str(content["meta"]["configuration"]["tag"]), model_hash(tensor_hashes(directory))
    decoded = [_decoded(directory, tag, r, model) for r in results]
    steps = list(history(directory))
    statistics = expdir / "stats" / "stats.json"
    sets = read_json(statistics) if statistics.is_file() else []
    return Facts(
        system,
        load_config(directory),
        steps,
        results,
        {
            (e["system"], e["test_set"]): e["wer"]
            for e in content["results"]
            if e["system"] in BASELINES and e["system"] != system
        },
        {entry["name"]: entry for entry in sets},
        {s.directory.name: found for s in steps if (found := _text_of(s, expdir))},
        _exports(directory, exports, model),
        dict(content["meta"].get("versions", {})),
        tag,
        str(decoded[0]["options"]["pad"]),
        parse_lang_tokens(training_config(directory).get("lang_tokens")),
    )


def _valid_sets(content: dict[str, Any]) -> list[str]:
    return list(content["meta"].get("configuration", {}).get("valid_sets", ()))


def _decoded(directory: Path, tag: str, result: dict[str, Any], model: str) -> dict[str, Any]:
    """Return the record of a decoding, after seeing that it is that of the weights there are now.

    Raises:
        FileNotFoundError: There is none.
        ValueError: Other weights were decoded, or the text is not the one that was scored.
    """
    path = directory / f"decode_{tag}" / result["test_set"] / "decode.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; stage 12 (decode) makes it")
    record = read_json(path)
    if record.get("model_hash") != model:
        raise ValueError(
            f"{path}: these results are those of other weights than {directory} has; decode and "
            "score again (stages 12 and 13)"
        )
    scored = result.get("text_sha256")  # not in results of earlier versions
    if scored not in (None, record.get("text_sha256")):
        raise ValueError(f"{path}: decoded again since it was scored; score it (stage 13)")
    return record


def _text_of(step: Step, expdir: Path) -> dict[str, int] | None:
    """Return lines and tokens of the text that a step trained on."""
    path = step.directory / "plan.json"
    if not path.is_file() or not (store := read_json(path).get("train_text")):
        return None
    for folder in (Path(store), expdir.parent / store):
        if (folder / "manifest.json").is_file():
            manifest = read_json(folder / "manifest.json")
            return {"lines": int(manifest["lines"]), "tokens": int(manifest["tokens"])}
    return None


def _exports(
    directory: Path, exports: Sequence[str | Path], model: str
) -> dict[str, dict[str, Any]]:
    found = {}
    for path in map(Path, exports):
        record = path / "export.json"
        if not record.is_file():
            raise FileNotFoundError(f"{record}: missing; stage 14 (export) makes it")
        content = read_json(record)
        made = target(content["format"], content["dtype"])
        if content["model_sha256"] != model:
            raise ValueError(f"{path}: an export of other weights than {directory}; remove it")
        if not content["verification"]:
            raise ValueError(
                f"{path}: was not decoded with {made.format.runtime} when it was exported; "
                "export it again with --verify true"
            )
        found[made.name] = content
    order = list(FORMATS)
    found = dict(sorted(found.items(), key=lambda item: order.index(item[1]["format"])))
    if not found:
        raise ValueError(f"no exports of {directory}: {', '.join(FORMATS)}; stage 14 makes them")
    return found


def stage_text(step: Step) -> str:
    """Describe a step in words."""
    name = step.directory.name
    if step.kind == "merge":
        record = step.record
        tuned, base = (Path(record[side]["path"]).name for side in ("tuned", "base"))
        ratio = record["ratio"]
        text = f"`{name}`: {ratio:g} · `{tuned}` + {round(1 - ratio, 6):g} · `{base}`"
        groups = {**record.get("group_ratio", {}), **record.get("layer_ratio", {})}
        if groups:
            text += " (" + ", ".join(f"{k}: {v:g}" for k, v in groups.items()) + ")"
        return text
    if step.kind == "training":
        record = step.record
        stage = record["stage"]
        does = STAGES[stage].does if stage in STAGES else stage
        kept = record.get("kept_updates") or record["updates"]
        return f"`{name}`: {does}; {kept} updates"
    source = str(step.record["source"])
    if source == "demo":
        source = f"{DEMO_BASE}, from {step.record['road'].split(',')[0]}"
    elif Path(source).is_absolute():
        source = Path(source).name
    commit = step.record.get("commit")
    return f"`{name}`: imported from {source}" + (f" at commit `{commit}`" if commit else "")
