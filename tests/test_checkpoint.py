"""Atomic writes, and reading and writing model directories."""

import json
import os
import subprocess
import sys

import pytest

from espnet_plugin import checkpoint as ck


def test_atomic_write_replaces_only_when_complete(tmp_path):
    path = tmp_path / "new folder" / "file"
    with ck.atomic_write(path, "w") as file:
        file.write("satu\n")
    with pytest.raises(RuntimeError), ck.atomic_write(path, "w") as file:
        file.write("half")
        raise RuntimeError
    assert path.read_bytes() == b"satu\n"
    assert os.listdir(path.parent) == ["file"]


def test_atomic_write_keeps_the_old_file_until_the_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with ck.atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_atomic_write_survives_a_kill(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import os, signal, sys\n"
        "from espnet_plugin.checkpoint import atomic_write\n"
        "with atomic_write(sys.argv[1]) as f:\n"
        "    f.write(b'half'); f.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == -9
    assert path.read_bytes() == b"old"


def test_atomic_write_modes(tmp_path):
    with pytest.raises(ValueError, match="mode 'a'"), ck.atomic_write(tmp_path / "x", "a"):
        pass


def test_atomic_dir(tmp_path):
    with pytest.raises(RuntimeError), ck.atomic_dir(tmp_path / "d") as temporary:
        (temporary / "file").write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with ck.atomic_dir(tmp_path / "d") as temporary:
        (temporary / "file").write_text("whole")
        assert not (tmp_path / "d").exists()
    assert (tmp_path / "d" / "file").read_text() == "whole"
    with pytest.raises(ValueError, match="exists already"), ck.atomic_dir(tmp_path / "d"):
        pass


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    ours = ck.temporary_sibling(tmp_path / "d").name
    names = {
        "dead": ours.replace(f".{os.getpid()}.", f".{child.pid}."),
        "running": ours,
        "other path": ours.replace(".d.", ".e.").replace(f".{os.getpid()}.", f".{child.pid}."),
        "other machine": f".d.000000.{child.pid}.aaaaaaaa.tmp",
    }
    for name in names.values():
        (tmp_path / name / "inside").mkdir(parents=True)
    with ck.atomic_dir(tmp_path / "d"):
        pass
    assert set(os.listdir(tmp_path)) == {"d", *names.values()} - {names["dead"]}


def test_importing_needs_no_torch():
    code = "import sys, espnet_plugin.checkpoint; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_save_and_load_are_bit_exact(tiny_whisper, tmp_path):
    import torch
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    state = ck.load_state(tiny_whisper)
    assert ck.OUTPUT not in state and ck.EMBEDDING in state
    output = ck.save_model_dir(state, tiny_whisper, tmp_path / "out", extra={"x.json": {"a": 1}})
    assert ck.tensor_hashes(output) == ck.tensor_hashes(tiny_whisper)
    assert ck.read_json(output / "x.json") == {"a": 1}
    for name in ("tokens.txt", "tokenizer.json", "generation_config.json"):
        assert (output / name).read_bytes() == (tiny_whisper / name).read_bytes()
    model, info = WhisperForConditionalGeneration.from_pretrained(output, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert torch.equal(model.state_dict()[ck.EMBEDDING], state[ck.EMBEDDING])
    assert len(WhisperProcessor.from_pretrained(output).tokenizer) == 51865


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_our_files_are_what_safetensors_reads(dtype, tmp_path):
    import torch
    from safetensors.torch import load_file

    state = {"b": torch.randn(3, 5), "a.ü": torch.randn(7), "c": torch.tensor(2.5)}
    ck.write_safetensors(tmp_path / "x", state, ck.torch_dtype(dtype))
    loaded = load_file(tmp_path / "x")
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == getattr(torch, dtype)
        assert torch.equal(loaded[name], tensor.to(loaded[name].dtype))


def test_writer_refuses_other_tensors(tmp_path):
    import torch

    specs = {"a": (torch.float32, (2,)), "b": (torch.float32, (2,))}
    with (
        pytest.raises(ValueError, match=r"got b \(2,\), due is \('a'"),
        ck.safetensors_writer(tmp_path / "x", specs) as write,
    ):
        write("b", torch.zeros(2))
    with (
        pytest.raises(ValueError, match="b was never written"),
        ck.safetensors_writer(tmp_path / "x", specs) as write,
    ):
        write("a", torch.zeros(2))
    assert os.listdir(tmp_path) == []


def test_saving_beside_other_files_replaces_shards(make_whisper):
    from transformers import WhisperForConditionalGeneration

    directory = make_whisper()
    before = ck.tensor_hashes(directory)
    model = WhisperForConditionalGeneration.from_pretrained(directory)
    (directory / ck.WEIGHTS).unlink()
    model.save_pretrained(directory, max_shard_size="1MB")
    (directory / "train.log").write_text("ours\n")
    assert (directory / ck.INDEX).is_file()
    assert ck.tensor_hashes(directory) == before  # sharded reading
    state = ck.load_state(directory)
    ck.save_model_dir(state, directory, directory, dtype="float16")
    assert not (directory / ck.INDEX).exists() and not list(directory.glob("model-0*"))
    assert (directory / "train.log").read_text() == "ours\n"
    assert ck.load_config(directory)["dtype"] == "float16"
    assert ck.fp16_tensor_hash(ck.load_state(directory)) == ck.fp16_tensor_hash(state)


def test_fp16_hash_sees_every_learned_tensor(tiny_whisper):
    state = ck.load_state(tiny_whisper)
    expected = ck.fp16_tensor_hash(state)
    assert ck.fp16_tensor_hash({**state, ck.OUTPUT: state[ck.EMBEDDING]}) == expected
    assert ck.fp16_tensor_hash(dict(reversed(state.items()))) == expected
    for name in state:
        changed = ck.fp16_tensor_hash({**state, name: state[name] + 1})
        assert (changed == expected) == (name == ck.SINUSOIDS), name


def test_missing_things_are_named(tiny_whisper, make_whisper, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such model directory"):
        ck.load_state(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere: no such model directory"):
        ck.load_config(tmp_path / "nowhere")
    directory = make_whisper()
    (directory / ck.WEIGHTS).write_bytes((tiny_whisper / ck.WEIGHTS).read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"model\.safetensors: not a complete safetensors file"):
        ck.load_state(directory)
    (directory / ck.WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=r"neither model\.safetensors nor"):
        ck.load_state(directory)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (directory / ck.INDEX).write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match="shard 'model-00001-of-00002.safetensors' is miss"):
        ck.load_state(directory)
    (directory / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="model_type is 'bert'"):
        ck.load_config(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json: not a JSON file"):
        ck.load_config(directory)


def test_states_are_checked_against_the_configuration(tiny_whisper, tmp_path):
    import torch

    state, config = ck.load_state(tiny_whisper), ck.load_config(tiny_whisper)
    name = "model.decoder.layers.1.fc1.weight"
    ck.check_state(state, config)
    with pytest.raises(ValueError, match=f"here: 1 tensors are missing, first {name}"):
        ck.check_state({n: t for n, t in state.items() if n != name}, config, "here")
    with pytest.raises(ValueError, match="unknown tensors, first lora"):
        ck.check_state({**state, "lora": state[name]}, config)
    with pytest.raises(ValueError, match=f"{name} has shape \\(1, 1\\)"):
        ck.check_state({**state, name: torch.zeros(1, 1)}, config)
    with pytest.raises(ValueError, match="vocabulary mismatch: the token embedding has 51865 rows"):
        ck.check_state(state, {**config, "vocab_size": 51866})
    untied = {**state, ck.OUTPUT: state[ck.EMBEDDING] + 1}
    with pytest.raises(ValueError, match="Whisper ties them"):
        ck.save_model_dir(untied, tiny_whisper, tmp_path / "out")
    with pytest.raises(ValueError, match="dtype 'int8', allowed are float32, float16, bfloat16"):
        ck.save_model_dir(state, tiny_whisper, tmp_path / "out", dtype="int8")
    assert not (tmp_path / "out").exists()
