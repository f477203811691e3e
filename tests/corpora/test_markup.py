from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_plugin.corpora.markup import (
    Segment,
    language_of,
    merge_neighbours,
    parse_markup,
    read_sentences,
    to_markup,
)

WORDS = st.lists(st.sampled_from(["saya", "don't", "kanak-kanak", "okay", "é"]), min_size=1).map(
    " ".join
)


def test_brackets_are_english_and_the_rest_malay():
    segments = parse_markup("Jom [lunch], saya [super hungry].", "cs", "x:1")
    assert segments == (
        Segment("Jom ", "ms"),
        Segment("lunch", "en"),
        Segment(", saya ", "ms"),
        Segment("super hungry", "en"),
        Segment(".", "ms"),
    )
    assert to_markup(segments) == "Jom [lunch], saya [super hungry]."


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1))
def test_markup_round_trip(pairs):
    text = ", ".join(f"{malay} [{english}]" for malay, english in pairs)
    segments = parse_markup(text, "cs", "x:1")
    assert to_markup(segments) == text
    assert "".join(s.text for s in segments) == text.replace("[", "").replace("]", "")
    assert merge_neighbours(segments) == segments
    assert language_of(segments) == "cs"


@pytest.mark.parametrize(
    ("text", "lang", "message"),
    [
        ("Jom [lunch, cepat.", "cs", r"unbalanced brackets, '\[' without '\]'"),
        ("Jom lunch], cepat.", "cs", r"unbalanced brackets, '\]' without '\['"),
        ("Jom [a [b] c]", "cs", r"'\[' inside brackets"),
        ("Jom [ ] cepat", "cs", "no word inside the brackets"),
        ("Jom [check]kan", "cs", "put a space or a hyphen"),
        ("[All English.]", "cs", "words inside and outside brackets, found en"),
        ("Semua Melayu.", "cs", "words inside and outside brackets, found ms"),
        ("Jom [lunch]", "ms", "only cs has them"),
        ("...", "en", "no word"),
        ("Bonjour", "fr", "must be one of cs ms en es"),
    ],
)
def test_bad_markup_names_file_and_line(tmp_path: Path, text: str, lang: str, message: str):
    path = tmp_path / "with space.tsv"
    path.write_text(f"# a comment\n\nfood\t{lang}\t{text}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"with space\.tsv:3: .*" + message):
        read_sentences(path)


def test_bad_rows(tmp_path: Path):
    path = tmp_path / "a.tsv"
    with pytest.raises(FileNotFoundError, match=r"a\.tsv: missing; expected lines of topic<TAB>"):
        read_sentences(path)
    path.write_text("food\tms\n")
    with pytest.raises(
        ValueError, match=r"a\.tsv:1: expected topic<TAB>lang<TAB>sentence, found 2"
    ):
        read_sentences(path)
    path.write_bytes("food\tms\tkafé\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.tsv: not UTF-8"):
        read_sentences(path)


def test_a_suffix_after_a_hyphen_is_malay():
    segments = parse_markup("[Phone]-nya rosak.", "cs", "x:1")
    assert [s.lang for s in segments] == ["en", "ms"]
