"""Validation losses that are not finite, which ESPnet's mean leaves out in silence."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin.monitor.options import TrainingError
from tests.monitor.runs import Run, batch, of_validation


def validate(run: Run, losses: list[float]) -> None:
    reporter: Any = of_validation(3)
    given = [batch(number) for number in range(len(losses))]
    for loss, _ in zip(losses, run.watch.validating(given, 3, reporter), strict=False):
        reporter.register({"loss": torch.tensor(loss)}, torch.tensor(4.0))
        reporter.next()
    run.watch.after_validation()


def test_a_batch_is_named_and_the_rest_is_the_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Run(tmp_path)
    validate(run, [1.0, math.nan, 2.0, 3.0])
    (event,) = run.found()
    assert event["event"] == "nonfinite_validation" and event["epoch"] == 3
    assert event["utterances"] == ["utt1-0", "utt1-1", "utt1-2", "utt1-3"]
    said = "epoch 3: the validation loss of a batch is nan; utterances utt1-0, utt1-1"
    assert said in capsys.readouterr().out
    with pytest.raises(TrainingError, match="utt1-0.*the run stops"):
        validate(Run(tmp_path / "stop", on_nonfinite="stop"), [1.0, math.nan, 2.0])


@pytest.mark.parametrize("losses", [[math.nan, math.nan], [math.inf, math.nan]])
def test_a_mean_that_is_not_finite_ends_the_run(tmp_path: Path, losses: list[float]) -> None:
    with pytest.raises(TrainingError, match="the validation loss of epoch 3 is nan: no epoch"):
        validate(Run(tmp_path), losses)
