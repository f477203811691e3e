"""The log of a training on a disk that is full."""

import logging
from pathlib import Path

import pytest

from espnet_plugin.room import DiskError
from espnet_plugin.systems import log_to

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_a_log_that_cannot_be_written_does_not_hide_the_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(DiskError, match="make room"), log_to(FULL):
        for number in range(3):
            logging.info("line %d", number)
        raise DiskError("make room")
    said = capsys.readouterr().err
    assert said.count("/dev/full: the log cannot be written: ") == 1
    assert "No space left on device" in said and "Traceback" not in said
