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
    """Read a `curve.csv`; an empty field is NaN.

    Raises:
        ValueError: If a field is no number; names the line.
    """
    rows = list[Row]()
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            try:
                rows.append({k: float(v or "nan") for k, v in row.items()})
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"{path}:{reader.line_num}: not a row of numbers ({error}); without the file "
                    "a run goes on and begins a new one"
                ) from None
    return rows


def write_curve(path: Path, rows: Sequence[Row]) -> None:
    """Write a `curve.csv`, atomically; NaN is an empty field."""
    columns = dict.fromkeys([*COLUMNS, *(key for row in rows for key in row)])
    with atomic_write(path, "w") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if math.isnan(v) else v for k, v in row.items()})
