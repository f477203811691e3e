"""`compile: true`: the transformer layers through `torch.compile`.

Layers are compiled, not the model: all layers of a kind share one compiled function, and batches
of all shapes too (dynamic shapes), so that a run compiles a handful of times at its start.
"""

import functools
import importlib.util
import inspect
import os
import shutil
import sysconfig
from collections.abc import Callable
from pathlib import Path
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


def triton_lacks() -> str | None:
    """Return what Triton, which compiles for GPUs, lacks on this machine; None if nothing.

    With its first kernel it compiles a module in C that calls the driver.
    """
    if importlib.util.find_spec("triton") is None:
        return "the package triton (pip install triton)"
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "a C compiler (gcc or clang; Debian: apt-get install gcc)"
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")  # as Triton
    headers = Path(sysconfig.get_path("include", scheme))
    if not (headers / "Python.h").is_file():
        return f"{headers}/Python.h (Debian: apt-get install python3-dev)"
    return None


def check_compiler(device: torch.device) -> None:
    """Check that torch can compile for a device.

    Raises:
        ValueError: If the C++ compiler (CPU), or Triton or what it needs (GPU), is missing.
    """
    if device.type == "cuda":
        if lacks := triton_lacks():
            raise ValueError(f"compile: true needs {lacks} on a GPU, or set compile to false")
        return
    from torch._inductor import config

    named = config.cpp.cxx
    names = [n for n in (named if isinstance(named, tuple | list) else (named,)) if n]
    if not any(shutil.which(name) for name in names):
        raise ValueError(
            f"compile: true needs a C++ compiler on a CPU, and none of {', '.join(names)} is "
            "there: install g++ (Debian: apt-get install g++), or set compile to false"
        )
