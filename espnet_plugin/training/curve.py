"""The curve of a training run, `curve.csv`: a row for each epoch, epoch 0 before any update."""

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write

CURVE = "curve.csv"
COLUMNS = ("epoch", "updates", "train_loss", "valid_loss", "valid_acc", "seconds")

Row = dict[str, float]


def read_curve(path: Path) -> list[Row]:
    """Read a `curve.csv`; an empty field is NaN."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: float(v or "nan") for k, v in row.items()} for row in csv.DictReader(file)]


def write_curve(path: Path, rows: Sequence[Row]) -> None:
    """Write a `curve.csv`, atomically; NaN is an empty field."""
    columns = dict.fromkeys([*COLUMNS, *(key for row in rows for key in row)])
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if math.isnan(v) else v for k, v in row.items()})
