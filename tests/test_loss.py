import pytest
import torch
import torch.nn.functional as F

from espnet_plugin.loss import CHUNK, cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [1, CHUNK, 2 * CHUNK + 3])
def test_equals_torch_with_gradients(rows: int, smoothing: float) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(rows, 8, requires_grad=True)
    weight = torch.randn(301, 8, requires_grad=True)
    targets = torch.randint(0, 301, (rows,))
    total, correct = cross_entropy(hidden, weight, targets, smoothing)
    (total / rows).backward()
    ours = [hidden.grad, weight.grad]
    hidden.grad = weight.grad = None
    logits = hidden @ weight.T
    expected = F.cross_entropy(logits, targets, label_smoothing=smoothing)
    expected.backward()
    assert torch.allclose(total / rows, expected, rtol=1e-5)
    assert correct == (logits.argmax(-1) == targets).sum()
    for mine, theirs in zip(ours, [hidden.grad, weight.grad], strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6, rtol=1e-4)


def test_frozen_weight_gets_no_gradient() -> None:
    hidden = torch.randn(5, 4, requires_grad=True)
    weight = torch.randn(7, 4)
    cross_entropy(hidden, weight, torch.zeros(5, dtype=torch.long))[0].backward()
    assert hidden.grad is not None and weight.grad is None


def test_without_gradients() -> None:
    with torch.no_grad():
        total, correct = cross_entropy(torch.zeros(2, 3), torch.zeros(4, 3), torch.tensor([0, 1]))
    assert total == pytest.approx(2 * torch.log(torch.tensor(4.0)).item())
    assert correct == 1
