"""The training loss against torch's, the fused kernels through stand-ins that check the calls."""

import importlib.machinery
import sys
import types
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from espnet_plugin import loss_kernels
from espnet_plugin.loss import chunk_rows, cross_entropy, token_losses

CPU = torch.device("cpu")


def example(
    rows: int, scale: float = 1.0, vocab: int = 301
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(rows)
    hidden = (scale * torch.randn(rows, 8, generator=generator)).requires_grad_()
    weight = torch.randn(vocab, 8, generator=generator).requires_grad_()
    return hidden, weight, torch.randint(0, vocab, (rows,), generator=generator)


def reference(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, smoothing: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The mean loss and its gradients, in double precision."""
    doubles = [t.detach().double().requires_grad_() for t in (hidden, weight)]
    logits = doubles[0] @ doubles[1].T
    loss = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    loss.backward()
    return loss.detach(), *(d.grad for d in doubles)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, 64, 2 * 64 + 3])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_equals_torch_with_gradients(rows: int, smoothing: float, scale: float) -> None:
    hidden, weight, targets = example(rows, scale)
    if scale > 1:
        targets[::2] = (hidden @ weight.T).argmax(-1)[::2]  # nothing to learn there: p is 1
    total, correct = cross_entropy(hidden, weight, targets, smoothing, chunk=64)
    (total / rows).backward()
    loss, *gradients = reference(hidden, weight, targets, smoothing)
    assert (total / rows).item() == pytest.approx(loss.item(), rel=1e-5, abs=1e-6 * scale)
    assert correct == ((hidden @ weight.T).argmax(-1) == targets).sum()
    for mine, theirs in zip([hidden.grad, weight.grad], gradients, strict=True):
        assert (mine - theirs).abs().max() < 1e-5 * max(1, theirs.abs().max())


def test_the_chunks_do_not_matter() -> None:
    hidden, weight, targets = example(50)
    results = []
    for chunk in (7, 50, 1000):
        hidden.grad = weight.grad = None
        total, correct = cross_entropy(hidden, weight, targets, chunk=chunk)
        total.backward()
        results.append((total.detach(), correct, hidden.grad, weight.grad))
    for other in results[1:]:
        assert all(torch.allclose(a, b, rtol=1e-5) for a, b in zip(results[0], other, strict=True))


def test_bfloat16_products_sum_in_float32() -> None:
    hidden, weight, targets = example(200)
    total, _ = cross_entropy(hidden, weight, targets, dtype=torch.bfloat16, chunk=64)
    (total / 200).backward()
    loss, *gradients = reference(hidden, weight, targets, 0.0)
    assert total.dtype == weight.grad.dtype == torch.float32
    assert (total / 200).item() == pytest.approx(loss.item(), rel=1e-2)
    for mine, theirs in zip([hidden.grad, weight.grad], gradients, strict=True):
        assert (mine - theirs).norm() < 1e-2 * theirs.norm()


def test_frozen_weight_gets_no_gradient() -> None:
    hidden, weight, targets = example(5)
    weight.requires_grad_(False)
    cross_entropy(hidden, weight, targets)[0].backward()
    assert hidden.grad is not None and weight.grad is None


def test_no_rows() -> None:
    hidden, weight, targets = example(0)
    total, correct = cross_entropy(hidden, weight, targets)
    total.backward()
    assert total == correct == 0 and not weight.grad.any()


def test_without_gradients() -> None:
    with torch.no_grad():
        total, correct = cross_entropy(torch.zeros(2, 3), torch.eye(4, 3), torch.tensor([0, 1]))
    assert total == pytest.approx(2 * torch.log(torch.tensor(4.0)).item())
    assert correct == 2, "no logit is above the target's"


def test_token_losses_are_the_rows_of_the_sum() -> None:
    hidden, weight, targets = example(150)
    losses, hits = token_losses(hidden, weight, targets, chunk=64)
    logits = (hidden @ weight.T).detach()
    assert torch.allclose(losses, F.cross_entropy(logits, targets, reduction="none"), atol=1e-5)
    assert torch.equal(hits, logits.argmax(-1) == targets)
    assert not losses.requires_grad


def test_chunks_follow_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 256 <= chunk_rows(CPU, 51866) <= 4096
    rows = []
    for gigabytes in (8, 24, 80):
        device = types.SimpleNamespace(total_memory=gigabytes * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, d=device: d)
        rows.append(chunk_rows(torch.device("cuda", 0), 51866))
        assert rows[-1] >= 64 and rows[-1] * 51866 * 8 <= 0.02 * gigabytes * 2**30
    assert rows == sorted(set(rows))


def module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: Any) -> None:
    made = types.ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    made.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, name, made)


@pytest.fixture
def liger(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for liger-kernel; keeps what it was called with."""
    calls: list[dict[str, Any]] = []

    class Loss(torch.nn.Module):
        def __init__(self, **options: Any) -> None:
            super().__init__()
            known = {"label_smoothing", "reduction", "accum_dtype", "return_token_accuracy"}
            assert set(options) <= known
            self.options = options

        def forward(self, lin_weight: Any, _input: Any, target: Any, bias: Any = None) -> Any:
            calls.append(self.options | {"dtype": _input.dtype, "weight_dtype": lin_weight.dtype})
            assert self.options["reduction"] == "sum" and bias is None
            logits = (_input @ lin_weight.t()).float()
            smoothing = self.options["label_smoothing"]
            loss = F.cross_entropy(logits, target, reduction="sum", label_smoothing=smoothing)
            accuracy = (logits.argmax(-1) == target).float().mean()
            return types.SimpleNamespace(loss=loss, token_accuracy=accuracy)

    module(monkeypatch, "liger_kernel")
    module(monkeypatch, "liger_kernel.transformers", LigerFusedLinearCrossEntropyLoss=Loss)
    return calls


@pytest.fixture
def cce(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stands for cut-cross-entropy."""
    calls: list[dict[str, Any]] = []

    def linear_cross_entropy(e: Any, c: Any, targets: Any, **options: Any) -> torch.Tensor:
        assert set(options) == {"reduction", "filter_eps"}
        calls.append(options | {"dtype": e.dtype, "weight_dtype": c.dtype})
        return F.cross_entropy((e @ c.T).float(), targets, reduction=options["reduction"])

    module(monkeypatch, "cut_cross_entropy", linear_cross_entropy=linear_cross_entropy)
    return calls


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_liger_is_asked_for_the_same_loss(liger: list[dict[str, Any]], smoothing: float) -> None:
    hidden, weight, targets = example(60)
    ours = cross_entropy(hidden, weight, targets, smoothing)
    theirs = loss_kernels.training_loss("liger", hidden, weight, targets, smoothing)
    assert torch.allclose(ours[0], theirs[0]) and ours[1] == theirs[1]
    half = loss_kernels.training_loss("liger", hidden, weight, targets, 0.0, torch.bfloat16)
    half[0].backward()
    assert weight.grad.dtype == half[0].dtype == torch.float32
    assert liger[0] == {
        "label_smoothing": smoothing,
        "reduction": "sum",
        "accum_dtype": torch.float32,
        "return_token_accuracy": True,
        "dtype": torch.float32,
        "weight_dtype": torch.float32,
    }
    assert liger[1]["dtype"] == liger[1]["weight_dtype"] == torch.bfloat16


def test_cce_is_asked_for_the_exact_loss(cce: list[dict[str, Any]]) -> None:
    hidden, weight, targets = example(60)
    total, correct = loss_kernels.training_loss(
        "cce", hidden, weight, targets, dtype=torch.bfloat16
    )
    assert total.item() == pytest.approx(cross_entropy(hidden, weight, targets)[0].item(), rel=1e-2)
    assert correct is None
    half = {"dtype": torch.bfloat16, "weight_dtype": torch.bfloat16}
    assert cce == [{"reduction": "sum", "filter_eps": None} | half]


def test_auto_takes_liger_on_a_gpu_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(loss_kernels, "_installed", lambda kernel: False)
    assert loss_kernels.choose("auto", gpu, True) == ("chunked", "liger-kernel is not installed")
    monkeypatch.setattr(loss_kernels, "_installed", lambda kernel: True)
    monkeypatch.setattr(loss_kernels, "triton_lacks", lambda: None)
    assert loss_kernels.choose("auto", gpu, True)[0] == "liger"
    assert loss_kernels.choose("auto", CPU, True) == ("chunked", "the device is cpu")
    assert loss_kernels.choose("cce", gpu, True)[0] == "cce"


@pytest.mark.parametrize(
    ("options", "installed", "message"),
    [
        (("ligre", 0.0, "auto"), True, "one of auto, chunked, liger, cce, got 'ligre'"),
        (("liger", 0.0, "auto"), False, "needs the package liger-kernel: pip install liger-kernel"),
        (("cce", 0.0, "auto"), False, "needs the package cut-cross-entropy"),
        (("cce", 0.1, "auto"), True, "cce has no label smoothing"),
        (("cce", 0.0, "none"), True, "bfloat16 only: autocast none contradicts it"),
    ],
)
def test_wrong_choices(
    monkeypatch: pytest.MonkeyPatch, options: Any, installed: bool, message: str
) -> None:
    monkeypatch.setattr(loss_kernels, "_installed", lambda kernel: installed)
    with pytest.raises(ValueError, match=message):
        loss_kernels.check(*options)


def test_a_fused_kernel_on_a_cpu_is_an_error() -> None:
    with pytest.raises(ValueError, match="liger needs a CUDA device, this model is on cpu"):
        loss_kernels.choose("liger", CPU, True)
    with pytest.raises(ValueError, match="bfloat16 only"):
        loss_kernels.choose("cce", torch.device("cuda"), False)


REAL = """
import os
os.environ["TRITON_INTERPRET"] = "1"  # Triton's own interpreter: kernels run on the CPU
import torch
from espnet_plugin.loss import cross_entropy
from espnet_plugin.loss_kernels import training_loss
from tests.test_loss import example

for rows, smoothing in ((5, 0.0), (70, 0.1)):
    results = []
    for kernel in ("chunked", "liger"):
        hidden, weight, targets = example(rows)
        total, correct = training_loss(kernel, hidden, weight, targets, smoothing)
        (total / 3).backward()
        results.append((total.detach(), correct, hidden.grad, weight.grad))
    for ours, theirs in zip(*results):
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5), (ours, theirs)
print("equal")
"""


@pytest.mark.slow
def test_the_real_liger_kernel_in_tritons_interpreter() -> None:
    import subprocess

    pytest.importorskip("liger_kernel")
    pytest.importorskip("triton")
    done = subprocess.run([sys.executable, "-c", REAL], capture_output=True, text=True)
    assert done.stdout == "equal\n", done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("kernel", ["chunked", "liger", "cce"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_a_gpu(kernel: str, dtype: torch.dtype) -> None:
    if kernel in loss_kernels.LIBRARIES:
        pytest.importorskip(loss_kernels._MODULES[kernel])
    if kernel == "cce" and dtype == torch.float32:
        pytest.skip("cce computes in bfloat16 only")
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(1000, 256, generator=generator).cuda().requires_grad_()
    weight = (0.1 * torch.randn(51866, 256, generator=generator)).cuda().requires_grad_()
    targets = torch.randint(0, 51866, (1000,), generator=generator).cuda()
    total, correct = loss_kernels.training_loss(kernel, hidden, weight, targets, 0.0, dtype)
    (total / 1000).backward()
    loss, *gradients = reference(hidden, weight, targets, 0.0)
    bound = 1e-3 if dtype == torch.float32 else 2e-2
    assert (total / 1000).item() == pytest.approx(loss.item(), rel=bound)
    for mine, theirs in zip([hidden.grad, weight.grad], gradients, strict=True):
        assert (mine - theirs).norm() < bound * theirs.norm()
    if correct is not None:
        hits = ((hidden @ weight.T).argmax(-1) == targets).sum()
        assert abs(int(correct - hits)) <= (0 if dtype == torch.float32 else 20)
