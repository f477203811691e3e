"""Training curves: `exp/<system>/curve.csv`, one line an epoch, epoch 0 being the start."""

import csv
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("epoch", "updates", "train_loss", "valid_loss", "valid_acc", "seconds")


@dataclass(frozen=True)
class Point:
    """One line of a curve; None where nothing was measured.

    Attributes:
        epoch: 0 is the model before training.
        updates: optimiser steps so far.
        train_loss: mean loss of the epoch on training data.
        valid_loss: loss on validation data after the epoch.
        valid_acc: token accuracy on validation data.
        seconds: since the start of training.
    """

    epoch: int
    updates: int
    train_loss: float | None
    valid_loss: float | None
    valid_acc: float | None
    seconds: float | None


def read_curve(path: Path) -> list[Point]:
    """Read a training curve.

    Returns:
        The points by epoch; of an epoch written twice (after a resume) the later line.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a column is missing, a field is no number, or there is no line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; training (stages 8-10) writes it")
    points: dict[int, Point] = {}
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in COLUMNS if name not in (reader.fieldnames or [])]:
            raise ValueError(f"{path}: columns {', '.join(missing)} are missing")
        for line, row in enumerate(reader, 2):
            if None in row.values():
                raise ValueError(f"{path}:{line}: has fewer fields than the first line")
            try:
                epoch, updates = int(row["epoch"]), int(float(row["updates"]))
                values = [float(row[name]) if row[name] else None for name in COLUMNS[2:]]
            except ValueError as error:
                raise ValueError(f"{path}:{line}: {error}") from None
            points[epoch] = Point(epoch, updates, *values)
    if not points:
        raise ValueError(f"{path}: no epoch in it")
    return [points[epoch] for epoch in sorted(points)]


def validation_fall(path: Path) -> tuple[float, float, int]:
    """Compare the validation loss of the start with the best one after it.

    Returns:
        Loss at epoch 0, the lowest later loss, and its epoch.

    Raises:
        ValueError: epoch 0 or any later epoch has no validation loss.
    """
    measured = [(p.epoch, p.valid_loss) for p in read_curve(path) if p.valid_loss is not None]
    start = [loss for epoch, loss in measured if epoch == 0]
    later = [(loss, epoch) for epoch, loss in measured if epoch > 0]
    if not start or not later:
        raise ValueError(f"{path}: needs valid_loss at epoch 0 and at a later one")
    best, epoch = min(later)
    return start[0], best, epoch
