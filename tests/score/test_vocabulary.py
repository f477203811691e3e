"""Words met in text only."""

from pathlib import Path

import pytest

from espnet_plugin.score.vocabulary import text_only_words
from tests.score.experiment import build_words, write_table


def test_words_of_text_without_those_of_speech(tmp_path: Path) -> None:
    build_words(tmp_path)
    text, paired = tmp_path / "data/text/train.jsonl", tmp_path / "dump/raw/train_paired"
    assert text_only_words([text], [paired]) == {"hotel", "itu", "esok"}
    acoustic = tmp_path / "dump/raw/train_acoustic"
    write_table(acoustic / "text", {"s-1": "ITU!"})
    write_table(acoustic / "utt2lang", {"s-1": "ms"})
    assert text_only_words([text], [paired, acoustic]) == {"hotel", "esok"}


@pytest.mark.parametrize("line", ['{"text": "a"}', "apa", "[1]", '{"text": "a", "lang": "cs"'])
def test_broken_lines_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"text": "saya", "lang": "ms"}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"train.jsonl:2: not a line"):
        text_only_words([path], [])


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        text_only_words([tmp_path / "none.jsonl"], [])
    write_table(tmp_path / "x" / "text", {"s-1": "apa", "s-2": "apa"})
    write_table(tmp_path / "x" / "utt2lang", {"s-1": "ms"})
    with pytest.raises(ValueError, match="utt2lang lacks s-2"):
        text_only_words([], [tmp_path / "x"])
