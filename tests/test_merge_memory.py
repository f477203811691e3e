"""Merges that are not stored: the bits are those of the directory that would have been written."""

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.merge import Sweep, merge, merge_states
from tests.fixtures.random_model import whisper_config, write_random_model

CONFIG = whisper_config(16, 2, vocab_size=1000, mels=8)
RULES = ({"ffn": 1.0, "encoder": 0.0}, {"decoder.1": 0.7})


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    base = write_random_model(root / "base", CONFIG)
    tuned = write_random_model(
        root / "tuned", CONFIG, seed=1, dtype="bfloat16", max_shard_bytes=20_000
    )
    return base, tuned


@pytest.mark.parametrize("dtype", [None, "bfloat16", "float32"])
def test_sweep_gives_what_merge_writes(dtype, pair, tmp_path):
    import torch

    sweep = Sweep(*pair, *RULES, dtype=dtype)
    for ratio in (0.0, 0.4):
        written = merge(*pair, tmp_path / f"{ratio}", ratio, *RULES, dtype=dtype)
        assert sweep.hashes(ratio) == ck.tensor_hashes(written)
        expected = ck.load_state(written)
        state = sweep.state(ratio)
        assert list(state) == list(expected)
        for name, tensor in expected.items():
            assert state[name].dtype == tensor.dtype and torch.equal(state[name], tensor), name
        if dtype is None:
            assert list(merge_states(*map(ck.load_state, pair), ratio, *RULES)) == list(state)
            merged = merge_states(*map(ck.load_state, pair), ratio, *RULES)
            assert all(torch.equal(merged[name], state[name]) for name in state)


def module(shapes, bare):
    """Something with parameters of given names."""
    import torch

    root = torch.nn.Module()
    for name, shape in shapes.items():
        *path, last = (name.removeprefix("model.") if bare else name).split(".")
        at = root
        for part in path:
            if not hasattr(at, part):
                at.add_module(part, torch.nn.Module())
            at = getattr(at, part)
        at.register_parameter(last, torch.nn.Parameter(torch.zeros(shape)))
    return root


@pytest.mark.parametrize("bare", [True, False])
def test_load_into_a_module_in_place(bare, pair):
    import torch

    sweep = Sweep(*pair)
    state = sweep.state(0.4)
    target = module({name: t.shape for name, t in state.items()}, bare)
    before = {name: p.data_ptr() for name, p in target.named_parameters()}
    sweep.load_into(target, 0.2)
    sweep.load_into(target, 0.4)
    for name, parameter in target.named_parameters():
        full = f"model.{name}" if bare else name
        assert parameter.dtype == torch.float32 and parameter.data_ptr() == before[name]
        assert torch.equal(parameter, state[full].float()), name


def test_modules_that_do_not_fit(pair):
    sweep = Sweep(*pair)
    shapes = {name: t.shape for name, t in sweep.state(0.0).items()}
    name = "model.decoder.layers.1.fc1.bias"
    with pytest.raises(ValueError, match=f"the module: 1 tensors are missing, first {name}"):
        sweep.load_into(module({n: s for n, s in shapes.items() if n != name}, True), 0.4)
    with pytest.raises(ValueError, match=f"{name}: shape .* in .*base, .* in the module"):
        sweep.load_into(module({**shapes, name: (3,)}, False), 0.4)


def test_mistakes_are_named(pair, tmp_path):
    sweep = Sweep(*pair)
    for use in (sweep.state, sweep.hashes):
        with pytest.raises(ValueError, match=r"ratio 1\.2 lies outside"):
            use(1.2)
    with pytest.raises(ValueError, match="unknown group 'fnn'"):
        Sweep(*pair, {"fnn": 0.1})
    with pytest.raises(ValueError, match=r"layer ratio encoder\.2: "):
        Sweep(*pair, None, {"encoder.2": 0.1})
    name = "model.encoder.layers.0.fc1.bias"
    bad = write_random_model(tmp_path / "bad", CONFIG, seed=2, fixed={name: float("nan")})
    with pytest.raises(ValueError, match=f"bad: {name} holds NaN or infinite values"):
        Sweep(pair[0], bad).state(0.4)


def test_types_that_models_are_not_stored_in(pair):
    state = ck.load_state(pair[0])
    name = "model.encoder.conv1.bias"
    with pytest.raises(ValueError, match=f"tuned: {name} is float64, allowed are float32, float16"):
        merge_states(state, {**state, name: state[name].double()})
