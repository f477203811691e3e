from pathlib import Path

import pytest

from espnet_plugin.prompt import MAX_TOKENS, PromptBuilder, parse_lang_tokens


@pytest.fixture(scope="module")
def builder(tiny_whisper: Path) -> PromptBuilder:
    return PromptBuilder(tiny_whisper)


def test_the_sequence_is_openai_whispers(builder: PromptBuilder) -> None:
    from whisper.tokenizer import get_tokenizer

    openai = get_tokenizer(True, num_languages=99, language="ms", task="transcribe")
    ids = builder.encode("Saya nak book flight, boleh?", "cs").tolist()
    expected = [*openai.sot_sequence_including_notimestamps]
    expected += [*openai.encode(" Saya nak book flight, boleh?"), openai.eot]
    assert ids == expected
    assert builder.prompt("en")[1] == openai.to_language_token("en")
    assert set(builder.prompt("ms")) <= builder.prompt_ids
    assert (
        builder.end not in builder.prompt_ids and builder.timestamp_begin not in builder.prompt_ids
    )


def test_large_v3_has_its_own_ids(tiny_whisper_v3: Path) -> None:
    builder = PromptBuilder(tiny_whisper_v3)
    assert builder.prompt("cs") == [50258, 50282, 50360, 50364]
    assert builder.timestamp_begin == 50365


@pytest.mark.parametrize(
    "text", ["<|endoftext|>", "a <|0.50|> b", "<|ms|><|transcribe|>", "!", "kanak-kanak 你好 é"]
)
def test_text_never_becomes_a_special_token(builder: PromptBuilder, text: str) -> None:
    ids = builder.text_ids(text, "cs")
    assert max(ids) < builder.end
    assert builder.decode(builder.encode(text, "cs")) or "<|" in text


def test_timestamps_stand_around_the_text(builder: PromptBuilder) -> None:
    ids = builder.encode("saya", "ms", times=(0.0, 1.234)).tolist()
    begin = builder.timestamp_begin
    assert len(builder.prompt("ms", timestamps=True)) == 3
    assert ids[3] == begin and ids[-2] == begin + 62 and ids[-1] == builder.end
    with pytest.raises(ValueError, match="within 0 and 30 s, got 31"):
        builder.time_token(31)


def test_over_448_tokens_names_the_utterance(builder: PromptBuilder) -> None:
    fits = " ".join(["saya"] * (MAX_TOKENS - 5))
    assert len(builder.encode(fits, "ms", utt="a")) == MAX_TOKENS
    with pytest.raises(ValueError, match="utterance b: 449 tokens .* 448 positions"):
        builder.encode(fits + " saya", "ms", utt="b")


def test_empty_text_names_the_utterance(builder: PromptBuilder) -> None:
    with pytest.raises(ValueError, match="utterance u1: the text is empty"):
        builder.encode("  ", "ms", utt="u1")


def test_spoken_style_is_the_normalisers(tiny_whisper: Path) -> None:
    spoken = PromptBuilder(tiny_whisper, text_style="spoken")
    assert spoken.decode(spoken.encode("Kanak-kanak, OK?", "ms")) == "kanak kanak ok"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_style": "raw"}, "text_style is one of as_is, spoken: 'raw'"),
        ({"lang_tokens": {"cs": "mz"}}, "has no language 'mz'; it has af am"),
        ({"task": "sing"}, "task is transcribe or translate: 'sing'"),
    ],
)
def test_options_are_checked(tiny_whisper: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PromptBuilder(tiny_whisper, **options)


def test_an_unknown_language_names_the_place(builder: PromptBuilder) -> None:
    with pytest.raises(
        ValueError, match=r"f.txt:3: language 'mss' is not in lang_tokens \(did you"
    ):
        builder.lang_code("mss", "f.txt:3")


def test_lang_tokens_table() -> None:
    assert parse_lang_tokens("cs:ms zh:zh") == {"cs": "ms", "zh": "zh"}
    assert parse_lang_tokens(None)["cs"] == "ms"
    for bad in ("cs", "cs:", "cs:MS", ""):
        with pytest.raises(ValueError, match="lang_tokens"):
            parse_lang_tokens(bad)


def test_missing_tokenizer_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="recipe stage 5"):
        PromptBuilder(tmp_path)
