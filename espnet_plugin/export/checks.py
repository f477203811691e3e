"""What other programs take for granted about a Whisper, checked before a file is made for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Settings of a Hugging Face configuration that change what the model computes, and that other
# formats have no place for: their programs compute with these.
FIXED = {
    "activation_function": "gelu",
    "scale_embedding": False,
    "max_source_positions": 1500,
    "max_target_positions": 448,
}


def check_plain(config: Mapping[str, Any], program: str) -> None:
    """Check that a configuration says nothing that a format cannot express.

    Raises:
        ValueError: It does; the message names the setting.
    """
    for name, value in FIXED.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"{program} cannot express {name} {config[name]!r} of config.json; it has {value!r}"
            )
