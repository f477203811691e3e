"""What the plan says of a whole step, against the peak of real steps on this CPU."""

import json
from pathlib import Path

import pytest

from tests.bench import memory


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "precision", "ways"),
    [
        ("adapt_text", "bf16", ["plain", "8bit"]),
        ("adapt_align", "bf16", ["plain", "lora"]),
        ("adapt_full", "fp32", ["checkpointing", "8bit"]),
    ],
)
def test_planned_peaks_are_those_of_real_steps(
    tmp_path: Path, stage: str, precision: str, ways: list[str]
) -> None:
    figures = tmp_path / "figures.json"
    case = ["--sizes", "tiny", "--stages", stage, "--precisions", precision, "--ways", *ways]
    memory.main([*case, "--seconds", "20", "--output", str(figures)])
    found = json.loads(figures.read_text())
    assert [one["way"] for one in found] == ways
    for one in found:
        assert one["planned"] == pytest.approx(one["torch"], rel=0.025), one["way"]
