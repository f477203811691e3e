import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_plugin import resources
from espnet_plugin.bin import watch as watch_command

HOLD = "x = bytearray({bytes}); import time; time.sleep(1.0)"


def hold(megabytes: int) -> list[str]:
    return [sys.executable, "-c", HOLD.format(bytes=megabytes * 1_000_000)]


def test_peak_adds_up_the_processes_of_the_tree() -> None:
    child = " ".join(f"'{part}'" for part in hold(150))
    usage = resources.watch(["bash", "-c", f"{child} & {child} & wait"], interval=0.05)
    assert usage.exit_code == 0
    assert 0.29 < usage.peak_gb < 0.6
    assert 0.9 < usage.seconds < 30


def test_exit_code_is_the_command_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch_command.main(["--", "bash", "-c", "exit 7"]) == 7
    assert "peak memory" in capsys.readouterr().out


def test_signal_becomes_an_exit_code() -> None:
    assert resources.watch(["bash", "-c", "kill -9 $$"]).exit_code == 128 + 9


def test_too_much_memory_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new folder" / "resources.json"
    options = ["--max_gb", "0.05", "--output", str(output), "--", *hold(100)]
    assert watch_command.main(options) == 1
    assert "over the limit of 0.05 GB" in capsys.readouterr().err
    assert json.loads(output.read_text(encoding="utf-8"))["peak_gb"] > 0.05


def test_termination_reaches_the_command(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    script = f"import pathlib, time; pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    process = subprocess.Popen(
        [sys.executable, "-m", "espnet_plugin.bin.watch", "--", sys.executable, "-c", script],
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(timeout=30) == 128 + signal.SIGTERM


def test_a_missing_psutil_is_said_before_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It measured nothing once, and reported 0.00 GB as within the limit."""
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ModuleNotFoundError):
        resources.watch(["touch", str(tmp_path / "ran")])
    assert not (tmp_path / "ran").exists()
