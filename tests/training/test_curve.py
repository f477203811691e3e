"""A curve that is damaged or lost."""

from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.training.curve import CURVE, read_curve, write_curve
from espnet_plugin.training.progress import Run
from espnet_plugin.training.saving import Checkpoints


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    path = tmp_path / CURVE
    write_curve(path, [{"epoch": 0, "updates": 0}, {"epoch": 1, "updates": 5}])
    assert read_curve(path)[1]["updates"] == 5
    for row in ("x,y", "1,2,3"):
        path.write_text(f"epoch,updates\n0,0\n{row}\n")
        with pytest.raises(ValueError, match=rf"^{path}:3: not a row of numbers"):
            read_curve(path)


def test_updates_are_counted_on_without_the_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule: Any = type("Schedule", (), {"steps": 17, "begin_epoch": lambda self, epoch: None})()
    midway = type("At", (), {"batches": 6})()
    options = type("Options", (), {"accum_grad": 2})()
    run = Run(tmp_path, True, [schedule], "adapt", Checkpoints(tmp_path), options)
    run.resume_curve()
    assert f"{CURVE} is missing: it begins anew" in capsys.readouterr().out
    run.begin_epoch(4)
    assert run.updates == 17
    run.midway = midway
    run.begin_epoch(4)
    assert run.updates == 14, "at the start of the epoch"
