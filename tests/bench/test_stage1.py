"""The benchmark of stage 1: it counts right; and (make bench) ours is ahead on this machine."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench import stage1


def test_the_products_that_lines_need_are_counted_right(tiny_whisper: Path) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from espnet_plugin.groups import group_of
    from espnet_plugin.model import AsyncSwitchModel
    from espnet_plugin.stages import STAGES

    model = AsyncSwitchModel(tiny_whisper, autocast="none").train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(group_of(name) in STAGES["adapt_text"].trains)
    row = torch.from_numpy(model.prompt.encode("saya nak pergi meeting besok", "cs"))
    config = model.whisper.config
    width, layers = config.d_model, config.decoder_layers
    with FlopCounterMode(display=False) as counter:
        model(row[None], torch.tensor([len(row)]))[0].backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if str(op) in ("aten.mm", "aten.addmm"))
    lengths = np.array([len(row)])
    needed = stage1.needed_gflop(lengths, width, layers, config.vocab_size) * 1e9
    # the tiny model's feed-forward is 2 widths wide, Whisper's 4; the rest is in other operators
    needed -= 3 * 2 * (len(row) - 1) * layers * 4 * width**2
    attention = 3 * 2 * layers * width * (len(row) - 1) * len(row)
    constant = 2 * layers * width**2
    assert needed - attention + constant == pytest.approx(products)


def test_a_table_is_made_of_what_is_found() -> None:
    system = {"dtype": "float32", "gflops": 50.0, "of_peak": 0.5, "padding": 0.02, "updates": 4}
    found = {
        "size": "base",
        "lines": 10,
        "tokens": 200,
        "batch_lines": 4,
        "machine": {"device": "cpu", "cpu": "x", "threads": 2, "has": ["avx512"], "torch": "2"},
        "peak_gflops": {"float32": 100.0, "bfloat16": 80.0},
        "systems": {
            "a": system | {"tokens_per_second": 100.0},
            "b": system | {"tokens_per_second": 612.0},
        },
    }
    assert "6.12" in list(stage1.table(found))[-1]


@pytest.mark.bench
def test_ours_is_ahead_of_transformers() -> None:
    systems = stage1.main(["--batches", "4", "--rounds", "1"])["systems"]
    speed = {name: s["tokens_per_second"] for name, s in systems.items()}
    assert speed["b"] > 2 * speed["a"]
    assert speed["b"] > speed["a1"] and speed["c"] > speed["a1_bf16"]
