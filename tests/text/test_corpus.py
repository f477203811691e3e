import errno
import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.checkpoint import files
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text.corpus import choosing, mapping, pipeline, sharding
from espnet_plugin.text.corpus.units import AccountingError, Units, account
from espnet_plugin.text.executors import DaskExecutor, LocalExecutor
from espnet_plugin.text.sources import Block
from espnet_plugin.text.tags import Tagger
from espnet_plugin.text_store import TextStore
from tests.text.corpora import build_stores, bytes_of, write_corpus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """Do not wait for the disk: no test here cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda fd: None)
        yield


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("a corpus") / "web.txt")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, text: Path, tiny_whisper: Path) -> Path:
    """The stores of an uninterrupted run of one worker."""
    folder = tmp_path_factory.mktemp("whole")
    build_stores(folder, tiny_whisper, text)
    return folder


def test_stores_hold_the_lines_and_the_report_accounts_for_each(
    whole: Path, text: Path, tiny_whisper: Path
) -> None:
    stores = {part: TextStore(whole / part) for part in ("train", "valid")}
    manifest = stores["train"].manifest
    assert len(manifest["shards"]) > 3
    assert manifest["read"] == 500
    assert manifest["dropped"] == {"blank": 10, "not_utf8": 10, "duplicate": 10}
    assert manifest["kept"] == {part: len(store) for part, store in stores.items()}
    assert 20 < manifest["kept"]["valid"] < 80
    assert sum(manifest["kept"].values()) == 470
    builder = PromptBuilder(tiny_whisper)
    found = {
        builder.decode(store[i][0].tolist()): store[i][1]
        for store in stores.values()
        for i in range(len(store))
    }
    texts = [
        line.decode().removesuffix(" https://contoh.my/a")
        for line in text.read_bytes().splitlines()
        if line.strip() and b"\xff" not in line
    ]
    tagger = Tagger.load("ms-en")
    assert found == dict(zip(texts, tagger.line_languages(*tagger.tag_block(texts)), strict=True))
    assert set(found.values()) == {"cs", "ms", "en"}

    report = json.loads((whole / "train/report/report.json").read_text())
    assert report["changes"]["urls"] == 10
    assert report["before"]["figures"]["lines"] == 480
    assert report["after"]["figures"]["lines"] == len(stores["train"])
    assert report["after"]["figures"]["tokens"] == manifest["tokens"]
    assert report["made_from"]["inputs"][0]["name"] == "web.txt"
    markdown = (whole / "valid/report/report.md").read_text()
    assert "| read                    |         500 |      100.00 % |" in markdown
    assert "| dropped: blank          |          10 |        2.00 % |" in markdown
    assert not [p for p in whole.iterdir() if p.name.startswith(".")]


@pytest.mark.slow
def test_three_workers_give_the_same_bytes(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path
) -> None:
    build_stores(tmp_path, tiny_whisper, text, executor=LocalExecutor(3))
    assert bytes_of(tmp_path) == bytes_of(whole)


def test_two_dask_workers_give_the_same_bytes(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path
) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        executor = DaskExecutor(cluster.scheduler_address)
        assert executor.workers == 2
        build_stores(tmp_path, tiny_whisper, text, executor=executor)
    assert bytes_of(tmp_path) == bytes_of(whole)


class Killed(BaseException):
    """As if the process had ended here."""


def killed_at(place: Any, name: str, call: int, after: bool) -> Callable[..., Any]:
    """Stand for a function that ends the program at one of its calls, before or after its work."""
    inner, calls = getattr(place, name), 0

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call and not after:
            raise Killed
        result = inner(*args, **kwargs)
        if calls == call:
            raise Killed
        return result

    return stand_in


@pytest.mark.parametrize(
    ("place", "name", "call", "after"),
    [
        (Units, "write", 1, False),
        (Units, "write", 3, True),
        (Units, "write", 9, True),  # blocks are done, shards are not
        (files.os, "replace", 6, False),  # arrays are there, facts are not
        (pipeline, "choose", 1, False),
        (choosing, "write_json", 1, False),
        (choosing, "write_json", 1, True),
        (sharding, "write_shard", 3, False),
        (sharding, "write_shard", 3, True),
        (pipeline, "finish_store", 2, False),
        (pipeline, "_publish", 1, False),
        (pipeline, "_publish", 1, True),
        (pipeline, "_publish", 2, True),
        (pipeline, "_remove", 2, False),
    ],
)
def test_a_kill_anywhere_and_a_rerun_give_the_same_bytes(
    whole: Path,
    tmp_path: Path,
    text: Path,
    tiny_whisper: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: Any,
    name: str,
    call: int,
    after: bool,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(place, name, killed_at(place, name, call, after))
        with pytest.raises(Killed):
            build_stores(tmp_path, tiny_whisper, text)
    build_stores(tmp_path, tiny_whisper, text, executor=LocalExecutor(1))
    assert bytes_of(tmp_path) == bytes_of(whole)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["train", "valid"]


def test_a_rerun_does_only_what_is_missing(
    tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    inner = mapping.read

    def noted(block: Any, settings: Any) -> Any:
        read.append(block.index)
        return inner(block, settings)

    monkeypatch.setattr(mapping, "read", noted)
    with monkeypatch.context() as patch:
        patch.setattr(Units, "write", killed_at(Units, "write", 3, True))
        with pytest.raises(Killed):
            build_stores(tmp_path, tiny_whisper, text)
    build_stores(tmp_path, tiny_whisper, text)
    assert sorted(read) == list(range(max(read) + 1))  # each once
    assert build_stores(tmp_path, tiny_whisper, text) is None
    assert sorted(read) == list(range(max(read) + 1))


def command(folder: Path, text: Path, model: Path) -> list[str]:
    config = folder / "config.yaml"
    config.write_text("block_bytes: 4096\nshard_lines: 60\nvalid_share: 0.1\n")
    options = ["--input", str(text), "--model", str(model), "--config", str(config)]
    options += ["--output", str(folder / "train"), "--valid_output", str(folder / "valid")]
    return [sys.executable, "-m", "espnet_plugin.bin.text_corpus", "prepare", *options]


@pytest.mark.parametrize("workers", ["1", pytest.param("3", marks=pytest.mark.slow)])
def test_a_killed_program_is_taken_up_by_the_same_command(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path, workers: str
) -> None:
    program = [*command(tmp_path, text, tiny_whisper), "--workers", workers]
    killed = subprocess.Popen(program, cwd=ROOT, stderr=subprocess.DEVNULL)
    units = tmp_path / ".train.work" / mapping.PHASE
    while not list(units.glob("*.json")):
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "train").exists()
    build_stores(tmp_path, tiny_whisper, text)
    assert bytes_of(tmp_path) == bytes_of(whole)


def full_after(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Make the disk full after so many files."""
    inner, calls = os.fsync, 0

    def fsync(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls > number:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        inner(fd)

    monkeypatch.setattr(files.os, "fsync", fsync)


@pytest.mark.parametrize("number", [0, 7, 45])
def test_a_full_disk_is_said_and_what_is_finished_is_kept(
    whole: Path,
    tmp_path: Path,
    text: Path,
    tiny_whisper: Path,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full_after(monkeypatch, number)
    message = r"no space left on the disk. What is finished is kept in .*\.train\.work: make room"
    with pytest.raises(ValueError, match=message):
        build_stores(tmp_path, tiny_whisper, text)
    monkeypatch.undo()
    finished = [*tmp_path.glob(".*.new/shard-*.bin"), *tmp_path.glob(".train.work/1_*/*.json")]
    assert bool(finished) == (number > 0)
    assert bool(list(tmp_path.glob(".train.new/shard-*.bin"))) == (number > 30)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob(".train.new/shard-*.bin")}
    build_stores(tmp_path, tiny_whisper, text)
    assert bytes_of(tmp_path) == bytes_of(whole)
    for path, stamp in stamps.items():
        assert (tmp_path / "train" / path.name).stat().st_mtime_ns == stamp


def test_a_full_disk_names_the_file_that_a_worker_wrote(
    tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(plan: Any, block: Any) -> None:  # as it comes back from another process
        error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "000000.npz")
        raise pickle.loads(pickle.dumps(error))

    monkeypatch.setattr(pipeline, "map_block", no_space)
    with pytest.raises(ValueError, match=r"000000.npz: no space left on the disk"):
        build_stores(tmp_path, tiny_whisper, text)


def test_another_error_of_the_system_is_not_taken_for_a_full_disk(
    tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*args: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "x")

    monkeypatch.setattr(pipeline, "choose", denied)
    with pytest.raises(PermissionError):
        build_stores(tmp_path, tiny_whisper, text)


def test_an_altered_shard_is_made_again(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "finish_store", killed_at(pipeline, "finish_store", 1, False))
        with pytest.raises(Killed):
            build_stores(tmp_path, tiny_whisper, text)
    shard = tmp_path / ".train.new/shard-00001.bin"
    shard.write_bytes(bytes(reversed(shard.read_bytes())))
    build_stores(tmp_path, tiny_whisper, text)
    assert bytes_of(tmp_path) == bytes_of(whole)


def test_what_a_kill_left_of_an_old_store_goes_once_the_new_one_is_there(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_stores(tmp_path, tiny_whisper, text, exact_duplicates=False)
    with monkeypatch.context() as patch:  # between the two renames of the training store
        patch.setattr(Path, "rename", killed_at(Path, "rename", 3, True))
        with pytest.raises(Killed):
            build_stores(tmp_path, tiny_whisper, text)
    assert not (tmp_path / "train").exists() and (tmp_path / ".train.old/manifest.json").is_file()
    build_stores(tmp_path, tiny_whisper, text)
    assert bytes_of(tmp_path) == bytes_of(whole)
    (tmp_path / ".train.old").mkdir()  # as a kill during its removal leaves it
    build_stores(tmp_path, tiny_whisper, text)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train", "valid"]


def test_other_choices_begin_anew(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "choose", killed_at(pipeline, "choose", 1, True))
        with pytest.raises(Killed):
            build_stores(tmp_path, tiny_whisper, text, exact_duplicates=False)
    build_stores(tmp_path, tiny_whisper, text)
    assert bytes_of(tmp_path) == bytes_of(whole)
    build_stores(tmp_path, tiny_whisper, text, exact_duplicates=False)
    manifest = TextStore(tmp_path / "train").manifest
    assert "duplicate" not in manifest["dropped"]
    assert sum(manifest["kept"].values()) == 480


def test_held_out_lines_depend_on_the_line_and_the_salt_alone(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path
) -> None:
    def lines(folder: Path) -> set[tuple[int, ...]]:
        store = TextStore(folder / "valid")
        return {tuple(store[i][0].tolist()) for i in range(len(store))}

    lines_of_text = text.read_bytes().splitlines(keepends=True)
    backwards = tmp_path / "backwards.txt"
    backwards.write_bytes(b"".join(reversed(lines_of_text)))
    build_stores(tmp_path / "b", tiny_whisper, backwards, block_bytes=1 << 20)
    assert lines(tmp_path / "b") == lines(whole)
    build_stores(tmp_path / "s", tiny_whisper, text, salt="other")
    assert lines(tmp_path / "s") != lines(whole)


def test_work_is_kept_where_asked(tmp_path: Path, text: Path, tiny_whisper: Path) -> None:
    build_stores(tmp_path, tiny_whisper, text, valid=False, keep_work=True)
    assert (tmp_path / ".train.work/plan.json").is_file()
    assert build_stores(tmp_path, tiny_whisper, text, valid=False) is None
    assert not (tmp_path / ".train.work").exists()


def test_workers_rest_while_lines_are_chosen_from_a_large_corpus(
    whole: Path, tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    inner = pipeline.choose
    monkeypatch.setattr(pipeline, "choose", lambda *a: events.append("choose") or inner(*a))
    monkeypatch.setattr(LocalExecutor, "rest", lambda self: events.append("rest"))
    build_stores(tmp_path / "small", tiny_whisper, text)
    monkeypatch.setattr(pipeline, "MANY", 400)
    build_stores(tmp_path / "large", tiny_whisper, text)
    assert events == ["choose", "rest", "choose"]
    assert bytes_of(tmp_path / "large") == bytes_of(whole)


def test_the_time_left_is_known_where_the_place_is(tmp_path: Path) -> None:
    for name, size in (("a.txt", 100), ("b.txt.gz", 50), ("c.txt.gz", 150)):
        (tmp_path / name).write_bytes(bytes(size))
    places = pipeline._Places([tmp_path / name for name in ("a.txt", "b.txt.gz", "c.txt.gz")])
    ends = [("a.txt", 40), ("a.txt", 100), ("b.txt.gz", 200), ("c.txt.gz", 300), ("c.txt.gz", 900)]
    for index, (name, end) in enumerate(ends):
        kind = "range" if name == "a.txt" else "bytes"
        places.add(Block(index, str(tmp_path / name), kind, 0, end))
    shares = [places.pop(index) for index in range(5)]
    # of 300 bytes; where in b is not known; c is taken to be packed as b was, 200 in 50
    assert shares == pytest.approx([40 / 300, 100 / 300, 0, (150 + 300 / 4) / 300, 1])


def test_accounts_that_do_not_add_up_are_a_defect(
    tmp_path: Path, text: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(AccountingError, match="x: 5 lines read, 3 kept, dropped {'blank': 1}"):
        account("x", 5, 3, {"blank": 1})
    inner = mapping.read

    def lossy(block: Any, settings: Any) -> Any:
        records = inner(block, settings)
        records.read += block.index == 2
        return records

    monkeypatch.setattr(mapping, "read", lossy)
    with pytest.raises(AccountingError, match="block 2"):
        build_stores(tmp_path, tiny_whisper, text)


def test_two_runs_for_one_store_are_refused(tmp_path: Path, text: Path, tiny_whisper: Path) -> None:
    with (tmp_path / ".train.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another run is making this store"):
            build_stores(tmp_path, tiny_whisper, text)
    build_stores(tmp_path, tiny_whisper, text)
    assert not (tmp_path / ".train.lock").exists()
