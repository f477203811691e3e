import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration

from espnet_plugin.groups import GROUPS, group_of, is_fixed, partition, select
from espnet_plugin.stages import STAGES, SYSTEMS, get_stage, get_system

# name: d_model, encoder layers, decoder layers, mel bins, vocabulary, parameters in millions
SIZES = {
    "tiny": (384, 4, 4, 80, 51865, 37.8),
    "base": (512, 6, 6, 80, 51865, 72.6),
    "small": (768, 12, 12, 80, 51865, 241.7),
    "medium": (1024, 24, 24, 80, 51865, 763.9),
    "large-v2": (1280, 32, 32, 80, 51865, 1543.3),
    "large-v3": (1280, 32, 32, 128, 51866, 1543.5),
    "turbo": (1280, 32, 4, 128, 51866, 808.9),
}


def on_meta(name: str) -> WhisperForConditionalGeneration:
    width, encoder, decoder, mels, vocabulary, _ = SIZES[name]
    config = WhisperConfig(
        d_model=width,
        encoder_layers=encoder,
        decoder_layers=decoder,
        encoder_attention_heads=width // 64,
        decoder_attention_heads=width // 64,
        encoder_ffn_dim=4 * width,
        decoder_ffn_dim=4 * width,
        num_mel_bins=mels,
        vocab_size=vocabulary,
    )
    with torch.device("meta"):
        return WhisperForConditionalGeneration(config)


@pytest.mark.parametrize("name", SIZES)
def test_partition_is_total_and_disjoint(name: str) -> None:
    model = on_meta(name)
    groups = partition(model)
    members = [parameter for group in groups.values() for parameter in group]
    assert tuple(groups) == GROUPS
    assert sorted(members) == sorted(n for n, _ in model.named_parameters())
    size = sum(p.numel() for p in model.parameters()) / 1e6
    assert size == pytest.approx(SIZES[name][-1], abs=0.1)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("model.encoder.conv1.bias", "encoder"),
        ("model.encoder.embed_positions.weight", "encoder"),
        ("model.encoder.layers.3.fc1.weight", "encoder"),
        ("model.decoder.layers.0.self_attn.q_proj.weight", "self_attn"),
        ("model.decoder.layers.0.self_attn_layer_norm.bias", "self_attn"),
        ("model.decoder.layers.10.encoder_attn.v_proj.bias", "cross_attn"),
        ("whisper.decoder.layers.1.encoder_attn_layer_norm.weight", "cross_attn"),
        ("module.whisper.decoder.layers.1.final_layer_norm.weight", "ffn"),
        ("decoder.layers.1.fc2.bias", "ffn"),
        ("model.decoder.embed_tokens.weight", "output"),
        ("proj_out.weight", "output"),
        ("model.decoder.layer_norm.bias", "output"),
        ("model.decoder.embed_positions.weight", "position"),
    ],
)
def test_group_of(name: str, group: str) -> None:
    assert group_of(name) == group


@pytest.mark.parametrize(
    "name", ["decoder.layers.0.adapter.weight", "ctc.weight", "encoders.x", "decoder.layer_normx.w"]
)
def test_a_foreign_name_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' belongs to none of the groups encoder, self"):
        group_of(name)


def test_half_a_model_is_an_error() -> None:
    with pytest.raises(ValueError, match="no parameter in encoder, self_attn"):
        partition(["model.decoder.layer_norm.bias"])


def test_select_layers_and_never_the_sinusoids() -> None:
    names = [n for n, _ in on_meta("tiny").named_parameters()]
    assert select(["encoder"], names) == {n for n in partition(names)["encoder"] if not is_fixed(n)}
    chosen = select(["ffn.1-2", "self_attn.0"], names)
    assert {n.split(".")[3] + n.split(".")[4][:2] for n in chosen} == {
        "1fc",
        "2fc",
        "1fi",
        "2fi",
        "0se",
    }


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("fnn", "unknown parameter group 'fnn' .did you mean ffn.*: the groups are encoder,"),
        ("ffn.x", "unknown parameter group 'ffn.x'"),
        ("ffn.4", r"'ffn.4' matches no parameter: ffn has layers 0 to 3"),
        ("ffn.2-7", r"ffn has layers 0 to 3"),
        ("output.0", "output has no layers"),
    ],
)
def test_select_names_what_exists(selector: str, message: str) -> None:
    names = [n for n, _ in on_meta("tiny").named_parameters()]
    with pytest.raises(ValueError, match=message):
        select([selector], names)


def test_the_table_is_the_papers() -> None:
    assert STAGES["adapt_text"].trains == ("self_attn", "ffn", "output")
    assert STAGES["adapt_text"].freezes == ("encoder", "cross_attn", "position")
    assert STAGES["adapt_align"].trains == ("cross_attn",)
    assert STAGES["adapt_full"].freezes == ()
    assert all(
        s.start in (*SYSTEMS, "whisper_base") and s.stage in STAGES for s in SYSTEMS.values()
    )


def test_unknown_stage_and_system_list_what_exists() -> None:
    with pytest.raises(ValueError, match="unknown adaptation stage 'x': choose one of adapt_text"):
        get_stage("x")
    with pytest.raises(ValueError, match="unknown system 'x': choose from init"):
        get_system("x")
