"""The benchmark of stages runs, and its figures hold together."""

import pytest

from tests.bench import stages


@pytest.mark.slow
def test_stages_are_measured_by_the_training_entry() -> None:
    options = ["--target", "1000", "20", "--updates", "2", "--warm", "1", "--options", "pad=30s"]
    found = stages.main(["--stages", "adapt_text", "adapt_align", *options])
    text, speech = found["stages"] if found else ({}, {})
    assert text["audio"] == 0 and 0 < text["tokens"] <= 2 * 1000
    assert speech["utterances"] == 2 and 2 * 1 <= speech["audio"] <= 2 * 10
    for one in (text, speech):
        assert one["updates_per_s"] == pytest.approx(2 / one["seconds"])
        assert 0 < one["mfu"] < 100 and one["planned"] > 100e6
