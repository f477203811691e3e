"""Checkpoints for resuming: two are kept and verified, and what goes wrong leaves them whole."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from espnet_plugin import room
from espnet_plugin.checkpoint import temporary_sibling
from espnet_plugin.room import DiskError
from espnet_plugin.training import disk, saving
from espnet_plugin.training.disk import check_checkpoints
from espnet_plugin.training.saving import CHECKPOINT, KEPT, LEDGER, PREVIOUS, Checkpoints


def states(epoch: int) -> dict[str, Any]:
    reporter = {"stats": {}, "epoch": epoch}
    return {"model": {"w": torch.full((1000,), float(epoch))}, "reporter": reporter}


def train(checkpoints: Checkpoints, *epochs: int) -> None:
    """Save as ESPnet does at the end of each epoch, which keeps the last weights alone."""
    with checkpoints.replace_torch_save():
        for epoch in epochs:
            torch.save(states(epoch), checkpoints.directory / CHECKPOINT)
            torch.save(states(epoch)["model"], checkpoints.directory / f"{epoch}epoch.pth")
            (checkpoints.directory / f"{epoch - 1}epoch.pth").unlink(missing_ok=True)


def epoch_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["reporter"]["epoch"])


def find(directory: Path) -> tuple[list[Any] | None, str]:
    from espnet_plugin.training.resuming import find_checkpoint

    said: list[str] = []
    return find_checkpoint(directory, said.append), "\n".join(said)


def test_the_last_two_are_kept_with_their_digests(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path), 1, 2, 3)
    assert (epoch_of(tmp_path / CHECKPOINT), epoch_of(tmp_path / PREVIOUS)) == (3, 2)
    kept = {p.name for p in (tmp_path / KEPT).iterdir()}
    assert kept == {"1epoch.pth", "2epoch.pth"}, "what either needs"
    entries, said = find(tmp_path)
    assert entries and [e["position"] for e in entries] == [[4, 0], [3, 0]] and not said
    assert "Checkpoints" not in repr(torch.save), "torch's own again"


@pytest.mark.parametrize("harm", ["flipped", "cut", "gone"])
def test_a_bad_checkpoint_is_named_and_the_one_before_is_used(tmp_path: Path, harm: str) -> None:
    train(Checkpoints(tmp_path), 1, 2, 3)
    last = tmp_path / CHECKPOINT
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    harmed = {"flipped": content, "cut": content[:-100]}.get(harm)
    last.unlink() if harmed is None else last.write_bytes(harmed)
    entries, said = find(tmp_path)
    reason = {"flipped": "damaged: its SHA-256", "cut": "truncated", "gone": "missing"}[harm]
    assert f"{last}: it is {reason}" in said and "the end of epoch 2" in said
    assert epoch_of(last) == 2 and entries and [e["position"] for e in entries] == [[3, 0]]

    resumed = Checkpoints(tmp_path)
    resumed.entries = entries
    train(resumed, 3)
    assert (epoch_of(last), epoch_of(tmp_path / PREVIOUS)) == (3, 2)
    assert find(tmp_path)[1] == ""


def test_two_bad_checkpoints_are_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path), 1, 2)
    for name in (CHECKPOINT, PREVIOUS):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"checkpoint.pth: it is trunc.*previous.pth: .*backup"):
        find(tmp_path)
    assert (tmp_path / CHECKPOINT).exists() and (tmp_path / PREVIOUS).exists()


def test_without_a_ledger_a_checkpoint_has_to_open(tmp_path: Path) -> None:
    torch.save(states(1), tmp_path / CHECKPOINT)
    assert find(tmp_path) == ([], f"{LEDGER} is missing: the checkpoint cannot be verified")
    (tmp_path / CHECKPOINT).write_bytes((tmp_path / CHECKPOINT).read_bytes()[:-50])
    with pytest.raises(ValueError, match="checkpoint.pth: it cannot be read"):
        find(tmp_path)


@pytest.mark.parametrize("content", ["", '{"a": 1}', '[{"bytes": 3}]', "[1]"])
def test_a_damaged_ledger_is_said_and_made_anew(tmp_path: Path, content: str) -> None:
    train(Checkpoints(tmp_path), 1, 2)
    (tmp_path / LEDGER).write_text(content)
    entries, said = find(tmp_path)
    assert entries == [] and f"{tmp_path / LEDGER}: not " in said and "is made anew" in said
    train(Checkpoints(tmp_path), 3)
    assert find(tmp_path)[1] == ""


@pytest.mark.parametrize("at", ["ledger", "rotation", "rename"])
def test_a_kill_between_the_renames_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    checkpoints = Checkpoints(tmp_path)
    train(checkpoints, 1, 2)
    plain = os.replace

    def killed(source: Any, target: Any) -> None:
        stop = {"ledger": LEDGER, "rotation": PREVIOUS, "rename": CHECKPOINT}[at]
        if Path(target).name == stop:
            raise KeyboardInterrupt
        plain(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        train(checkpoints, 3)
    entries, said = find(tmp_path)
    assert entries and entries[0]["position"] == [3, 0] and not said
    assert epoch_of(tmp_path / CHECKPOINT) == 2


def test_a_full_disk_is_named_and_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    train(checkpoints, 1, 2)
    plain, files = saving._Hashed.write, sorted(p.name for p in tmp_path.iterdir())

    def full(self: saving._Hashed, data: Any) -> int:
        if self.bytes > 1000:
            self.error = OSError(errno.ENOSPC, "No space left on device")
            raise self.error
        return plain(self, data)

    monkeypatch.setattr(saving._Hashed, "write", full)
    expected = (
        r"checkpoint\.pth: No space left on device; it takes about 4 kB, .* are free\. "
        r"The last checkpoint \(epoch 2\) is whole: make room"
    )
    with pytest.raises(DiskError, match=expected):
        train(checkpoints, 3)
    with (
        checkpoints.replace_torch_save(),
        pytest.raises(DiskError, match=r"3epoch\.pth: No space left.*make room"),
    ):
        torch.save(states(3)["model"], tmp_path / "3epoch.pth")
    assert sorted(p.name for p in tmp_path.iterdir()) == files
    assert epoch_of(tmp_path / CHECKPOINT) == 2 and find(tmp_path)[1] == ""


def test_where_a_third_does_not_fit_the_older_one_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints, said = Checkpoints(tmp_path), list[str]()
    checkpoints.say = said.append
    train(checkpoints, 1, 2)
    monkeypatch.setattr(saving, "free_bytes", lambda path: 3000)
    train(checkpoints, 3)
    assert "checkpoint.previous.pth is removed before" in said[0]
    assert (epoch_of(tmp_path / CHECKPOINT), epoch_of(tmp_path / PREVIOUS)) == (3, 2)
    big = states(4) | {"optimizers": torch.zeros(10_000)}
    with checkpoints.replace_torch_save():
        torch.save(big, tmp_path / CHECKPOINT)
    assert len(said) == 1, "removing it would not have been enough"


@pytest.mark.parametrize(("free", "outcome"), [(57, "error"), (58, "warning"), (78, "fine")])
def test_room_is_checked_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, outcome: str
) -> None:
    # a checkpoint is 10 + 2 * 5 = 20 bytes; two and two files of weights are 60; 2 are there
    (tmp_path / "1epoch.pth").write_bytes(b"xx")
    for module in (room, disk):
        monkeypatch.setattr(module, "free_bytes", lambda path: free)
    if outcome == "error":
        with pytest.raises(DiskError, match="58 bytes are needed, 57 .* one is written beside"):
            check_checkpoints(tmp_path, 10, 5, 2)
    else:
        said = check_checkpoints(tmp_path, 10, 5, 2)
        assert (said is not None and "78 bytes would keep two" in said) == (outcome == "warning")


def test_leftovers_of_any_machine_are_removed(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path), 1)
    left = temporary_sibling(tmp_path / CHECKPOINT)
    left.write_bytes(b"half")
    other = tmp_path / ".2epoch.pth.abcdef.17.0123abcd.tmp"
    other.write_bytes(b"half")
    (tmp_path / ".mine.tmp").write_bytes(b"not ours")
    _, said = find(tmp_path)
    assert not left.exists() and not other.exists() and (tmp_path / ".mine.tmp").exists()
    assert left.name in said and other.name in said


def test_seconds_between_checkpoints(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, seconds=1000)
    train(checkpoints, 1, 2)
    assert not (tmp_path / CHECKPOINT).exists() and (tmp_path / "2epoch.pth").exists()
    assert checkpoints.reporter["epoch"] == 2
    checkpoints.seconds = 0
    train(checkpoints, 3)
    assert epoch_of(tmp_path / CHECKPOINT) == 3
    assert json.loads((tmp_path / LEDGER).read_text())[0]["weights"] == ["2epoch.pth"]


def test_a_run_that_is_not_resumed_forgets_the_old_one(tmp_path: Path) -> None:
    train(Checkpoints(tmp_path), 1, 2, 3)
    train(Checkpoints(tmp_path), 1)
    assert epoch_of(tmp_path / CHECKPOINT) == 1 and not (tmp_path / PREVIOUS).exists()
    saving.remove_checkpoints(tmp_path)
    assert not list(tmp_path.iterdir())
