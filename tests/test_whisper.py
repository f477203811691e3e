"""The forward passes against transformers and openai-whisper, and against themselves."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers import WhisperForConditionalGeneration

from espnet_plugin import whisper as passes
from espnet_plugin.checkpoint import load_config, load_state
from espnet_plugin.groups import group_of
from espnet_plugin.stages import STAGES

SOT, EOT = 50258, 50257


@pytest.fixture(scope="module")
def ours(tiny_whisper: Path) -> Any:
    return passes.load_whisper(tiny_whisper)


@pytest.fixture(scope="module")
def theirs(tiny_whisper: Path) -> Any:
    return WhisperForConditionalGeneration.from_pretrained(
        tiny_whisper, attn_implementation="sdpa"
    ).eval()


def batch(frames: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(frames), 80, max(frames), generator=generator)
    lengths = torch.tensor(frames)
    return features * (torch.arange(max(frames)) < lengths[:, None])[:, None], lengths


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 50000, shape, generator=torch.Generator().manual_seed(1))


def test_30s_equals_transformers(ours: Any, theirs: Any) -> None:
    features, frames = batch((3000, 3000))
    ids = tokens(2, 7)
    with torch.no_grad():
        memory, lengths = passes.encode(ours, features, frames)
        scores = passes.logits(ours, passes.decode(ours, ids, memory, lengths))
        expected = theirs(input_features=features, decoder_input_ids=ids)
    assert memory.shape == (2, 1500, 16)
    assert (memory - expected.encoder_last_hidden_state).abs().max() < 1e-5
    assert (scores - expected.logits).abs().max() < 1e-4


def test_a_large_batch_is_encoded_in_slices(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    features, frames = batch((40, 96, 100, 7, 64))
    with torch.no_grad():
        whole, lengths = passes.encode(ours, features, frames)
        monkeypatch.setattr(passes, "SLICE", 200)  # two rows at once, and one left over
        sliced, same = passes.encode(ours, features, frames)
    assert torch.equal(same, lengths)
    assert sliced.shape == whole.shape
    for row, length in enumerate(lengths):
        assert (sliced[row, :length] - whole[row, :length]).abs().max() < 1e-5


def test_logits_equal_openai_whisper(ours: Any, tiny_whisper: Path) -> None:
    import whisper

    config = load_config(tiny_whisper)
    width, layers, heads = config["d_model"], config["encoder_layers"], 2
    dims = whisper.model.ModelDimensions(
        80, 1500, width, heads, layers, config["vocab_size"], 448, width, heads, layers
    )
    # openai-whisper takes its feed-forward width to be 4 d_model; the tiny model's is 2 d_model.
    model = whisper.model.Whisper(dims)
    for block in [*model.encoder.blocks, *model.decoder.blocks]:
        block.mlp[0] = whisper.model.Linear(width, config["decoder_ffn_dim"])
        block.mlp[2] = whisper.model.Linear(config["decoder_ffn_dim"], width)
    renames = {
        "model.": "",
        "layers.": "blocks.",
        "self_attn_layer_norm": "attn_ln",
        "encoder_attn_layer_norm": "cross_attn_ln",
        "final_layer_norm": "mlp_ln",
        "self_attn": "attn",
        "encoder_attn": "cross_attn",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
        "embed_tokens": "token_embedding",
        "encoder.embed_positions.weight": "encoder.positional_embedding",
        "decoder.embed_positions.weight": "decoder.positional_embedding",
        "encoder.layer_norm": "encoder.ln_post",
        "decoder.layer_norm": "decoder.ln",
    }
    state = {}
    for name, tensor in load_state(tiny_whisper).items():
        for old, new in renames.items():
            name = name.replace(old, new)
        state[name] = tensor
    model.load_state_dict(state, strict=False)
    assert set(model.state_dict()) == set(state)
    model.eval()
    features, frames = batch((3000,))
    ids = tokens(1, 5)
    with torch.no_grad():
        memory, lengths = passes.encode(ours, features, frames)
        scores = passes.logits(ours, passes.decode(ours, ids, memory, lengths))
        assert (scores - model(features, ids)).abs().max() < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_attention_is_torchs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 9, 8, generator=generator).to(dtype) for _ in range(4)]
    results = []
    for fused in (True, False):
        q, k, v = (p.clone().requires_grad_() for p in parts[:3])
        if fused:
            out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=1.0)
        else:
            out = passes._plain_attention(q, k, v, 0.0)
        out.backward(parts[3])
        results.append([out, q.grad, k.grad, v.grad])
    bound = 1e-5 if dtype == torch.float32 else 5e-2
    for mine, theirs in zip(*results, strict=True):
        assert (mine - theirs).abs().max() < bound * theirs.abs().max()


def test_a_batch_equals_single_utterances(ours: Any) -> None:
    frames = (101, 40, 77, 1)
    features, lengths = batch(frames)
    ids = tokens(4, 6)
    with torch.no_grad():
        memory, positions = passes.encode(ours, features, lengths)
        scores = passes.decode(ours, ids, memory, positions)
        assert positions.tolist() == [51, 20, 39, 1]
        for row, n in enumerate(frames):
            one, length = passes.encode(
                ours, features[row : row + 1, :, :n], lengths[row : row + 1]
            )
            alone = passes.decode(ours, ids[row : row + 1], one, length)
            assert (memory[row, : length[0]] - one[0]).abs().max() < 1e-5
            assert (scores[row] - alone[0]).abs().max() < 1e-5


def test_the_cache_changes_nothing(ours: Any) -> None:
    features, lengths = batch((50, 31))
    ids = tokens(2, 9)
    with torch.no_grad():
        memory, positions = passes.encode(ours, features, lengths)
        whole = passes.decode(ours, ids, memory, positions)
        cache = passes.start_cache(ours, memory, positions)
        parts = [
            passes.decode(ours, ids[:, a:b], memory, cache=cache)
            for a, b in ((0, 3), (3, 4), (4, 9))
        ]
        assert (torch.cat(parts, 1) - whole).abs().max() < 1e-5
        cache.select(torch.tensor([1]))
        assert cache.length == 9 and cache.own[0][0].shape[0] == 1


def stage_1(ours: Any, ids: torch.Tensor, memory: Any) -> torch.Tensor:
    hidden = passes.decode(ours, ids[:, :-1], memory)
    return F.cross_entropy(passes.logits(ours, hidden).flatten(0, 1), ids[:, 1:].flatten())


def test_zero_memory_equals_transformers_with_1500_frames(ours: Any, theirs: Any) -> None:
    """Loss, and gradients of every group that stage 1 trains (paper III-B-1; x = 0)."""
    ids = tokens(3, 8)
    ours.zero_grad()
    theirs.zero_grad()
    mine = stage_1(ours, ids, "zero")
    mine.backward()
    zeros = (torch.zeros(3, 1500, 16),)
    scores = theirs(encoder_outputs=zeros, decoder_input_ids=ids[:, :-1]).logits
    reference = F.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())
    reference.backward()
    assert abs(mine - reference) < 1e-5
    expected = {n.removeprefix("model."): p.grad for n, p in theirs.named_parameters()}
    seen = set()
    for name, parameter in ours.named_parameters():
        if group_of(name) in STAGES["adapt_text"].trains:
            seen.add(group_of(name))
            assert (parameter.grad - expected[name]).abs().max() < 1e-5, name
    assert seen == set(STAGES["adapt_text"].trains)


def test_zero_memory_equals_a_memory_of_one_and_skip_does_not(ours: Any) -> None:
    ids = tokens(2, 6)
    with torch.no_grad():
        zero = stage_1(ours, ids, "zero")
        assert abs(zero - stage_1(ours, ids, torch.zeros(2, 1, 16))) < 1e-6
        assert abs(zero - stage_1(ours, ids, "skip")) > 1e-3
        with pytest.raises(ValueError, match="memory is zero or skip or a tensor, got 'none'"):
            stage_1(ours, ids, "none")


def test_padding_on_the_right_changes_nothing(ours: Any) -> None:
    ids = tokens(1, 5)
    longer = torch.cat((ids, torch.full((1, 4), EOT)), 1)
    with torch.no_grad():
        short, padded = (passes.decode(ours, i, "zero") for i in (ids, longer))
    assert (padded[:, :5] - short).abs().max() < 1e-6


def test_missing_directory_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such model directory"):
        passes.load_whisper(tmp_path / "none")
