"""What a plan is made for: `1x80`, `8x80`, `2x8x80` (nodes x GPUs x GB), `1x16:T4`, `cpu:24`."""

import re
from dataclasses import dataclass

from espnet_plugin.cli import nearest
from espnet_plugin.monitor.peaks import TFLOPS, WITHOUT_BFLOAT16, find

Gigabytes = float

FORMS = "8x80 (GPUs x GB), 2x8x80 (nodes x GPUs x GB), 1x16:T4 (and which GPU) or cpu:24 (GB)"
AMX = "AMX"  # of a CPU, in place of a GPU's name

# `Machine.context` adds these up. Those of GPUs are estimates that no GPU has confirmed.
# A process' CUDA context with torch's kernels loaded takes 0.3 to 0.6 GB, by driver and GPU.
CUDA_CONTEXT = 0.6e9
# cuBLAS' workspace (32 MiB for each handle on Hopper, less on others: torch, CublasHandlePool.cpp)
# and what cuDNN's two convolutions of the encoder borrow.
CUDA_LIBRARIES = 0.3e9
# NCCL's channels and buffers, where there are several processes.
NCCL = 0.6e9
# Python, torch and ESPnet, imported: 0.88 GB of resident memory measured.
CPU_PROCESS = 0.9e9
# The share that allocators lose between blocks: batches differ in shape from step to step.
# On a CPU 128 to 272 MB above the tensors' peak of 0.4 to 1.6 GB were measured (Whisper base,
# tests/bench/memory.py): 9 to 21 % where they held more than a gigabyte.
FRAGMENTS = {"cuda": 0.08, "cpu": 0.2}


@dataclass(frozen=True)
class Machine:
    """The devices of a run; all are alike.

    Attributes:
        kind: `cuda` or `cpu`.
        nodes: Computers.
        devices: GPUs of a node; 1 for a CPU.
        gigabytes: Memory of a device, in 10^9 bytes (an "80 GB" GPU has a little more).
        name: Which GPU, as in `monitor.peaks`, or `AMX` for a CPU with those tiles; empty: a GPU of
            Ampere's generation or later, or any CPU.
    """

    kind: str
    nodes: int
    devices: int
    gigabytes: Gigabytes
    name: str = ""

    @property
    def half(self) -> bool:
        """Whether `autocast: auto` trains in bfloat16 there, as `AsyncSwitchModel` decides."""
        if self.kind == "cpu":
            return self.name == AMX
        return self.name not in WITHOUT_BFLOAT16

    @property
    def world(self) -> int:
        """Number of processes: one for each device."""
        return self.nodes * self.devices

    @property
    def context(self) -> float:
        """Bytes of a device that are taken before the first tensor (estimates)."""
        if self.kind == "cpu":
            return CPU_PROCESS
        return CUDA_CONTEXT + CUDA_LIBRARIES + (NCCL if self.world > 1 else 0.0)

    @property
    def usable(self) -> float:
        """Bytes of a device that tensors may take."""
        return self.gigabytes * 1e9 * (1 - FRAGMENTS[self.kind]) - self.context

    def __str__(self) -> str:
        """Say it in words."""
        if self.kind == "cpu":
            return f"a CPU with {self.gigabytes:g} GB{f' and {self.name}' if self.name else ''}"
        nodes = f"{self.nodes} nodes x " if self.nodes > 1 else ""
        plural = "s" if self.devices > 1 else ""
        which = f" ({self.name})" if self.name else ""
        return f"{nodes}{self.devices} GPU{plural} x {self.gigabytes:g} GB{which}"


def parse_machine(text: str) -> Machine:
    """Read `1x80`, `2x8x80`, `1x16:T4`, `cpu:24` or `cpu:24:AMX`.

    Raises:
        ValueError: If it is none of these, no GPU that is known, or too small to hold anything.
    """
    number = r"(\d+(?:\.\d+)?)"
    if match := re.fullmatch(rf"cpu:{number}(:{AMX})?", text.strip(), re.IGNORECASE):
        machine = Machine("cpu", 1, 1, float(match.group(1)), AMX if match.group(2) else "")
    elif match := re.fullmatch(rf"(?:(\d+)x)?(\d+)x{number}(?::(.+))?", text.strip(), re.I):
        nodes, devices, memory, name = match.groups()
        known = name and find(name)
        if name and not known:
            raise ValueError(
                f"--gpus {text}: no such GPU{nearest(name, TFLOPS)}; known are {', '.join(TFLOPS)}"
            )
        machine = Machine("cuda", int(nodes or 1), int(devices), float(memory), known or "")
    else:
        raise ValueError(f"--gpus: '{text}' is not of the form {FORMS}")
    if machine.world < 1:
        raise ValueError(f"--gpus {text}: there must be at least one device; the form is {FORMS}")
    if machine.usable <= 0:
        raise ValueError(
            f"--gpus {text}: {machine.gigabytes:g} GB do not hold an idle process, which takes "
            f"{machine.context / 1e9:.1f} GB"
        )
    return machine
