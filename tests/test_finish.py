"""Which weights a finished run keeps."""

import logging
from pathlib import Path

import pytest
import torch

from espnet_plugin.finish import _average, _sources

LOSS = ("valid", "loss", "min")


def test_fewer_epochs_than_are_to_be_averaged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for epoch in (1, 2, 10):
        torch.save({"weight": torch.full((3,), float(epoch))}, tmp_path / f"{epoch}epoch.pth")
    (tmp_path / "latest.pth").symlink_to("10epoch.pth")
    (tmp_path / "valid.loss.ave_1best.pth").symlink_to("2epoch.pth")  # all that ESPnet makes
    caplog.set_level(logging.WARNING)
    sources = _sources(tmp_path, "average", LOSS)
    assert [source.name for source in sources] == ["1epoch.pth", "2epoch.pth", "10epoch.pth"]
    assert "average of all epochs, 3" in caplog.text
    assert torch.equal(_average(sources)["weight"], torch.full((3,), 13 / 3))
    torch.save({"weight": torch.ones(3)}, tmp_path / "valid.loss.ave_2best.pth")
    assert [s.name for s in _sources(tmp_path, "average", LOSS)] == ["valid.loss.ave_2best.pth"]


@pytest.mark.parametrize("keep", ["average", "best", "last"])
def test_a_run_without_an_epoch_has_no_weights(tmp_path: Path, keep: str) -> None:
    with pytest.raises(FileNotFoundError, match="has not finished an epoch"):
        _sources(tmp_path, keep, LOSS)
