"""What became of a model's weights: exports are read back and compared, tensor by tensor.

A float type holds each weight rounded once, to the nearest value: where the type is the model's own
or wider, the weights are the model's, bit for bit. Integers hold each row of a matrix, or of a
convolution, in 254 steps over twice the row's largest weight, so a weight is off by at most half a
step, a 254th of that largest one; biases, norms and positions stay floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_plugin.checkpoint import OUTPUT, Tensors
from espnet_plugin.export.formats import Target

if TYPE_CHECKING:
    import torch

STEPS = 254.0
SLACK = 1e-6  # of the largest weight: float32's rounding of scale and product


@dataclass(frozen=True)
class Weights:
    """How an export's weights compare with the model's.

    Attributes:
        identical: All have the model's values, bit for bit.
        error: The largest difference, relative to the largest weight of its row.
    """

    identical: bool
    error: float

    def text(self) -> str:
        """Return it in a few words."""
        if self.identical:
            return "bit-identical"
        return f"within {self.error:.1e} of a row's largest"


def compare_weights(model_dir: Path, exported: Path, target: Target) -> Weights:
    """Read an export back, as `import_model` would, and compare.

    Args:
        model_dir: The model.
        exported: The export's file or directory.
        target: What it is.

    Raises:
        ValueError: A tensor is missing, has become infinite, or is further off than the format
            explains.
    """
    from espnet_plugin.importers import read_source

    found = read_source(str(exported), log=lambda _: None).state
    found.pop(OUTPUT, None)
    model = Tensors(model_dir)
    if differ := sorted(set(found) ^ set(model.names)):
        raise ValueError(f"{exported}: {len(differ)} tensors differ by name, first {differ[0]}")
    identical, worst = True, 0.0
    for name in model.names:
        error = _error(name, model[name], found.pop(name), target)
        identical &= error is None
        worst = max(worst, error or 0.0)
    return Weights(identical, worst)


def _error(name: str, ours: torch.Tensor, theirs: torch.Tensor, target: Target) -> float | None:
    """Return the relative difference of one tensor, None where the values are the same."""
    import torch

    if ours.shape != theirs.shape:
        raise ValueError(f"{name}: shape {tuple(theirs.shape)}, the model has {tuple(ours.shape)}")
    if not bool(theirs.isfinite().all()):
        if not bool(ours.isfinite().all()):
            raise ValueError(f"{name}: the model itself holds NaN or infinite values")
        raise ValueError(f"{name}: values do not fit {target.dtype}; choose another --dtype")
    # As numbers of the wider type: a float16 that is stored as float32 is the same number.
    one, two = ours.double(), theirs.double()
    if torch.equal(one, two):
        return None
    dtype = target.dtype or ""
    if not dtype.startswith("int8"):
        expected = ours.to(getattr(torch, dtype)) if dtype else ours
        if not torch.equal(expected.double(), two):
            raise ValueError(f"{name}: values are not the model's, rounded to {dtype or 'nothing'}")
    rows = one.reshape(one.shape[0], -1) if one.dim() > 1 else one.reshape(1, -1)
    largest = rows.abs().amax(1, keepdim=True)
    off = (two.reshape(rows.shape) - rows).abs() / torch.where(largest > 0, largest, 1.0)
    error = float(off.max())
    if dtype.startswith("int8"):
        halves = 2.0**-11 if dtype == "int8_float16" else 0.0  # biases and norms, rounded
        bound = (1 / STEPS if one.dim() > 1 else 0.0) + halves + SLACK
        if error > bound:
            raise ValueError(f"{name}: off by {error:.2e} of its row's largest, {dtype} by {bound}")
    return error
