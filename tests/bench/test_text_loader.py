"""The benchmark of the text loaders at a twentieth of its size; see text_loader.py."""

from pathlib import Path

import pytest

from tests.bench.text_loader import run


@pytest.mark.bench
def test_the_store_is_faster_and_smaller_than_espnets_dataset(tmp_path: Path) -> None:
    found = run(50_000, 4000, 2, ["store", "espnet_ids"], tmp_path)
    store, espnet = found["store"], found["espnet_ids"]
    assert store["batches_s"] > 5 * espnet["batches_s"]
    assert store["memory_mb"] < espnet["memory_mb"]
    assert store["padding"] < 0.03
