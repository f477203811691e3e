"""Headers of safetensors files, reading in pieces, and work in threads."""

import contextlib
import json
import struct
import threading
import time

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.checkpoint.places import same_bytes
from tests.fixtures.random_model import whisper_config, whisper_shapes, write_random_model

CONFIG = whisper_config(16, 1, vocab_size=200, mels=8)


def test_layout_agrees_with_safetensors(tmp_path):
    from safetensors import safe_open

    path = write_random_model(tmp_path / "m", CONFIG, dtype="bfloat16") / ck.WEIGHTS
    layout = ck.read_layout(path)
    assert {name: place.shape for name, place in layout.items()} == whisper_shapes(CONFIG)
    data = path.read_bytes()
    with safe_open(path, framework="pt") as file:
        for name, place in layout.items():
            tensor = file.get_tensor(name)
            assert place.dtype == "bfloat16" == str(tensor.dtype).removeprefix("torch.")
            stored = data[place.start : place.start + place.nbytes]
            assert stored == ck.tensor_bytes(tensor)


def header(**changes):
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    return json.dumps({"a": entry | changes}).encode()


@pytest.mark.parametrize(
    ("head", "body", "message"),
    [
        (header(), 7, "bytes, the header says"),
        (header(), 9, "bytes, the header says"),
        (header(shape=[3]), 8, r"a: 8 bytes do not make \(3,\) of float32"),
        (header(data_offsets=[4, 12]), 12, "a begins at byte"),
        (header(data_offsets=[8, 0]), 8, "a: -8 bytes do not make"),
        (header(shape=[-2]), 8, "a: no dtype, shape and offsets"),
        (header(shape=[True, 2]), 8, "a: no dtype, shape and offsets"),
        (header(data_offsets=[0]), 8, "a: no dtype, shape and offsets"),
        (b'{"a": 5}', 0, "a: no dtype, shape and offsets"),
        (b"[]", 0, "the header is no JSON object"),
        (b"{nonsense", 0, "property name"),
        (b'{"a\xff": {}}', 0, "invalid start byte"),
    ],
)
def test_damaged_headers(head, body, message, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(head)) + head + bytes(body))
    with pytest.raises(
        ValueError, match=f"x.safetensors: not a complete safetensors file.*{message}"
    ):
        ck.read_layout(path)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "x"
    for data in (b"", b"abc", struct.pack("<Q", 1 << 60), struct.pack("<Q", 50) + b"{}"):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="x: not a complete safetensors file .a header of"):
            ck.read_layout(path)
    with pytest.raises(FileNotFoundError):
        ck.read_layout(tmp_path / "nowhere")


def test_indexes_that_do_not_fit(tmp_path):
    model = write_random_model(tmp_path / "m", CONFIG, max_shard_bytes=8_000)
    index = ck.read_json(model / ck.INDEX)
    shards = list(index["weight_map"].values())
    first = next(name for name, shard in index["weight_map"].items() if shards.count(shard) > 1)
    for wrong, message in (
        ({"x": 1}, "no weight_map"),
        ({"weight_map": {**index["weight_map"], "more": shards[0]}}, "differ in more"),
        ({"weight_map": {**index["weight_map"], first: "../m/config.json"}}, "is missing"),
        (
            {"weight_map": {n: s for n, s in index["weight_map"].items() if n != first}},
            f"index and shards differ in {first}",
        ),
    ):
        ck.write_json(model / ck.INDEX, wrong)
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            ck.model_layout(model)


def test_reading_in_pieces_and_truncation(tmp_path):
    path = write_random_model(tmp_path / "m", CONFIG) / ck.WEIGHTS
    layout = ck.read_layout(path)
    place = layout["model.encoder.embed_positions.weight"]
    buffer = memoryview(bytearray(1001))
    with ck.Reader() as reader:
        found = b"".join(bytes(piece) for piece in reader.pieces(place, buffer))
        assert found == path.read_bytes()[place.start : place.start + place.nbytes]
        assert same_bytes(place, place)
        assert not same_bytes(place, layout["model.decoder.embed_positions.weight"])
        with open(path, "r+b") as file:
            file.truncate(place.start + 10)
        with pytest.raises(ValueError, match="model.safetensors: the file ends inside a tensor"):
            list(reader.pieces(place, buffer))


def test_hashes_do_not_depend_on_shards_or_threads(tmp_path):
    one = write_random_model(tmp_path / "one", CONFIG)
    cut = write_random_model(tmp_path / "cut", CONFIG, max_shard_bytes=5_000)
    hashes = ck.tensor_hashes(one, threads=1)
    assert hashes == ck.tensor_hashes(cut, threads=3) and list(hashes) == sorted(hashes)
    other = ck.tensor_hashes(write_random_model(tmp_path / "other", CONFIG, seed=1))
    assert ck.model_hash(hashes) != ck.model_hash(other)


@contextlib.contextmanager
def plain(work):
    yield work


@pytest.mark.parametrize("threads", [1, 3])
def test_for_each_keeps_the_order_and_raises_the_first_error(threads):
    names = [str(i) for i in range(20)]
    running = set()

    def work(name):
        running.add(threading.get_ident())
        time.sleep(0.001)
        return int(name) ** 2

    results = ck.for_each(names, lambda: plain(work), threads)
    assert list(results.items()) == [(name, int(name) ** 2) for name in names]
    assert len(running) == threads
    begun = []

    def fails(name):
        begun.append(name)
        if name in ("5", "6", "7"):
            time.sleep(0.02 if name == "5" else 0)
            raise ValueError(name)

    with pytest.raises(ValueError, match="^5$"):
        ck.for_each(names, lambda: plain(fails), threads)
    assert len(begun) < 12
