"""What a model was made from: the records that each step leaves in its directory, in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json

RECORDS = {"merge.json": "merge", "training.json": "training", "import.json": "import"}


@dataclass(frozen=True)
class Step:
    """One step of a model's making.

    Attributes:
        directory: The model directory that it made.
        kind: ``merge``, ``training`` or ``import``.
        record: Its record's content.
        start: The directory that it started from (of a merge: the adapted model); None for an
            import, or where that directory is gone.
    """

    directory: Path
    kind: str
    record: dict[str, Any]
    start: Path | None


def _find(recorded: str, beside: Path) -> Path | None:
    """Find a directory by its recorded path, which may be relative to another place, or its name.

    The neighbour of that name comes first: an experiment that was moved or copied is one.
    """
    for path in (beside.parent / Path(recorded).name, Path(recorded)):
        if (path / "config.json").is_file() and path.resolve() != beside.resolve():
            return path
    return None


def step_of(model_dir: str | Path) -> Step | None:
    """Return the step that made a model directory; None where nothing is recorded."""
    directory = Path(model_dir)
    for name, kind in RECORDS.items():
        if not (directory / name).is_file():
            continue
        record = read_json(directory / name)
        if kind == "merge":
            start = record["tuned"]["path"]
        else:
            start = record.get("start")
        return Step(directory, kind, record, _find(start, directory) if start else None)
    return None


def history(model_dir: str | Path) -> Iterator[Step]:
    """Yield the steps that made a model, the last one first, along the adapted side of merges."""
    seen: set[Path] = set()
    step = step_of(model_dir)
    while step is not None and step.directory.resolve() not in seen:
        seen.add(step.directory.resolve())
        yield step
        step = step_of(step.start) if step.start is not None else None


def training_config(model_dir: str | Path) -> dict[str, Any]:
    """Return ESPnet's `config.yaml` of the training that a model comes from, empty without one.

    The file has 51 865 tokens, which would take seconds to parse and are left out.
    """
    import yaml

    for directory in (Path(model_dir), *(step.directory for step in history(model_dir))):
        path = directory / "config.yaml"
        if path.is_file():
            content = yaml.safe_load(_without_tokens(path.read_text(encoding="utf-8")))
            if not isinstance(content, dict):
                raise ValueError(f"{path}: not a configuration that ESPnet's training wrote")
            return content
    return {}


def _without_tokens(text: str) -> str:
    lines, skipping = [], False
    for line in text.splitlines():
        if skipping and line.startswith("- "):
            continue
        skipping = line == "token_list:"
        if not skipping:
            lines.append(line)
    return "\n".join(lines)
