"""Runs of ESPnet's own training loop on a model of a few weights."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.monitor.events import read_events
from espnet_plugin.monitor.faults import BatchIds, Fault
from espnet_plugin.monitor.options import WatchOptions
from espnet_plugin.monitor.ranks import Ranks
from espnet_plugin.monitor.watch import Watch

OPTIONS = WatchOptions(
    on_nonfinite="skip",
    on_spike="warn",
    spike_factor=10.0,
    spike_window=50,
    max_skipped=3,
    max_bad_share=0.01,
    peak_tflops=None,
)


class Line(torch.nn.Module):
    """A straight line; `gradient` NaN makes the gradient not finite and leaves the loss."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.5, -0.5]))

    def forward(self, text: torch.Tensor, utt_id: Any, **_: Any) -> Any:
        x, y, factor = text.T
        weight = self.weight * 1
        if not torch.isfinite(factor).all():
            weight.register_hook(lambda grad: grad * math.nan)
        loss = (weight[0] * x + weight[1] - y).square().mean()
        return loss[None], {"loss": loss.detach()[None]}, torch.tensor([len(text)])


Batch = tuple[Any, dict[str, torch.Tensor]]


def batch(number: int, y: float = 1.0, factor: float = 1.0, ids: Any = None) -> Batch:
    x = torch.linspace(0, 1, 4) + 0.01 * number
    rows = torch.stack([x, y * x + 0.1 * torch.cos(40 * x), torch.full((4,), factor)], 1)
    return ids or BatchIds(f"utt{number}-{i}" for i in range(4)), {"text": rows}


class Run:
    """A training run by ESPnet's `train_one_epoch`."""

    def __init__(self, directory: Path, several: bool = False, **changes: Any) -> None:
        from espnet_plugin.freeze import WarmupLinear

        directory.mkdir(exist_ok=True)
        options = WatchOptions(**vars(OPTIONS) | changes)
        self.watch = Watch(directory, "run", options, Ranks(several), source="dump/train")
        self.model: torch.nn.Module = Line()
        if several:
            self.model = torch.nn.parallel.DistributedDataParallel(self.model)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 0.01)
        self.schedule = WarmupLinear(self.optimizer, 2, 1000)
        self.events = directory / "events.jsonl"

    def train(self, batches: list[Batch], epoch: int = 1, accum: int = 1) -> list[torch.Tensor]:
        from espnet2.train.distributed_utils import DistributedOption
        from espnet2.train.reporter import Reporter
        from espnet2.train.trainer import Trainer, TrainerOptions

        values = dict.fromkeys((field.name for field in fields(TrainerOptions)), None)
        values |= {"ngpu": 0, "accum_grad": accum, "grad_clip": 5.0, "grad_clip_type": 2.0}
        values |= {"grad_noise": False, "no_forward_run": False, "use_wandb": False}
        values |= {"create_graph_in_tensorboard": False, "max_epoch": 2, "use_amp": False}
        options: Any = TrainerOptions(**values)  # type: ignore[arg-type]
        with Reporter(epoch).observe("train") as reporter:
            arguments = self.model, batches, reporter, options, 100 * (epoch - 1)
            with self.watch.training(*arguments) as watched:
                Trainer.train_one_epoch(
                    self.model,
                    watched,
                    [self.optimizer],
                    [self.schedule],
                    None,
                    reporter,
                    None,
                    options,
                    DistributedOption(distributed=self.watch.ranks.size > 1),
                )
        return self.state()

    def state(self) -> list[torch.Tensor]:
        moments = self.optimizer.state_dict()["state"].get(0, {}).values()
        rate = torch.tensor(self.schedule.state_dict()["last_epoch"])
        (weight,) = self.model.parameters()
        return [weight.detach().clone(), *map(torch.clone, moments), rate]

    def found(self) -> list[dict[str, Any]]:
        return read_events(self.events)


def of_validation(epoch: int = 1) -> Any:
    from espnet2.train.reporter import Reporter

    return Reporter().start_epoch("valid", epoch)


def faulty(number: int, good: int, bad: int) -> Batch:
    ids, data = batch(number)
    kept = BatchIds(ids[:good])
    kept.faults = tuple(Fault(f"bad{number}-{i}", "truncated: 5 of 9 samples") for i in range(bad))
    return kept, {"text": data["text"][:good]} if good else {}
