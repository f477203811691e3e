"""What this package can do today of what a plan can compute; read from its own source.

A plan for something that cannot be switched on would be a promise. Nothing is imported: ESPnet
takes seconds.
"""

import functools
import importlib.util
import re
from pathlib import Path

# What a plan knows -> what the names of options of `task.py` that switch it on hold.
FEATURES = {"checkpointing": "checkpointing", "zero1": "shard", "fsdp": "fsdp"}


@functools.cache
def option_of(feature: str) -> str | None:
    """Return the training option that switches a feature on; None where there is none yet.

    Args:
        feature: `checkpointing`, `zero1` or `fsdp`.
    """
    spec = importlib.util.find_spec("espnet_plugin")
    assert spec is not None and spec.origin is not None
    source = (Path(spec.origin).parent / "task.py").read_text(encoding="utf-8")
    for name in re.findall(r"""["']--(\w+)["']""", source):
        if FEATURES[feature] in name:
            return str(name)
    return None


def missing(sharding: str, checkpointing: bool) -> list[str]:
    """Name what a setup needs and this package does not offer yet.

    Args:
        sharding: As in `budget.Setup`.
        checkpointing: Likewise.
    """
    wanted = ([sharding] if sharding != "none" else []) + ["checkpointing"] * checkpointing
    return [feature for feature in wanted if option_of(feature) is None]
