"""An epoch in which every update is left out: ESPnet would end the run as if it were finished."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.finish import is_finished
from espnet_plugin.model import AsyncSwitchModel
from espnet_plugin.task import AsyncSwitchTask
from tests.test_task import command, data

__all__ = ["command", "data"]  # fixtures


def test_a_run_without_an_update_is_no_finished_system(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = AsyncSwitchModel.forward

    def broken(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss, stats, weight = plain(self, *args, **kwargs)
        return loss * math.nan if self.training else loss, stats, weight

    monkeypatch.setattr(AsyncSwitchModel, "forward", broken)
    with pytest.raises(ValueError, match=r"epoch 1: none of its updates was made.*events\.jsonl"):
        AsyncSwitchTask.main(cmd=command("adapt_text", "out"))
    assert not is_finished(tmp_path / "out") and not (tmp_path / "out/checkpoint.pth").exists()
