"""How much memory a stage takes on a machine, before it is run there.

`shapes` knows models, `machine` GPUs and CPUs, `activations` what a forward pass keeps for the
backward pass, `budget` adds up a training step, `fit` finds the largest batch, `report` shows it.
Every formula stands beside the code it was counted from; `tests/test_plan.py` checks them against
what autograd saves, `tests/bench/memory.py` against measured peaks.
"""

from espnet_plugin.planning.budget import Budget, Setup, budget
from espnet_plugin.planning.fit import Fit, largest_batch
from espnet_plugin.planning.machine import Machine, parse_machine
from espnet_plugin.planning.report import plan, plan_stage
from espnet_plugin.planning.shapes import Shape, read_shape

__all__ = [
    "Budget",
    "Fit",
    "Machine",
    "Setup",
    "Shape",
    "budget",
    "largest_batch",
    "parse_machine",
    "plan",
    "plan_stage",
    "read_shape",
]
