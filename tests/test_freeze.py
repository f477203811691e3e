import pytest
import torch

from espnet_plugin.freeze import FreezeSchedule, WarmupLinear
from espnet_plugin.optim import build_optimizer
from tests.test_groups import on_meta


class Small(torch.nn.Module):
    """Parameters with Whisper's names, one number each."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors = {
            name.removeprefix("model."): torch.nn.Parameter(torch.ones(1))
            for name, _ in on_meta("tiny").named_parameters()
        }

    def named_parameters(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def]
        return iter(self.tensors.items())

    def parameters(self, recurse: bool = True):  # type: ignore[no-untyped-def]
        return iter(self.tensors.values())

    def moving(self) -> set[str]:
        return {
            n.split(".")[0] + n.split(".")[-2] for n, p in self.tensors.items() if p.requires_grad
        }

    def step(self, optimizer: torch.optim.Optimizer, schedule: FreezeSchedule) -> set[str]:
        """Take one step with weight decay; return the names that changed."""
        before = {n: p.detach().clone() for n, p in self.tensors.items()}
        sum((p * 2).sum() for p in self.tensors.values() if p.requires_grad).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return {n for n, p in self.tensors.items() if not torch.equal(p, before[n])}


def make(**conf: object) -> tuple[Small, torch.optim.Optimizer, FreezeSchedule]:
    model = Small()
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.5})
    return model, optimizer, FreezeSchedule(optimizer, **conf)  # type: ignore[arg-type]


def test_staged_moves_its_groups_and_nothing_else() -> None:
    model, optimizer, schedule = make(kind="staged", trainable=["cross_attn"])
    schedule.begin_epoch(1)
    changed = model.step(optimizer, schedule)
    assert changed == {n for n in model.tensors if "encoder_attn" in n}


def test_the_sinusoids_never_move() -> None:
    model, optimizer, schedule = make(trainable=["encoder", "output"])
    changed = model.step(optimizer, schedule)
    assert "encoder.embed_positions.weight" not in changed
    assert "encoder.conv1.weight" in changed


def test_gradual_by_epoch_layer_by_layer() -> None:
    joins = [
        {"at": 0, "unit": "epoch", "groups": ["cross_attn.3"]},
        {"at": 1, "unit": "epoch", "groups": ["cross_attn.0-2", "output"]},
    ]
    model, optimizer, schedule = make(kind="gradual", joins=joins)
    # Before DDP wraps, everything that will ever move is trainable.
    assert model.tensors["decoder.embed_tokens.weight"].requires_grad
    assert not model.tensors["encoder.conv1.weight"].requires_grad
    schedule.begin_epoch(1)
    assert all("layers.3.encoder_attn" in n for n in model.step(optimizer, schedule))
    schedule.begin_epoch(2)
    assert "decoder.embed_tokens.weight" in model.step(optimizer, schedule)
    assert schedule.changes


def test_gradual_by_step() -> None:
    joins = [
        {"at": 0, "unit": "step", "groups": ["ffn"]},
        {"at": 2, "unit": "step", "groups": ["output"]},
    ]
    model, optimizer, schedule = make(kind="gradual", joins=joins)
    schedule.begin_epoch(1)
    seen = ["decoder.embed_tokens.weight" in model.step(optimizer, schedule) for _ in range(4)]
    assert seen == [False, False, True, True]


def test_state_is_saved_and_restored_with_the_inner_schedule() -> None:
    conf = {"inner": "warmuplinear", "inner_conf": {"warmup_steps": 2, "total_steps": 10}}
    model, optimizer, schedule = make(trainable=["ffn"], **conf)
    rates = []
    for _ in range(5):
        model.step(optimizer, schedule)
        rates.append(optimizer.param_groups[2]["lr"])
    assert rates == pytest.approx([0.1, 0.1, 0.0875, 0.075, 0.0625])
    other, resumed_optimizer, resumed = make(trainable=["ffn"], **conf)
    resumed_optimizer.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    model.step(optimizer, schedule)
    other.step(resumed_optimizer, resumed)
    assert resumed.steps == schedule.steps == 6
    assert resumed_optimizer.param_groups[2]["lr"] == optimizer.param_groups[2]["lr"]


def test_a_state_of_another_kind_is_refused() -> None:
    _, _, staged = make(trainable=["ffn"])
    _, _, gradual = make(kind="gradual", joins=[{"at": 0, "groups": ["ffn"]}])
    with pytest.raises(ValueError, match="written with a 'staged' freeze schedule"):
        gradual.load_state_dict(staged.state_dict())


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"kind": "stagged"}, "unknown freeze schedule 'stagged': choose staged or gradual"),
        ({"trainable": ["crossattn"]}, "group 'crossattn' .*cross_attn.*: the groups are"),
        ({"trainable": []}, "moves nothing at its start"),
        (
            {"kind": "gradual", "joins": [{"at": 1, "groups": ["ffn"]}]},
            "moves nothing at its start",
        ),
        ({"kind": "gradual", "joins": [{"at": 0, "group": ["ffn"]}]}, "keys at, unit and groups"),
        ({"kind": "gradual", "joins": [{"at": -1, "groups": ["ffn"]}]}, "whole 'at' >= 0"),
        ({"trainable": ["ffn"], "joins": [{}]}, "'joins' belongs to the gradual"),
        ({"kind": "gradual", "trainable": ["ffn"]}, "'trainable' belongs to the staged"),
        ({"trainable": ["ffn"], "inner": "steplr"}, "'steplr' is unknown or does not step once"),
        ({"trainable": ["ffn"], "inner_conf": {"a": 1}}, "without an inner schedule"),
        (
            {"trainable": ["ffn"], "inner": "warmuplinear", "inner_conf": {"floor": "low"}},
            "warmuplinear takes numbers, got {'floor': 'low'}",
        ),
    ],
)
def test_mistakes_are_named(conf: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**conf)


def test_an_optimiser_without_names_is_refused() -> None:
    plain = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(ValueError, match="needs an optimiser with named groups"):
        FreezeSchedule(plain, trainable=["ffn"])


def test_rates_and_decays_by_group() -> None:
    model = Small()
    optimizer = build_optimizer(
        model, torch.optim.AdamW, {"lr": 0.1}, {"ffn": 0.5}, {"output": 0.25}
    )
    found = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert found["ffn"] == (0.5, 0.01) and found["output"] == (0.1, 0.25)
    with pytest.raises(ValueError, match="group_lr: .* group 'fn' .*ffn.*; the groups are"):
        build_optimizer(model, torch.optim.AdamW, {}, {"fn": 1.0})
    yaml: dict = {"ffn": "1e-3"}  # as YAML reads a number without a point
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": "2e-3", "eps": "1e-9"}, yaml)
    found = {g["name"]: (g["lr"], g["eps"]) for g in optimizer.param_groups}
    assert found["ffn"] == (1e-3, 1e-9) and found["output"] == (2e-3, 1e-9)
    schedule = FreezeSchedule(
        optimizer, trainable=["ffn"], inner="warmuplinear", inner_conf={"floor": "1e-2"}
    )
    assert schedule.inner is not None and schedule.inner.floor == 0.01
    with pytest.raises(ValueError, match="optim_conf {'lr': 'quick'"):
        build_optimizer(model, torch.optim.AdamW, {"lr": "quick"})


def test_the_audit_counts_what_moves() -> None:
    _, _, schedule = make(trainable=["cross_attn"])
    lines = {line.split()[0]: line.split()[1:] for line in schedule.audit().splitlines()}
    assert lines["cross_attn"][:3] == ["36", "36", "100.0"]
    assert lines["ffn"][1] == "0"
    assert lines["total"][1] == "36"


def test_warmup_linear_checks_its_range() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    with pytest.raises(ValueError, match="0 <= warmup_steps < total_steps"):
        WarmupLinear(optimizer, warmup_steps=5, total_steps=5)
    schedule = WarmupLinear(optimizer, warmup_steps=0, total_steps=4, floor=0.5)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([1.0, 0.875, 0.75, 0.625, 0.5, 0.5])
