"""Which ratio a tensor gets, and how ratios are written on the command line."""

from pathlib import Path

import pytest

from espnet_plugin.groups import group_of, layer_of
from espnet_plugin.merge import check_ratios, outputs_of, parse_ratios, ratios_by_name

SUBLAYERS = ("self_attn.q_proj.weight", "encoder_attn_layer_norm.bias", "fc1.weight")
NAMES = [
    *(f"model.decoder.layers.{i}.{part}" for i in range(4) for part in SUBLAYERS),
    *(f"model.encoder.layers.{i}.fc2.bias" for i in range(4)),
    "model.encoder.conv1.weight",
    "model.encoder.embed_positions.weight",
    "model.decoder.embed_tokens.weight",
    "model.decoder.embed_positions.weight",
]


def test_without_rules_the_common_ratio_applies():
    assert ratios_by_name(NAMES) == dict.fromkeys(NAMES)


def test_the_narrower_rule_wins_in_any_order():
    groups = {"ffn": 0.1, "encoder": 0.2}
    layers = {"ffn.2": 0.3, "decoder.1-2": 0.4, "encoder.3": 0.5}
    found = ratios_by_name(NAMES, groups, layers)
    assert found == ratios_by_name(NAMES, groups, dict(reversed(layers.items())))
    for name in NAMES:
        group, layer = group_of(name), layer_of(name)
        if group == "encoder":
            expected = 0.5 if layer == 3 else 0.2
        elif layer in (1, 2):
            expected = 0.3 if (group, layer) == ("ffn", 2) else 0.4
        else:
            expected = 0.1 if group == "ffn" else None
        assert found[name] == expected, name


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["decoder.0-4"], r"layer ratio decoder\.0-4: .* has layers 0 to 3"),
        (["encoder.9"], r"encoder\.9: .* has layers 0 to 3"),
        (["decoder.0-2", "decoder.2-3"], r"decoder\.0-2 and decoder\.2-3 both name layer 2 \("),
        (["ffn.1", "ffn.0-1"], r"ffn\.1 and ffn\.0-1 both name layer 1"),
        (["output.1"], r"layers 'output\.1': write WHERE\.LAYER"),
        (["decodr.1"], r"did you mean decoder\?"),
        (["decoder"], r"layers 'decoder': write WHERE"),
        (["decoder.1-"], r"layers 'decoder\.1-': write"),
    ],
)
def test_wrong_layers(layers, message):
    rules = dict.fromkeys(layers, 0.5)
    with pytest.raises(ValueError, match=message):
        check_ratios(0.4, None, rules)
        ratios_by_name(NAMES, None, rules)


def test_ratios_of_layers_lie_within_bounds():
    with pytest.raises(ValueError, match=r"decoder\.1: ratio 1\.1 lies outside 0\.\.1"):
        check_ratios(0.4, None, {"decoder.1": 1.1})


def test_outputs_of_the_command_line():
    assert outputs_of(None, "out", None, None) == {0.4: Path("out")}
    assert outputs_of(0.2, "out", None, None) == {0.2: Path("out")}
    expected = {0.2: Path("exp/merge_0.2"), 0.4: Path("exp/merge_0.4")}
    assert outputs_of(None, None, "0.2, 0.40", "exp/merge_") == expected
    for wrong in ((None, None, None, None), (0.4, None, "0.2", "x"), (None, "out", "0.2", "x")):
        with pytest.raises(ValueError, match="give either --output"):
            outputs_of(*wrong)
    with pytest.raises(ValueError, match="--ratios: 'a' is not a number"):
        outputs_of(None, None, "0.2,a", "x")
    with pytest.raises(ValueError, match=r"--ratios: 0\.2 is given twice"):
        outputs_of(None, None, "0.2,0.20", "x")
    with pytest.raises(ValueError, match="no ratio is given"):
        outputs_of(None, None, ",", "x")


def test_rules_of_the_command_line():
    assert parse_ratios(["encoder=0.2", "ffn=1"], "--group_ratio") == {"encoder": 0.2, "ffn": 1.0}
    for wrong, message in {
        "encoder": "not of the form GROUP=RATIO",
        "encoder=x": "--group_ratio encoder: 'x' is not a number",
        "decoder=0.2": "unknown group 'decoder'",
    }.items():
        with pytest.raises(ValueError, match=message):
            parse_ratios([wrong], "--group_ratio")
    with pytest.raises(ValueError, match="ffn is given twice"):
        parse_ratios(["ffn=1", "ffn=0"], "--group_ratio")
    assert parse_ratios(["ffn.3-5=0"], "--layer_ratio") == {"ffn.3-5": 0.0}
    with pytest.raises(ValueError, match="--layer_ratio: 'ffn.3' is not of the form LAYERS=RATIO"):
        parse_ratios(["ffn.3"], "--layer_ratio")
