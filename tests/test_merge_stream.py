"""Merging in one pass: the same bytes in any pieces, shards and threads, in little memory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin import room
from espnet_plugin.merge import merge, merge_sweep, pair, size_in_bytes
from tests.fixtures.random_model import whisper_config, whisper_shapes, write_random_model

CONFIG = whisper_config(16, 2, vocab_size=1000, mels=8)
NAME = "model.decoder.layers.1.fc2.weight"


@pytest.fixture
def make(tmp_path):
    def build(name, **options):
        return write_random_model(tmp_path / name, CONFIG, **options)

    return build


def test_same_bytes_in_any_pieces_and_threads(make, tmp_path, monkeypatch):
    base, tuned = make("base"), make("tuned", seed=1, dtype="bfloat16")
    outputs = set()
    for chunk, threads in ((1 << 20, 1), (1 << 20, 4), (1000, 3), (97, 1)):
        monkeypatch.setattr(pair, "CHUNK", chunk)
        output = merge(base, tuned, tmp_path / f"{chunk}_{threads}", threads=threads)
        outputs.add((output / ck.WEIGHTS).read_bytes())
    assert len(outputs) == 1


@pytest.mark.parametrize("shard", [None, "20KB"])
def test_shards_of_both_inputs_and_of_the_output(shard, make, tmp_path):
    whole = merge(make("base"), make("tuned", seed=1), tmp_path / "whole")
    base = make("base_shards", max_shard_bytes=50_000)
    tuned = make("tuned_shards", seed=1, max_shard_bytes=11_000)
    output = merge(base, tuned, tmp_path / "out", max_shard_size=shard)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(whole)
    files = sorted(p.name for p in output.glob("*.safetensors"))
    if shard is None:
        assert files == [ck.WEIGHTS]
        return
    index = ck.read_json(output / ck.INDEX)
    assert sorted(set(index["weight_map"].values())) == files
    assert files[0] == f"model-00001-of-{len(files):05d}.safetensors" and len(files) > 3
    for path in output.glob("*.safetensors"):
        places = ck.read_layout(path).values()
        assert sum(place.nbytes for place in places) <= 20_000 or len(places) == 1
    # Another number of shards, then one file, in the same directory: none of the old stay.
    for size in ("30KB", None):
        merge(base, tuned, output, max_shard_size=size)
        assert ck.tensor_hashes(output) == ck.tensor_hashes(whole)
        left = {p.name for p in output.iterdir()} - {"config.json", "merge.json", ck.INDEX}
        assert left == {p.path.name for p in ck.model_layout(output).values()}
    assert not (output / ck.INDEX).exists()


def test_stored_output_projections(make, tmp_path):
    plain = merge(make("base"), make("tuned", seed=1), tmp_path / "plain")
    stored = make("stored", store_output=True), make("stored_too", seed=1, store_output=True)
    for number, models in enumerate((stored, (stored[0], tmp_path / "tuned"))):
        output = merge(*models, tmp_path / f"out{number}")
        assert ck.tensor_hashes(output) == ck.tensor_hashes(plain)
        assert ck.OUTPUT not in ck.read_layout(output / ck.WEIGHTS)
    path = stored[1] / ck.WEIGHTS
    place = ck.read_layout(path)[ck.OUTPUT]
    data = bytearray(path.read_bytes())
    data[place.start + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"stored_too: {ck.OUTPUT} differs from {ck.EMBEDDING}"):
        merge(*stored, tmp_path / "no")


def test_a_kept_merge_needs_the_same_inputs(make, tmp_path):
    base, tuned, output = make("base"), make("tuned", seed=1), tmp_path / "out"
    merge(base, tuned, output)

    def changed(*models, **options):
        before = (output / ck.WEIGHTS).stat().st_mtime_ns
        merge(*models, output, **options)
        return (output / ck.WEIGHTS).stat().st_mtime_ns != before

    assert not changed(base, tuned)
    assert not changed(base, make("cut", seed=1, max_shard_bytes=20_000))  # the same tensors
    assert changed(base, make("other", seed=2))
    assert changed(base, tuned, dtype="float32")
    assert changed(base, tuned, layer_ratio={"decoder.1": 0.0})
    assert changed(base, tuned)
    ck.write_json(base / "generation_config.json", {"x": 1})
    assert changed(base, tuned) and (output / "generation_config.json").is_file()
    assert changed(base, tuned, hash_inputs=False) is False  # the record of before still stands
    fast = merge(base, tuned, tmp_path / "fast", hash_inputs=False)
    assert ck.read_json(fast / "merge.json")["base"]["model_hash"] is None
    assert ck.tensor_hashes(fast) == ck.tensor_hashes(output)


def test_a_model_merged_with_itself(make, tmp_path):
    base = make("base")
    (tmp_path / "linked").mkdir()
    for name in ("config.json", ck.WEIGHTS):
        os.link(base / name, tmp_path / "linked" / name)
    for copy, message in (
        (tmp_path / "linked", "is the same file as .*: a model merged with itself"),
        (make("again", max_shard_bytes=9_000), "same values as .*: a model merged with itself"),
    ):
        with pytest.raises(ValueError, match=message):
            merge(base, copy, tmp_path / "out")
        assert not list(tmp_path.glob("*out*"))


def test_failures_leave_an_old_merge_as_it_was(make, tmp_path):
    base, output = make("base"), tmp_path / "out"
    merge(base, make("tuned", seed=1), output, max_shard_size="20KB")
    before = {p.name: p.read_bytes() for p in output.iterdir()}

    def unchanged(message, kind, tuned):
        with pytest.raises(kind, match=message):
            merge(base, tuned, output)
        assert {p.name: p.read_bytes() for p in output.iterdir()} == before

    bad = make("bad", seed=1, fixed={NAME: float("inf")})
    unchanged(f"bad: {NAME} holds NaN or infinite values", ValueError, bad)


@pytest.mark.parametrize("again", [False, True])
def test_a_killed_merge_leaves_no_model_and_the_next_run_clears_up(again, make, tmp_path):
    base, tuned, output = make("base"), make("tuned", seed=1), tmp_path / "out"
    if again:  # over an older merge
        merge(base, tuned, output, 0.2)
    before = {p.name: p.read_bytes() for p in output.glob("*")}
    code = (
        "import os, signal, sys\n"
        "from espnet_plugin.merge import directories, merge\n"
        "directories.Target.finish = lambda self: os.kill(os.getpid(), signal.SIGKILL)\n"
        "merge(*sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, base, tuned, output])
    assert done.returncode == -9
    left = [p for p in tmp_path.rglob(".*.tmp") if any(p.iterdir())]
    assert len(left) == 1
    assert {p.name: p.read_bytes() for p in output.glob("[!.]*")} == before
    merge(base, tuned, output)
    assert ck.read_json(output / "merge.json")["ratio"] == 0.4
    assert not list(tmp_path.rglob(".*.tmp"))


def test_no_room_on_the_disk(make, tmp_path, monkeypatch):
    monkeypatch.setattr(room, "free_bytes", lambda path: 300_000)
    base, tuned = make("base"), make("tuned", seed=1)
    merge(base, tuned, tmp_path / "one")
    match = r"0\.\d: no room: .* 300 kB are free\. 4 outputs of 0\.00 GB"
    with pytest.raises(ValueError, match=match):
        merge_sweep(base, tuned, {r: tmp_path / f"{r}" for r in (0.2, 0.4, 0.6, 0.8)})
    assert not list(tmp_path.glob("0.*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="writes to Linux's full device")
def test_a_disk_that_fills_up_is_named():
    with ck.Writer() as writer, pytest.raises(OSError, match="No space left.*/dev/full"):
        writer.write(Path("/dev/full"), 0, memoryview(b"x"))


@pytest.mark.parametrize("cut", [1, 10_000])
def test_truncated_files(cut, make, tmp_path):
    base, tuned = make("base"), make("tuned", seed=1)
    data = (tuned / ck.WEIGHTS).read_bytes()
    (tuned / ck.WEIGHTS).write_bytes(data[:-cut])
    with pytest.raises(ValueError, match="tuned/model.safetensors: not a complete safetensors"):
        merge(base, tuned, tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes read by Linux's /proc")
def test_four_ratios_read_the_inputs_once(make, tmp_path):
    def read():
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    base, tuned = make("base", dtype="float32"), make("tuned", seed=1, dtype="float32")
    size = sum((d / ck.WEIGHTS).stat().st_size for d in (base, tuned))
    before = read()
    merge_sweep(base, tuned, {r: tmp_path / f"{r}" for r in (0.2, 0.4, 0.6, 0.8)})
    # Once with the hashing, a second time the headers and a few small files.
    assert size <= read() - before < 1.2 * size


# Below the size of either model, far below that of both and the result.
LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np
from espnet_plugin.merge import kernel, merge

one = np.ones(9, np.uint16)
kernel.interpolate(one, one, 0.4, False, one.copy())  # the program, compiled code included
for path in sys.argv[1:3]:
    assert sum(p.stat().st_size for p in Path(path).iterdir()) > 3 * {headroom}
used = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if "VmSize" in line)
resource.setrlimit(resource.RLIMIT_AS, (used + {headroom}, used + {headroom}))
if sys.argv[4:] == ["naive"]:
    from safetensors.numpy import load_file
    load_file(Path(sys.argv[1]) / "model.safetensors")
    sys.exit("the limit does not bite")
merge(*sys.argv[1:4], threads=2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's address space")
def test_merging_under_an_address_space_limit(tmp_path):
    config = whisper_config(1024, 1)
    base = write_random_model(tmp_path / "base", config)
    tuned = write_random_model(tmp_path / "tuned", config, seed=1, max_shard_bytes=80 << 20)
    code = LIMIT.format(headroom=48 << 20)

    def run(*more):
        command = [sys.executable, "-c", code, base, tuned, tmp_path / "out", *more]
        return subprocess.run(command, capture_output=True, text=True)

    naive = run("naive")
    assert naive.returncode != 0 and "limit does not bite" not in naive.stderr, naive.stderr
    done = run()
    assert done.returncode == 0, done.stderr
    assert set(ck.read_layout(tmp_path / "out" / ck.WEIGHTS)) == set(whisper_shapes(config))


def test_sizes_of_shards():
    assert size_in_bytes(None) is None
    assert size_in_bytes("1.5gb") == 1_500_000_000 and size_in_bytes(5) == 5
    for wrong in ("5", "big", "-1MB", 0, "0KB"):
        with pytest.raises(ValueError, match="max_shard_size: "):
            size_in_bytes(wrong)


def test_threads_are_checked(make, tmp_path):
    with pytest.raises(ValueError, match="threads: 0, at least 1 is needed"):
        merge(make("base"), make("tuned", seed=1), tmp_path / "out", threads=0)
