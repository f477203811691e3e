"""Formats times runtimes: a model through each format and back, into each program.

A row is a format. The model is exported to it and imported back; the program whose own format it is
decodes the export, every other one what the import is exported to in its format. So a cell says
that the way from there to here loses nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from espnet_plugin.export import exported_path, target
from espnet_plugin.export.formats import FORMATS, Target
from espnet_plugin.export.tensors import compare_weights
from espnet_plugin.export.verify import Comparison, Verifier, version_of

# All forms that the table shows where none are named.
TARGETS = (
    "hf",
    "hf:float16",
    "openai",
    "openai:float16",
    "ct2",
    "ct2:float16",
    "ct2:int8",
    "espnet",
)


def write(model_dir: Path, made: Target, output: Path) -> Path:
    """Write an export without any check; returns what the runtime loads."""
    output.mkdir(parents=True)
    module = import_module(f"espnet_plugin.export.{made.format.name}")
    module.write(model_dir, output, made.dtype)
    return exported_path(output, made)


def round_trips(
    model_dir: str | Path,
    targets: Sequence[Target],
    verifier: Verifier,
    log: Callable[[str], None] = print,
) -> str:
    """Run every way and return the table.

    Args:
        model_dir: The model.
        targets: The rows.
        verifier: What decodes; its tolerance plays no part, the table shows what there is.
        log: Told what is done.

    Returns:
        A Markdown table, and a line that says what it is made of.

    Raises:
        ValueError: A runtime is not installed, or a format cannot express the model.
    """
    from espnet_plugin.importers import import_model

    model_dir = Path(model_dir)
    columns = [target(name) for name in FORMATS]
    head = ["format", "weights after the round trip", *(c.format.runtime for c in columns)]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    words = 0
    for made in targets:
        with tempfile.TemporaryDirectory() as folder:
            log(f"== {made.title}")
            exported = write(model_dir, made, Path(folder) / "export")
            weights = compare_weights(model_dir, exported, made)
            back = import_model(str(exported), Path(folder) / "import", log=lambda _: None)
            cells = []
            for column in columns:
                if column.format == made.format:
                    found = verifier.compare(model_dir, exported, made)
                    cells.append(f"**{_cell(found)}**")
                else:
                    other = write(back, column, Path(folder) / column.name)
                    found = verifier.compare(model_dir, other, column)
                    cells.append(_cell(found))
                words = found.words
            lines.append(f"| {made.title} | {weights.text()} | {' | '.join(cells)} |")
    versions = ", ".join(version_of(column) for column in columns)
    lines += [
        "",
        f"Texts of {len(verifier.clips)} utterances ({words} words) compared with those of the "
        "model by this project's own recogniser. Bold: the format's own program, from the export "
        "itself; the others read what `import_model` made of it, exported to their format. "
        f"{versions}.",
    ]
    return "\n".join(lines) + "\n"


def _cell(found: Comparison) -> str:
    return f"{found.percent:.1f} % differ" if found.differences else "identical"
