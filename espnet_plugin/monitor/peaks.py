"""What a device can do at most: dense bfloat16 products, from the makers' data sheets.

Figures "with sparsity" are twice these. GPUs without bfloat16 are listed by float16.
"""

# The longest name that the device's contains decides. TFLOP/s.
# Sources: NVIDIA's data sheets of each product; AMD's of the Instinct series.
TFLOPS = {
    "B200": 2250.0,
    "H200": 989.4,
    "H100": 989.4,  # SXM
    "H100 NVL": 835.5,
    "H100 PCIe": 756.5,
    "GH200": 989.4,
    "A100": 312.0,
    "A800": 312.0,
    "A40": 149.7,
    "A30": 165.0,
    "A10": 125.0,
    "A10G": 70.0,
    "A6000": 154.8,
    "RTX 6000 Ada": 364.2,
    "L40": 181.0,
    "L40S": 362.0,
    "L4": 121.0,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
    "V100": 125.0,
    "T4": 65.0,
    "MI250X": 383.0,
    "MI300X": 1307.4,
}


def peak_flops(device_name: str) -> float | None:
    """Return a device's peak in operations a second; None where it is not in the table.

    Args:
        device_name: As `torch.cuda.get_device_name` returns it.
    """
    words = device_name.upper().replace("-", " ").split()
    best: tuple[int, float] | None = None
    for name, tflops in TFLOPS.items():
        wanted = name.upper().split()
        fits = any(
            words[at : at + len(wanted)] == wanted for at in range(len(words) - len(wanted) + 1)
        ) or (len(wanted) > 1 and set(wanted) <= set(words))
        if fits and (best is None or len(name) > best[0]):
            best = len(name), tflops
    return best[1] * 1e12 if best else None
