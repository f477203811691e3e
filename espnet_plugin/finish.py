"""After training: the model directory, and the proof that what was frozen did not move."""

import logging
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import torch

from espnet_plugin import lora
from espnet_plugin.checkpoint import (
    load_state,
    read_json,
    save_model_dir,
    tensor_hashes,
    write_json,
)
from espnet_plugin.groups import GROUPS, group_of, is_fixed
from espnet_plugin.training.curve import CURVE, read_curve
from espnet_plugin.training.saving import WEIGHTS, remove_checkpoints

KEEPS = ("best", "last", "average")
TRAINING = "training.json"
PROOF = "freeze_proof.json"


def prove_frozen(
    start_dir: str | Path, end_dir: str | Path, moved: set[str], adapted: Set[str] = frozenset()
) -> dict[str, Any]:
    """Compare two model directories tensor by tensor.

    Args:
        start_dir: What the stage started from.
        end_dir: What it made.
        moved: Groups that were to move; fixed tensors never are.
        adapted: Names of tensors that were to move besides: those that adapters changed.

    Returns:
        `identical`: whether every frozen tensor is bit-identical; counts, and by group the
        numbers of identical and changed tensors; `violations`: frozen tensors that changed.
    """
    before, after = tensor_hashes(start_dir), tensor_hashes(end_dir)
    groups = {group: {"identical": 0, "changed": 0} for group in GROUPS}
    violations, frozen = [], 0
    for name, digest in before.items():
        same = after.get(name) == digest
        group = group_of(name)
        groups[group]["identical" if same else "changed"] += 1
        if (group not in moved and name not in adapted) or is_fixed(name):
            frozen += 1
            if not same:
                violations.append(name)
    return {
        "identical": not violations and set(before) == set(after),
        "frozen": frozen,
        "changed": sum(g["changed"] for g in groups.values()),
        "groups": groups,
        "violations": violations,
        "start": str(start_dir),
    }


def finish(
    output_dir: str | Path,
    init_dir: str | Path,
    stage: str,
    moved: set[str],
    keep: str = "best",
    keep_checkpoints: bool = True,
    adapters: Mapping[str, lora.Adapter | None] | None = None,
    criterion: tuple[str, str, str] = ("valid", "loss", "min"),
) -> dict[str, Any]:
    """Turn a finished ESPnet training directory into a loadable model directory.

    Args:
        output_dir: ESPnet's output directory; the model files are written there.
        init_dir: The model directory that training started from.
        stage: Name of the adaptation stage, for the record.
        moved: Groups that ever moved; every other tensor must be bit-identical to the start.
        keep: `best` on validation, the `last`, or the `average` of ESPnet's n best.
        adapters: Low-rank adapters by group (`lora.parse`), which are merged into the weights.
        keep_checkpoints: False deletes ESPnet's checkpoints once the directory is complete.
        criterion: What is best: the first of ESPnet's `best_model_criterion`.

    Returns:
        The proof, as in `prove_frozen`; it is also written to `freeze_proof.json`.

    Raises:
        FileNotFoundError: If no checkpoint is there.
        RuntimeError: If a frozen tensor changed; the directory is then not marked as finished.
    """
    output, curve = Path(output_dir), read_curve(Path(output_dir) / CURVE)
    trained = [row for row in curve if row["epoch"] > 0]
    sources = _sources(output, keep, criterion)
    weights = _average(sources)
    adapted = {"model." + n.removeprefix("whisper.") for n in lora.adapted(weights)}
    if adapters:
        weights = lora.merged(weights, str(init_dir), adapters)
        moved = moved - {group for group, each in adapters.items() if each is not None}
    start = load_state(init_dir)
    state = {}
    for name, tensor in weights.items():
        key = "model." + name.removeprefix("whisper.")
        frozen = group_of(key) not in moved or is_fixed(key)
        # ESPnet's averaging rewrites even identical floats: frozen tensors come from the start.
        averaged = keep == "average" and frozen
        state[key] = start[key] if averaged else tensor.to(start[key].dtype)
    save_model_dir(state, init_dir, output)
    proof = prove_frozen(init_dir, output, moved, adapted)
    write_json(output / PROOF, proof)
    if not proof["identical"]:
        raise RuntimeError(
            f"{output}: {len(proof['violations'])} frozen tensors changed, first "
            f"{proof['violations'][:1]}: this is a defect, please report it with train.log"
        )
    lowest = min(row["valid_loss"] for row in trained)
    start_loss = curve[0]["valid_loss"] if curve[0]["epoch"] == 0 else None  # a curve that was lost
    # The file says which epoch it is: what is best by, say, a WER may be so in several.
    kept = re.fullmatch(r"(\d+)epoch\.pth", sources[0].name) if len(sources) == 1 else None
    chosen = next((row for row in trained if kept and row["epoch"] == int(kept[1])), None)
    record = {
        "stage": stage,
        "start": str(init_dir),
        "checkpoint": ", ".join(source.name for source in sources),
        "keep": keep,
        "criterion": " ".join(criterion),
        "lora": lora.describe_options(adapters) if adapters else None,
        "epochs": int(trained[-1]["epoch"]),
        "updates": int(trained[-1]["updates"]),
        "kept_updates": None if chosen is None else int(chosen["updates"]),
        "valid_loss_start": start_loss,
        "valid_loss_kept": None if chosen is None else chosen["valid_loss"],
        "seconds": trained[-1]["seconds"],
    }
    if start_loss is not None and lowest >= start_loss:
        logging.warning(
            "%s: the validation loss never fell below its start (%.3f): lower the learning rate, "
            "or check that training and validation data are alike",
            output.name,
            start_loss,
        )
    if not keep_checkpoints:
        remove_checkpoints(output)
    write_json(output / TRAINING, record)  # last: its presence says that the system is finished
    return proof


