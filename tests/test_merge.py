"""Merging: exact at the ends, linear between, per group, and every misuse named."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.bin import merge as command
from espnet_plugin.groups import GROUPS, group_of
from espnet_plugin.merge import (
    RECORD,
    merge,
    merge_states,
    merge_sweep,
)
from tests.fixtures.random_model import whisper_config, whisper_shapes

NAME = "model.decoder.layers.0.encoder_attn.k_proj.weight"


@pytest.fixture(scope="module")
def pair(tiny_whisper, tmp_path_factory):
    """A base model and a tuned one, which has other weights and other settings."""
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    tuned = build_tiny_whisper(tmp_path_factory.mktemp("merge") / "tuned", seed=1)
    ck.write_json(tuned / "generation_config.json", {"tuned": True})
    return tiny_whisper, tuned


@pytest.fixture
def states(pair):
    return ck.load_state(pair[0]), ck.load_state(pair[1])


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_ends_are_bit_exact(ratio, pair, states, tmp_path):
    import torch

    merged = merge_states(*states, ratio)
    assert all(torch.equal(merged[n], states[int(ratio)][n]) for n in merged)
    output = merge(*pair, tmp_path / "out", ratio)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(pair[int(ratio)])
    merged[NAME].zero_()  # the result shares no memory with the inputs
    assert states[0][NAME].any() and states[1][NAME].any()


def test_directory_equals_memory_and_the_formula(pair, states, tmp_path):
    import torch

    output = merge(*pair, tmp_path / "with space" / "out")  # 0.4
    found, merged = ck.load_state(output), merge_states(*states, 0.4)
    for name, (base, tuned) in ((n, (states[0][n], states[1][n])) for n in states[0]):
        assert torch.equal(found[name], merged[name])
        expected = 0.4 * tuned.double() + 0.6 * base.double()
        torch.testing.assert_close(found[name].double(), expected, rtol=1e-6, atol=1e-7)
    for name in ("tokens.txt", "tokenizer.json", "generation_config.json"):  # the base's
        assert (output / name).read_bytes() == (pair[0] / name).read_bytes()
    record = ck.read_json(output / RECORD)
    assert record["ratio"] == 0.4 and record["group_ratio"] == {}
    for side, path in zip(("base", "tuned"), pair, strict=True):
        digest = ck.model_hash(ck.tensor_hashes(path))
        assert record[side] == {"path": str(path), "model_hash": digest}
    assert record["carried"]["tokens.txt"] == ck.sha256_file(output / "tokens.txt")
    assert record["versions"]["numba"] and record["versions"]["numpy"]


def test_transformers_loads_the_result(pair, tmp_path):
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    output = merge(*pair, tmp_path / "out")
    _, info = WhisperForConditionalGeneration.from_pretrained(output, output_loading_info=True)
    assert not any(info.values())
    assert len(WhisperProcessor.from_pretrained(output).tokenizer) == 51865


def test_half_precision_is_summed_in_float32(states):
    import torch

    base = {NAME: torch.tensor([[60000.0, 1.0]], dtype=torch.float16)}
    tuned = {NAME: torch.tensor([[60000.0, 1.0009765625]], dtype=torch.float16)}
    merged = merge_states(base, tuned, 0.6)[NAME]  # 36000 + 24000 and 1 + 0.6 ulp
    assert merged.dtype == torch.float16
    assert merged.tolist() == [[60000.0, 1.0009765625]]


@pytest.mark.parametrize("group", GROUPS)
def test_group_ratios(group, states):
    import torch

    merged = merge_states(*states, 0.0, {group: 1.0})
    for name in merged:
        side = 1 if group_of(name) == group else 0
        assert torch.equal(merged[name], states[side][name]), name


def test_group_ratios_on_disk(pair, tmp_path):
    output = merge(*pair, tmp_path / "out", 0.0, {"ffn": 1.0})
    found, base, tuned = (ck.tensor_hashes(d) for d in (output, *pair))
    moved = {n for n in found if found[n] != base[n]}
    assert moved == {n for n in found if group_of(n) == "ffn"}
    assert all(found[n] == tuned[n] for n in moved)
    assert ck.read_json(output / RECORD)["group_ratio"] == {"ffn": 1.0}


def test_sweep_equals_single_merges(pair, tmp_path):
    outputs = {r: tmp_path / f"merge_{r:g}" for r in (0.0, 0.2, 0.8)}
    assert merge_sweep(*pair, outputs) == list(outputs.values())
    for ratio, output in outputs.items():
        single = merge(*pair, tmp_path / "single" / str(ratio), ratio)
        assert ck.tensor_hashes(output) == ck.tensor_hashes(single)


def test_shards_and_dtypes(pair, tmp_path):
    import torch
    from transformers import WhisperForConditionalGeneration

    base, tuned = pair
    model = WhisperForConditionalGeneration.from_pretrained(tuned, dtype=torch.float16)
    model.save_pretrained(tmp_path / "shards", max_shard_size="500KB")
    assert (tmp_path / "shards" / ck.INDEX).is_file()
    output = merge(base, tmp_path / "shards", tmp_path / "out")
    assert {t.dtype for t in ck.load_state(output).values()} == {torch.float32}
    output = merge(base, tmp_path / "shards", tmp_path / "bf16", dtype="bfloat16")
    assert {t.dtype for t in ck.load_state(output).values()} == {torch.bfloat16}
    assert ck.load_config(output)["dtype"] == "bfloat16"
    output = merge(tmp_path / "shards", base, tmp_path / "f16", 0.0)  # the base's type and bits
    assert ck.tensor_hashes(output) == ck.tensor_hashes(tmp_path / "shards")


def test_finished_merges_are_kept_and_changed_ones_redone(pair, tmp_path):
    output = merge(*pair, tmp_path / "out")
    (output / "decode_greedy").mkdir()  # what later stages put beside
    before = (output / ck.WEIGHTS).stat().st_mtime_ns
    merge(*pair, output)
    assert (output / ck.WEIGHTS).stat().st_mtime_ns == before
    merge(*pair, output, 0.6)
    assert ck.read_json(output / RECORD)["ratio"] == 0.6
    assert (output / ck.WEIGHTS).stat().st_mtime_ns != before
    assert (output / "decode_greedy").is_dir()
    (output / ck.WEIGHTS).unlink()  # as if killed before it was written
    merge(*pair, output, 0.6)
    assert ck.model_dir_exists(output)
    whole = (output / ck.WEIGHTS).read_bytes()
    os.truncate(output / ck.WEIGHTS, len(whole) - 1)  # as a copy leaves it on a full disk
    merge(*pair, output, 0.6)
    assert (output / ck.WEIGHTS).read_bytes() == whole
    (output / "tokenizer.json").unlink()
    merge(*pair, output, 0.6)
    assert (output / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ratio": 1.5}, r"ratio 1\.5 lies outside 0\.\.1"),
        ({"ratio": -0.1}, r"ratio -0\.1 lies outside"),
        ({"ratio": float("nan")}, "ratio nan lies outside"),
        ({"group_ratio": {"encoder": 2.0}}, r"encoder: ratio 2\.0 lies outside"),
        ({"group_ratio": {"cros_attn": 0.2}}, r"unknown group 'cros_attn' \(did you mean cross_"),
        ({"dtype": "int8"}, "dtype 'int8', allowed"),
    ],
)
def test_wrong_options(arguments, message, pair, tmp_path):
    with pytest.raises(ValueError, match=message):
        merge(*pair, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_wrong_places(pair, tmp_path):
    base, tuned = pair
    with pytest.raises(ValueError, match="base and tuned are the same directory"):
        merge(base, base.parent / "x" / ".." / base.name, tmp_path / "out")
    with pytest.raises(ValueError, match="is the base model, which would be lost"):
        merge(base, tuned, base)
    with pytest.raises(ValueError, match="is the tuned model, which would be lost"):
        merge(base, tuned, tuned)
    with pytest.raises(ValueError, match="two ratios would be written to"):
        merge_sweep(base, tuned, {0.2: tmp_path / "out", 0.4: tmp_path / "x" / ".." / "out"})
    with pytest.raises(FileNotFoundError, match="nowhere: no such model directory"):
        merge(base, tmp_path / "nowhere", tmp_path / "out")
    third = shutil.copytree(tuned, tmp_path / "third")
    with pytest.raises(ValueError, match="third: holds a model that is not a merge"):
        merge(base, tuned, third)


def test_models_that_do_not_fit(pair, make_whisper, tiny_whisper_v3, tmp_path):
    base = pair[0]

    def fails(message, tuned):
        with pytest.raises(ValueError, match=message):
            merge(base, tuned, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob(".out*"))

    fails("vocab_size is 51865 in .*, 51866 in ", tiny_whisper_v3)
    tuned = make_whisper("tuned")
    state = ck.load_state(tuned)
    for value in (float("nan"), float("inf"), -float("inf")):
        wrong = state[NAME].clone()
        wrong[3, 5] = value
        ck.write_safetensors(tuned / ck.WEIGHTS, {**state, NAME: wrong})
        fails(f"tuned: {NAME} holds NaN or infinite values", tuned)
    ck.write_safetensors(tuned / ck.WEIGHTS, {**state, NAME: state[NAME][:4]})
    fails(f"{NAME}: shape \\(16, 16\\) in .*, \\(4, 16\\) in .*tuned", tuned)
    ck.write_safetensors(tuned / ck.WEIGHTS, {n: t for n, t in state.items() if n != NAME})
    fails(f"tuned: 1 tensors are missing, first {NAME}", tuned)
    ck.write_safetensors(
        tuned / ck.WEIGHTS, {**state, "model.decoder.layer_norm.scale": state[NAME]}
    )
    fails("1 tensors are missing, first model.decoder.layer_norm.scale", tuned)


def test_memory_states_that_do_not_fit(states):
    import torch

    base, tuned = states
    with pytest.raises(ValueError, match=f"tuned: 1 tensors are missing, first {NAME}"):
        merge_states(base, {n: t for n, t in tuned.items() if n != NAME})
    with pytest.raises(ValueError, match=f"{NAME}: shape"):
        merge_states(base, {**tuned, NAME: torch.zeros(2, 2)})
    with pytest.raises(ValueError, match=f"tuned: {NAME} holds NaN"):
        merge_states(base, {**tuned, NAME: tuned[NAME] * float("nan")})
    with pytest.raises(ValueError, match="lies outside"):
        merge_states(base, tuned, 2.0)


def test_overflow_of_the_stored_type_is_an_error():
    import torch

    base, tuned = {NAME: torch.zeros(1).half()}, {NAME: torch.tensor([1e6])}
    with pytest.raises(ValueError, match=f"{NAME}: values do not fit float16"):
        merge_states(base, tuned, 0.5)


def test_command(pair, tmp_path, capsys):
    options = ["--base", str(pair[0]), "--tuned", str(pair[1])]
    prefix = str(tmp_path / "merge_")
    options += ["--ratios", "0.2,0.4", "--output-prefix", prefix, "--max-shard-size", "2MB"]
    options += ["--group-ratio", "encoder=0", "--group-ratio", "ffn=1", "--layer-ratio", "ffn.1=0"]
    assert command.main(options) == 0
    assert capsys.readouterr().out.split() == [prefix + "0.2", prefix + "0.4"]
    assert sorted(os.listdir(tmp_path)) == ["merge_0.2", "merge_0.4"]
    record = ck.read_json(tmp_path / "merge_0.4" / RECORD)
    assert record["group_ratio"] == {"encoder": 0.0, "ffn": 1.0}
    assert record["layer_ratio"] == {"ffn.1": 0.0} and record["max_shard_size"] == 2_000_000
    expected = merge(*pair, tmp_path / "x", 0.4, record["group_ratio"], record["layer_ratio"])
    assert ck.tensor_hashes(tmp_path / "merge_0.4") == ck.tensor_hashes(expected)


def test_random_models_have_whispers_tensors():
    """`tests.fixtures.random_model`, which makes models for the other tests of merging."""
    config = whisper_config(16, 2)
    assert whisper_shapes(config) == dict(sorted(ck.expected_shapes(config).items()))


def test_thin_script():
    script = Path(__file__).parents[1] / "local" / "merge.py"
    done = subprocess.run(
        [sys.executable, str(script), "--base", "nowhere", "--tuned", "x", "--output", "y"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(script.parents[1])},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: nowhere: no such model directory")
