from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.score.switching import INDEPENDENT, LANGUAGES, cmi
from espnet_plugin.text.corpus import encoder as encoder_module
from espnet_plugin.text.corpus.config import CorpusConfig
from espnet_plugin.text.corpus.encoder import Encoder
from espnet_plugin.text.corpus.lines import REASONS, cmi_of, in_scripts, judge
from espnet_plugin.text.corpus.plan import NO_LANG, Plan

TAGS = (*LANGUAGES, *INDEPENDENT)


@pytest.fixture(scope="module")
def encoder(tiny_whisper: Path) -> Encoder:
    return Encoder(tiny_whisper)


@pytest.fixture(scope="module")
def builder(tiny_whisper: Path) -> PromptBuilder:
    return PromptBuilder(tiny_whisper)


def plan_with(model: Path, **options: object) -> Plan:
    languages = (("cs", "ms"), ("ms", "ms"), ("en", "en"))
    return Plan(CorpusConfig(**options), str(model), languages, None, "/nowhere")  # type: ignore[arg-type]


# Words that come again, and any others: spaces of many kinds, marks, and special tokens as text.
PIECES = st.one_of(
    st.sampled_from(["saya", "the", "Book", "don't", "'s", "makan,", "2024", "<|endoftext|>", " "]),
    st.text(max_size=6),
    st.text("a1 .'\u00a0\u3000\u200b\u0301\U0001f602", max_size=6),
)


@settings(deadline=None, max_examples=200)
@given(lines=st.lists(st.lists(PIECES, max_size=6).map(" ".join), max_size=6))
def test_tokens_are_those_of_encoding_each_line(
    encoder: Encoder, builder: PromptBuilder, lines: list[str]
) -> None:
    stripped = [line.encode("utf-8", "ignore").decode().strip() for line in lines]
    for chosen in (stripped, [line for line in stripped if "  " not in line]):
        expected = builder.encode_batch(chosen)
        tokens, lengths = encoder.encode(chosen)
        assert tokens.dtype == np.uint16
        assert tokens.tolist() == [i for ids in expected for i in ids]
        assert lengths.tolist() == [len(ids) for ids in expected]


def test_the_cache_is_bounded(tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder_module, "CACHE_CHUNKS", 100)
    encoder = Encoder(tiny_whisper)
    lines = [f"kata{number} lagi" for number in range(1000)]
    parts = [encoder.encode(lines[low : low + 10])[0] for low in range(0, 1000, 10)]
    assert len(encoder._cache) <= 120
    assert np.array_equal(np.concatenate(parts), encoder.encode(lines)[0])
    encoder.encode(["x" * 1000, "pendek"])
    assert "pendek" in encoder._cache and max(map(len, encoder._cache)) < 100


@settings(max_examples=100)
@given(st.lists(st.lists(st.sampled_from(TAGS), max_size=12), max_size=8))
def test_cmi_is_that_of_scoring(lines: list[list[str]]) -> None:
    codes = np.asarray([TAGS.index(tag) for line in lines for tag in line], np.uint8)
    words = np.asarray([len(line) for line in lines], np.int32)
    assert cmi_of(codes, words, TAGS).tolist() == pytest.approx([cmi(line) for line in lines])


@pytest.mark.parametrize(
    ("scripts", "text", "expected"),
    [
        (("Latin",), "Nak pergi mana?", True),
        (("Latin",), "123 !", True),
        (("Latin",), "谢谢你们", False),
        (("Latin",), "ok la 谢谢", True),
        (("Latin",), "ok 谢谢你", False),
        (("Latin", "Han"), "ok 谢谢你", True),
        (("Han",), "ok la", False),
        (("Tamil",), "நன்றி", True),
    ],
)
def test_share_of_letters_in_scripts(
    tiny_whisper: Path, scripts: tuple[str, ...], text: str, expected: bool
) -> None:
    plan = plan_with(tiny_whisper, scripts=scripts)
    assert in_scripts(plan, [text]).tolist() == [expected]


def test_the_first_reason_counts(tiny_whisper: Path) -> None:
    plan = plan_with(
        tiny_whisper, min_words=2, max_words=4, scripts=("Latin",), min_cmi=20, max_cmi=40
    )
    texts = ["", "satu", "a b c d e", "谢 谢 谢", "a b", "a b", "a b c", "a b c", "a b c"]
    words = np.asarray([0, 1, 5, 3, 2, 2, 3, 3, 3])
    langs = np.asarray([NO_LANG, NO_LANG, 0, NO_LANG, NO_LANG, 1, 0, 0, 0], np.uint8)
    cmi = np.asarray([0, 0, 0, 0, 0, 0, 10.0, 41.0, 40.0])
    judged = judge(plan, texts, words, langs, cmi)
    assert dict(judged.dropped()) == dict.fromkeys(
        ["empty", "too_few_words", "too_many_words", "script", "language", "cmi_low", "cmi_high"], 1
    )
    assert judged.kept.tolist() == [False] * 5 + [True, False, False, True]
    judged.drop("too_many_tokens", np.ones(9, bool))
    assert judged.dropped()["too_many_tokens"] == 2
    assert set(judged.dropped()) == set(REASONS)
