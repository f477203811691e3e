"""`compile: true`: the transformer layers through `torch.compile`.

Layers are compiled, not the model: all layers of a kind share one compiled function, and batches
of all shapes too (dynamic shapes), so that a run compiles a handful of times at its start.
"""

import functools
import importlib.util
import inspect
import shutil
from collections.abc import Callable
from typing import Any

import torch

BACKEND = "inductor"
# What moves is compiled in: a layer has a form for each set of its parameters that do, with and
# without adapters, in training and validation. torch gives up after 8 forms, and then runs layers
# uncompiled; a gradual schedule that lets groups join layer by layer has more.
FORMS = 64


@functools.cache
def compile_layer(
    layer_pass: Callable[..., torch.Tensor], device: torch.device
) -> Callable[..., torch.Tensor]:
    """Return the compiled form of a function over one layer.

    Args:
        layer_pass: `whisper.decoder_layer` or `whisper.encoder_layer`.
        device: Where it runs.

    Raises:
        ValueError: If what torch compiles with is missing on this machine.
    """
    if BACKEND == "inductor":
        check_compiler(device)
    return torch.compile(layer_pass, dynamic=True, backend=BACKEND, **_forms())


def _forms() -> dict[str, Any]:
    """Return the option that lets a function have `FORMS` compiled forms, of this function alone.

    Older torch has none: there the limit of all functions is raised.
    """
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        return {"recompile_limit": FORMS}
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, FORMS)
    return {}


def check_compiler(device: torch.device) -> None:
    """Check that torch can compile for a device.

    Raises:
        ValueError: If the C++ compiler (CPU) or Triton (GPU) is missing.
    """
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise ValueError("compile: true needs the package triton on a GPU: pip install triton")
        return
    from torch._inductor import config

    named = config.cpp.cxx
    names = [n for n in (named if isinstance(named, tuple | list) else (named,)) if n]
    if not any(shutil.which(name) for name in names):
        raise ValueError(
            f"compile: true needs a C++ compiler on a CPU, and none of {', '.join(names)} is "
            "there: install g++ (Debian: apt-get install g++), or set compile to false"
        )