def _sources(output: Path, keep: str, criterion: tuple[str, str, str]) -> list[Path]:
    """Return the weights file to keep, or several that are still to be averaged.

    Where a run ends with fewer epochs than ESPnet is to average, it makes no average, and the
    files of all epochs are there.
    """
    name = f"{criterion[0]}.{criterion[1]}"
    if keep != "average":
        source = output / (f"{name}.best.pth" if keep == "best" else "latest.pth")
        if not source.exists():
            raise FileNotFoundError(f"{source} is missing: training has not finished an epoch")
        return [source.resolve()]
    averages = [p for p in output.glob(f"{name}.ave_*best.pth") if not p.is_symlink()]
    if averages:
        return [max(averages, key=lambda path: path.stat().st_mtime_ns)]
    epochs = [path for path in output.glob(WEIGHTS) if not path.is_symlink()]
    if not epochs:
        raise FileNotFoundError(f"{output}: no weights: training has not finished an epoch")
    epochs.sort(key=lambda path: int(path.name.removesuffix("epoch.pth")))
    logging.warning(
        "%s: --keep average of all epochs, %d: no more were trained", output.name, len(epochs)
    )
    return epochs


def _average(sources: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Load weights files (safely: tensors, nothing else is unpickled); of several, their mean."""
    weights: dict[str, torch.Tensor] = torch.load(sources[0], map_location="cpu", weights_only=True)
    for source in sources[1:]:
        for name, tensor in torch.load(source, map_location="cpu", weights_only=True).items():
            weights[name] = weights[name] + tensor
    return weights if len(sources) == 1 else {n: t / len(sources) for n, t in weights.items()}


def is_finished(output_dir: str | Path) -> bool:
    """Tell whether a system's training is complete."""
    return (Path(output_dir) / TRAINING).is_file()


def summary(output_dir: str | Path) -> str:
    """Return one line for people about a finished training."""
    output = Path(output_dir)
    record, proof = read_json(output / TRAINING), read_json(output / PROOF)
    losses = [record[f"valid_loss_{when}"] for when in ("start", "kept")]
    before, after = ("n/a" if loss is None else f"{loss:.3f}" for loss in losses)
    return (
        f"{output.name}: {record['updates']} updates in {record['seconds']:.0f} s; validation loss "
        f"{before} -> {after} ({record['checkpoint']}); "
        f"{proof['frozen']} frozen tensors bit-identical, {proof['changed']} changed"
    )
