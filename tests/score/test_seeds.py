"""Means and spreads over seeds."""

import json
from pathlib import Path

import pytest

from espnet_plugin.bin import report as command
from espnet_plugin.score.seeds import seeds_table


def write(path: Path, wers: dict[str, float], text_only: float | None = 40.0) -> Path:
    results = [
        {"system": system, "test_set": "test_cs", "wer": wer, "wer_text_only_words": text_only}
        for system, wer in wers.items()
    ]
    path.write_text(json.dumps({"meta": {}, "results": results}))
    return path


def test_table(tmp_path: Path, capsys) -> None:
    wers = [(60.0, 20.0, 30.0), (62.0, 24.0, 22.0), (64.0, 22.0, 26.0)]
    names = ("init", "adapt_full", "direct_full")
    paths = [
        write(tmp_path / f"{i}.json", dict(zip(names, wer, strict=True)), 40.0 + i)
        for i, wer in enumerate(wers)
    ]
    text = seeds_table(paths)
    assert "| `init` | 62.0 ± 2.0 [60.0, 64.0] |" in text
    assert "| `init` | 41.0 ± 1.0 [40.0, 42.0] |" in text
    assert "`test_cs`: `adapt_full` beats `direct_full` in 2 of 3" in text
    assert command.main(["--seeds", *map(str, paths)]) == 0
    assert capsys.readouterr().out == text
    assert command.main(["--seeds", *map(str, paths), "--output", str(tmp_path / "S.md")]) == 0
    assert (tmp_path / "S.md").read_text("utf-8") == text


def test_errors(tmp_path: Path) -> None:
    one = write(tmp_path / "1.json", {"init": 60.0})
    other = write(tmp_path / "2.json", {"adapt_full": 60.0})
    with pytest.raises(ValueError, match="1 results.json given"):
        seeds_table([one])
    with pytest.raises(ValueError, match="not the same systems and sets.*adapt_full on test_cs"):
        seeds_table([one, other])
    (tmp_path / "3.json").write_text("{}")
    with pytest.raises(ValueError, match="no results"):
        seeds_table([one, tmp_path / "3.json"])
    with pytest.raises(FileNotFoundError):
        seeds_table([one, tmp_path / "none.json"])
