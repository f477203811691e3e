"""Interpolate two Whisper models: ``ratio * tuned + (1 - ratio) * base``, weight by weight.

Equation 6 of the paper (arXiv 2506.14190, section III-D) with its ratio of 0.4; linear
interpolation after fine-tuning is WiSE-FT (arXiv 2109.01903). Groups and layers can have ratios of
their own.

`merge` and `merge_sweep` write model directories, reading the inputs once and in pieces: memory
does not depend on the model's size. `Sweep` and `merge_states` merge in memory. All give the same
bits. Importing this package does not import torch.
"""

from espnet_plugin.merge.directories import FORMULA, RECORD, merge, merge_sweep, size_in_bytes
from espnet_plugin.merge.memory import Sweep, merge_states
from espnet_plugin.merge.ratios import (
    DEFAULT_RATIO,
    check_ratios,
    outputs_of,
    parse_ratios,
    ratios_by_name,
)

__all__ = [
    "DEFAULT_RATIO",
    "FORMULA",
    "RECORD",
    "Sweep",
    "check_ratios",
    "merge",
    "merge_states",
    "merge_sweep",
    "outputs_of",
    "parse_ratios",
    "ratios_by_name",
    "size_in_bytes",
]
