"""Memory must not grow with the number of utterances: ten million have to fit."""

import functools
import json
import os
import tracemalloc
from pathlib import Path

import pytest

from espnet_plugin.corpora import row_files
from espnet_plugin.corpora.combine import combine
from espnet_plugin.corpora.corpus import corpus_named
from espnet_plugin.corpora.mend import mend_data_dir
from espnet_plugin.corpora.prepare import Settings, prepare
from espnet_plugin.corpora.validate import validate_data_dir
from tests.fixtures.nsc import wav_bytes, write


def peak(folder: Path, utterances: int) -> float:
    """Prepare, check, combine and mend that many utterances; return the peak, in MiB."""
    write(folder / "a.wav", wav_bytes(0.5))
    with open(folder / "t.jsonl", "w", encoding="utf-8") as file:
        for n in range(utterances):
            row = {"audio": "a.wav", "text": f"ayat nombor {n} ini", "speaker": f"s{n % 97}"}
            file.write(json.dumps(row | {"id": f"u{n}", "language": "ms"}) + "\n")
    tracemalloc.start()
    try:
        data = folder / "data"
        report = prepare(corpus_named("manifest"), str(folder), data, Settings(nj=1))
        assert report.kept == utterances
        sets = [data / name for name in report.sets]
        assert all(validate_data_dir(path) == [] for path in sets)
        assert combine(sets, data / "all") == utterances
        (data / "all/spk2utt").unlink()
        assert len(mend_data_dir(data / "all", run=1000)) == 1
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_more_utterances_need_no_more_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(row_files, "PART_BYTES", 100_000)
    few = functools.partial(mend_data_dir, run=1000)  # lines sorted at a time
    monkeypatch.setattr("espnet_plugin.corpora.combine.mend_data_dir", few)
    peak(tmp_path / "once", 1000)  # what is imported and cached
    small, large = peak(tmp_path / "small", 2500), peak(tmp_path / "large", 10_000)
    # 7 500 utterances more: their texts alone, as Python's strings, have 0.6 MiB
    assert large - small < 0.25, (small, large)
