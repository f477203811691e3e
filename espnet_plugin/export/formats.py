"""The formats of exports, one table: what may be stored, what runs it, and how far it may differ.

Needs no torch, so that `--help` is quick.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from espnet_plugin.cli import nearest

Percent = float

FLOATS = ("float32", "float16", "bfloat16")
# Words in which the decoded text of an export may differ from the model's, where its weights were
# rounded. Weights that are the model's own, or wider, allow no difference. tests/export has the
# bounds of the weights themselves.
TOLERANCE: dict[str, Percent] = {
    "float32": 0.0,
    "float16": 1.0,
    "bfloat16": 5.0,
    "int8": 10.0,
    "int8_float16": 10.0,
}


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: As on command lines.
        title: For people.
        runtime: The program whose own format it is, and that an export is verified with.
        package: What has to be installed for that.
        dtypes: Types in which weights can be stored.
        file: Name of the one file that it is; None where it is a directory.
        folder: Where it lies in a published repository; empty is the root.
    """

    name: str
    title: str
    runtime: str
    package: str
    dtypes: tuple[str, ...]
    file: str | None
    folder: str


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format("hf", "Hugging Face", "transformers", "transformers", FLOATS, None, ""),
        Format(
            "openai",
            "openai-whisper",
            "openai-whisper",
            "openai-whisper",
            FLOATS,
            "whisper.pt",
            "openai-whisper",
        ),
        Format(
            "ct2",
            "CTranslate2",
            "faster-whisper",
            "faster-whisper",
            (*FLOATS, "int8", "int8_float16"),
            None,
            "ctranslate2",
        ),
        Format("espnet", "ESPnet", "ESPnet", "espnet", FLOATS, "espnet.zip", ""),
    )
}


@dataclass(frozen=True)
class Target:
    """A format and the type in which it stores weights.

    Attributes:
        format: The format.
        dtype: The type; None keeps each tensor's own.
    """

    format: Format
    dtype: str | None = None

    @property
    def name(self) -> str:
        """A name for directories, such as ``ct2_int8``."""
        return self.format.name + (f"_{self.dtype}" if self.dtype else "")

    @property
    def title(self) -> str:
        """A name for people, such as ``CTranslate2 int8``."""
        return f"{self.format.title} {self.dtype or 'as stored'}"

    def tolerance(self, stored: Iterable[str]) -> Percent:
        """Return the words in percent that may differ.

        Args:
            stored: Types of the model's tensors.
        """
        kept = self.dtype is None or self.dtype == "float32" or set(stored) == {self.dtype}
        return 0.0 if kept else TOLERANCE[self.dtype or "float32"]


def target(name: str, dtype: str | None = None) -> Target:
    """Return a target by the names of its format and type.

    Raises:
        ValueError: There is no such format, or it cannot store that type.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown format '{name}'{nearest(name, FORMATS)}: {', '.join(FORMATS)}")
    found = FORMATS[name]
    if dtype is not None and dtype not in found.dtypes:
        hint = nearest(dtype, found.dtypes)
        raise ValueError(f"{name} stores {', '.join(found.dtypes)}, not '{dtype}'{hint}")
    return Target(found, dtype)


def parse_targets(names: Iterable[str]) -> list[Target]:
    """Parse targets written ``format`` or ``format:dtype``, such as ``ct2:int8``.

    Raises:
        ValueError: One is unknown or named twice; none is given.
    """
    found: list[Target] = []
    for entry in names:
        name, _, dtype = entry.partition(":")
        made = target(name, dtype or None)
        if made in found:
            raise ValueError(f"format '{entry}' is named twice")
        found.append(made)
    if not found:
        raise ValueError(f"no format is named; there are {', '.join(FORMATS)}")
    return found


def as_json(made: Target) -> dict[str, Any]:
    """Return a target for a record."""
    return {"format": made.format.name, "dtype": made.dtype}
