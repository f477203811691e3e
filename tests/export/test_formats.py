import pytest

from espnet_plugin.cli import nearest
from espnet_plugin.export.formats import FORMATS, TOLERANCE, parse_targets, target


def test_targets_have_names_and_tolerances():
    names = ["hf", "openai:float16", "ct2:int8", "espnet:float32"]
    made = parse_targets(names)
    assert [t.name for t in made] == ["hf", "openai_float16", "ct2_int8", "espnet_float32"]
    assert [t.tolerance(["float32"]) for t in made] == [0, 1, 10, 0]
    assert [t.tolerance(["float16"]) for t in made] == [0, 0, 10, 0]
    assert target("hf", "bfloat16").tolerance(["bfloat16", "float32"]) == TOLERANCE["bfloat16"]
    assert {dtype for f in FORMATS.values() for dtype in f.dtypes} == set(TOLERANCE)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hff"], r"unknown format 'hff' \(did you mean hf\?\): hf, openai, ct2, espnet"),
        (["openai:int8"], "openai stores float32, float16, bfloat16, not 'int8'"),
        (["ct2:float61"], r"not 'float61' \(did you mean float16\?\)"),
        (["hf", "hf"], "format 'hf' is named twice"),
        ([], "no format is named"),
    ],
)
def test_wrong_targets(names, message):
    with pytest.raises(ValueError, match=message):
        parse_targets(names)
    assert nearest("hff", FORMATS)
