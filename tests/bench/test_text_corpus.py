"""The benchmark of corpus preparation at a tenth of its size; text_corpus.py is the whole of it."""

import os
from pathlib import Path

import pytest

from tests.bench.text_corpus import run


@pytest.mark.bench
def test_memory_is_bounded_and_the_speed_of_the_expected_order(
    tmp_path: Path, tiny_whisper: Path
) -> None:
    found = run(200_000, os.cpu_count() or 1, tiny_whisper, tmp_path)
    assert found["peak_gb"] < 2
    assert found["lines_per_second"] > 2000
