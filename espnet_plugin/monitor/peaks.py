"""What a device can do at most: dense products in what `autocast: auto` trains in.

That is bfloat16 with sums in float32. GPUs that have none train in float32, and are listed by that.
"Dense" is what training can use: makers print figures with structured sparsity, which are twice
these, first or alone (an H100's 1,979 TFLOP/s are 989.4).
"""

# Before Ampere: bfloat16 is emulated there, slower than float32.
WITHOUT_BFLOAT16 = ("V100", "V100 PCIe", "V100S", "T4", "P100", "RTX 2080 Ti", "Titan RTX")

# TFLOP/s of what torch calls a device. The longest name that the device's contains decides.
# Source: the data sheet of each product, where not said otherwise. "/ 2": printed with sparsity.
TFLOPS = {
    # NVIDIA Blackwell, Hopper
    "B200": 2250.0,  # 4,500 / 2
    "GH200": 989.4,  # 1,979 / 2, as the next two
    "H200": 989.4,
    "H100": 989.4,  # SXM
    "H100 NVL": 835.5,  # 1,671 / 2
    "H100 PCIe": 756.5,  # 1,513 / 2
    # NVIDIA Ampere: printed both ways
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "A10G": 70.0,
    "A6000": 154.8,  # 309.7 / 2
    # NVIDIA Ada: printed both ways, except the RTX 6000
    "RTX 6000 Ada": 364.2,  # 1,457 in FP8 with sparsity, / 4
    "L40": 181.0,
    "L40S": 362.0,
    "L4": 121.0,  # 242 / 2
    # GeForce: the white papers of GB202, AD102, GA102. Sums in float32 take twice as long there as
    # sums in float16, whose figure is the one that is usually quoted.
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    # float32
    "V100": 15.7,  # SXM2
    "V100 PCIe": 14.0,
    "V100S": 16.4,
    "T4": 8.1,
    "P100": 10.6,  # SXM2
    "RTX 2080 Ti": 13.4,  # white paper of TU102, as the next
    "Titan RTX": 16.3,
    # AMD Instinct
    "MI250X": 191.5,  # 383 are of a module, which is two devices
    "MI300X": 1307.4,
}


def peak_flops(device_name: str) -> float | None:
    """Return a device's peak in operations a second; None where it is not in the table.

    Args:
        device_name: As `torch.cuda.get_device_name` returns it.
    """
    name = find(device_name)
    return TFLOPS[name] * 1e12 if name else None


def find(device_name: str) -> str | None:
    """Return a device's name in the table; None where it is not there."""
    words = device_name.upper().replace("-", " ").split()
    best = None
    for name in TFLOPS:
        wanted = name.upper().split()
        fits = any(
            words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1)
        ) or (len(wanted) > 1 and set(wanted) <= set(words))
        if fits and (best is None or len(name) > len(best)):
            best = name
    return best
