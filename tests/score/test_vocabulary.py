"""Words met in text only."""

import gzip
import json
from pathlib import Path

import pytest

from espnet_plugin.score.vocabulary import text_only_words, words_of_text
from espnet_plugin.text import normalize
from tests.score.experiment import build_words, write_table


def test_words_of_text_without_those_of_speech(tmp_path: Path) -> None:
    build_words(tmp_path)
    text, paired = tmp_path / "data/text/train.jsonl", tmp_path / "dump/raw/train_paired"
    assert text_only_words([text], [paired]) == {"hotel", "itu", "esok"}
    acoustic = tmp_path / "dump/raw/train_acoustic"
    write_table(acoustic / "text", {"s-1": "ITU!"})
    write_table(acoustic / "utt2lang", {"s-1": "ms"})
    assert text_only_words([text], [paired, acoustic]) == {"hotel", "esok"}


def test_words_of_text_are_those_of_its_lines(tmp_path: Path) -> None:
    lines = [
        ("Kanak2 tu, don't!", "cs"),
        ("RM10.50 je lah", "ms"),
        ("the colour", "en"),
        ("x", None),
    ]
    path = tmp_path / "train.jsonl.gz"
    rows = [json.dumps({"text": t, **({"lang": lang} if lang else {})}) for t, lang in lines]
    path.write_bytes(gzip.compress("\n".join([*rows, "broken", ""]).encode()))
    expected = {word for t, lang in lines for word in normalize(t, lang or "cs").words}
    assert words_of_text(path) == expected


def test_text_without_the_field_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"sentence": "saya", "lang": "ms"}\n')
    with pytest.raises(ValueError, match=r"train.jsonl.*'?text"):
        words_of_text(path)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.jsonl"):
        text_only_words([tmp_path / "none.jsonl"], [])
    write_table(tmp_path / "x" / "text", {"s-1": "apa", "s-2": "apa"})
    write_table(tmp_path / "x" / "utt2lang", {"s-1": "ms"})
    with pytest.raises(ValueError, match="utt2lang lacks s-2"):
        text_only_words([], [tmp_path / "x"])
