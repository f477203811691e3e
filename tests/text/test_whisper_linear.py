"""Whisper's normalisers on what makes the originals slow or fail, and on all else the same."""

import random
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.whisper.english_normalizer import (
    BasicTextNormalizer,
    EnglishTextNormalizer,
)

from espnet_plugin.text.whisper_linear import MAX_DIGITS
from espnet_plugin.text.whisper_rules import english_spellings, whisper_normalizer

PIECES = ["one", "zero", "twenty", "fourth", "thousand", "millions", "double", "point", "and", "a"]
PIECES += ["half", "7", "7.5", "$20", "percent", "minus", "dollars", "saya", "he'd", "been", "don"]
PIECES += ["<", ">", "[", "]", "(", ")", "()", "'t", "'", ".", ",", "hmm", "  ", "   ", "\n\n\n\n"]
HUGE = "7" * (MAX_DIGITS + 1000)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=25), st.sampled_from(["", " "]))
def test_the_same_as_transformers(pieces: list[str], between: str) -> None:
    text = between.join(pieces)
    english = EnglishTextNormalizer(english_spellings())
    assert whisper_normalizer("en")(text) == english(text)
    assert whisper_normalizer("id")(text) == BasicTextNormalizer()(text)
    kana = re.sub("[A-Za-z]", "\u3042", text)  # Latin words would stay whole
    assert whisper_normalizer("ja")(kana) == BasicTextNormalizer(split_letters=True)(kana)


def test_single_words_are_the_same_as_transformers() -> None:
    english = EnglishTextNormalizer(english_spellings())
    words = [*PIECES, *english.standardize_numbers.words, *list(english_spellings())[::10]]
    words += ["wanna", "Mr", "st", "Col", "hmm", "s", "th", "half", "o", "Colour", "school", "imma"]
    for word in words:
        assert whisper_normalizer("en")(word) == english(word), word


def test_numbers_that_a_recogniser_can_write_are_whole() -> None:
    assert whisper_normalizer("en")("one " * 448).split() == ["1" * 448]
    rng = random.Random(0)
    words = [rng.choice(["zero", "one", "thousand", "million", "7"]) for _ in range(400)]
    english = EnglishTextNormalizer(english_spellings())
    assert whisper_normalizer("en")(" ".join(words)) == english(" ".join(words))


@pytest.mark.parametrize(
    "text",
    [
        "zero decillion " * 1000,
        "thousand zero " * 5000,
        "one " * 20000,
        HUGE,
        f"minus {HUGE} thousand",
        "<" * 50000,
        "(" * 50000 + "<)>",
        "a" + " " * 50000 + "b",
    ],
    ids=lambda text: f"{text[:14]}...",
)
def test_huge_input(text: str) -> None:
    for lang in ("en", "fr"):
        start = time.process_time()
        found = whisper_normalizer(lang)(text)
        assert time.process_time() - start < 5
        assert all(len(word) <= max(MAX_DIGITS + 2, len(HUGE)) for word in found.split())


def test_the_rule_of_long_numbers() -> None:
    assert whisper_normalizer("en")(f"about {HUGE} dollars").split() == ["about", HUGE, "dollars"]
    parts = whisper_normalizer("en")("zero " * 2000).split()
    assert len(parts) == 2 and "".join(parts) == "0" * 2000
