"""What matters on GPUs alone, as far as a CPU can tell."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from espnet_plugin import whisper as passes
from tests.test_model import batch, make


class Operations(TorchDispatchMode):
    """Notes which operations run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_the_decoder_is_given_to_a_gpu_without_a_question(
    tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tensor without data cannot answer one; a GPU would have to finish the encoder first."""
    monkeypatch.setattr(passes, "shared", lambda x, uses: (x,) * uses)  # knows no such device
    whisper = passes.load_whisper(tiny_whisper).to("meta")
    memory = torch.empty(2, 9, 16, device="meta")
    lengths = torch.empty(2, dtype=torch.long, device="meta")
    tokens = torch.empty(2, 5, dtype=torch.long, device="meta")
    assert passes.decode(whisper, tokens, memory, lengths).shape == (2, 5, 16)


def test_tokens_that_count_are_found_before_the_encoder_runs(tiny_whisper: Path) -> None:
    model = make(tiny_whisper).train()
    with Operations() as seen:
        loss = model(**batch(model))[0]
    assert seen.names.count("nonzero") == 1
    assert seen.names.index("nonzero") < seen.names.index("convolution")
    assert torch.isfinite(loss)


def test_constants_are_not_exchanged_with_every_batch(
    tiny_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    monkeypatch.setattr(DistributedDataParallel, "_sync_buffers", lambda self: sent.append(1))
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = make(tiny_whisper).train()
        wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
        wrapped(**batch(model))[0].backward()
    finally:
        dist.destroy_process_group()
    assert not sent
    moving = [name for name, p in model.named_parameters() if p.requires_grad]
    assert moving and all(model.get_parameter(name).grad is not None for name in moving)


def test_attention_builds_no_plan_for_each_shape(tiny_whisper: Path) -> None:
    torch.backends.cuda.enable_cudnn_sdp(True)
    passes.load_whisper(tiny_whisper)
    assert not torch.backends.cuda.cudnn_sdp_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()
    assert torch.backends.cuda.mem_efficient_sdp_enabled()
