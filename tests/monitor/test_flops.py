"""Operations by formula against torch's own counter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from espnet_plugin import whisper as passes
from espnet_plugin.monitor.flops import cost
from espnet_plugin.monitor.peaks import TFLOPS, WITHOUT_BFLOAT16, peak_flops
from espnet_plugin.monitor.work import Estimate, model_shape, moving_names
from espnet_plugin.stages import STAGES

BATCH, SAMPLES, TOKENS = 3, 16_000, 24


def freeze(whisper: Any, trains: tuple[str, ...]) -> None:
    from espnet_plugin.groups import group_of, is_fixed

    for name, parameter in whisper.named_parameters():
        parameter.requires_grad_(group_of(name) in trains and not is_fixed(name))


def counted(whisper: Any, paired: bool, logits: bool) -> float:
    """Count what a step runs: with plain attention, which torch counts without recomputation."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 1000, (BATCH, TOKENS), generator=generator)
    counter = FlopCounterMode(display=False)
    with counter, sdpa_kernel(SDPBackend.MATH):
        memory: torch.Tensor | str = "zero"
        lengths = None
        if paired:
            frames = torch.full((BATCH,), SAMPLES // 160)
            features = torch.randn(BATCH, whisper.config.num_mel_bins, SAMPLES // 160)
            moves = any(p.requires_grad for p in whisper.encoder.parameters())
            with torch.set_grad_enabled(moves):
                memory, lengths = passes.encode(whisper, features, frames)
        hidden = passes.decode(whisper, tokens, memory, lengths)
        if logits:  # most of a tiny model: without them the layers show
            hidden = passes.logits(whisper, hidden)
        hidden.square().mean().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("stage", ["adapt_text", "adapt_align", "adapt_full"])
def test_the_formula_agrees_with_torchs_counter(
    tiny_whisper: Path, stage: str, logits: bool
) -> None:
    whisper = passes.load_whisper(tiny_whisper)
    freeze(whisper, STAGES[stage].trains)
    paired = STAGES[stage].data == "paired"
    estimate = Estimate(model_shape(whisper.config), lambda: moving_names(whisper))
    batch: dict[str, Any] = {"text_lengths": torch.full((BATCH,), TOKENS + 1)}
    if paired:
        batch["speech_lengths"] = torch.tensor([SAMPLES, SAMPLES // 2, SAMPLES // 4])
    seconds, flops = estimate(batch, BATCH * TOKENS if logits else 0)
    assert seconds == (1.75 if paired else 0)
    assert flops == pytest.approx(counted(whisper, paired, logits), rel=0.01)


def test_what_is_frozen_costs_less() -> None:
    from espnet_plugin.planning.activations import Batch
    from espnet_plugin.planning.shapes import parameters, read_shape

    shape = read_shape("large-v3")
    names = set(parameters(shape))
    batch = Batch(8, 40, 1500)
    forward = cost(shape, set()).of(batch, 300)
    align = cost(shape, {n for n in names if "encoder_attn" in n}).of(batch, 300)
    full = cost(shape, names).of(batch, 300)
    # the known rule: 2 operations a parameter and position forward, three times that in training
    dense = sum(n for name, n in parameters(shape).items() if name.startswith("encoder.layers"))
    assert cost(shape, set()).positions == pytest.approx(2 * dense, rel=0.02)
    assert full == pytest.approx(3 * forward, rel=0.01)
    assert forward < align < 1.5 * forward


def test_padding_to_30_s_is_counted_and_the_largest_gpu_name_wins() -> None:
    from espnet_plugin.planning.shapes import read_shape

    shape = read_shape("tiny")
    short, long = (Estimate(shape, set, pad) for pad in ("batch", "30s"))
    batch = {"text_lengths": torch.tensor([9]), "speech_lengths": torch.tensor([48_000])}
    assert long(batch, 8)[1] > 8 * short(batch, 8)[1]
    assert short(batch | {"pad": "30s"}, 8) == long(batch, 8)
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989.4e12
    assert peak_flops("NVIDIA H100 PCIe") == 756.5e12
    assert peak_flops("NVIDIA A100-SXM4-40GB") == 312e12
    assert peak_flops("NVIDIA L40S") == 362e12
    assert peak_flops("NVIDIA GeForce RTX 4090") == 165.2e12
    assert peak_flops("Tesla V100-PCIE-32GB") == 14e12, "in float32"
    assert peak_flops("AMD Instinct MI250X") == 191.5e12, "one of its two devices"
    assert peak_flops("Some GPU of tomorrow") is None
    assert set(WITHOUT_BFLOAT16) < set(TFLOPS)
