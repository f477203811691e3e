"""The normaliser on tables of cases and on properties."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.text import NORMALIZER_VERSION, Normalized, normalize

PLAIN = [
    # (language, text, normalised)
    ("cs", "Saya nak BOOK hotel, for two nights lah!", "saya nak book hotel for two nights lah"),
    ("cs", "kanak2 tu main-main je", "kanak kanak tu main main je"),
    ("cs", "kawan2nya, anak2ku; budak2lah", "kawan kawannya anak anakku budak budaklah"),
    ("cs", "kanak\u00b2 kecil", "kanak kanak kecil"),
    ("cs", "co2 mp3 ps2 h2o covid19", "co2 mp3 ps2 h2o covid19"),
    ("cs", "I don\u2019t know, a'ah 'quoted' dogs'", "i don't know a'ah quoted dogs"),
    ("cs", "Don`t", "don't"),
    ("cs", "uh saya um nak err makan mmm", "saya nak makan"),
    ("cs", "ah eh lah kan meh", "ah eh lah kan meh"),
    ("cs", "8 orang, RM1,000.50 at 8:30", "8 orang rm1000.50 at 8.30"),
    ("cs", "1,000,000 and 1,2,3", "1000000 and 1 2 3"),
    ("ms", "0:RM5", "kosong lima ringgit"),
    ("cs", "G.L.D. and U.S.A, e.g. this", "gld and usa eg this"),
    ("cs", "makan\u200b nasi\u00a0lemak \ufeff", "makan nasi lemak"),
    ("cs", "Caf\u0065\u0301 \uff21\uff22\uff23", "caf\u00e9 abc"),
    ("cs", "\u6211\u5011 pergi \u6771\u4eac", "\u6211 \u5011 pergi \u6771 \u4eac"),
    ("cs", "(dalam kurungan) [music] okay \U0001f602 ...", "dalam kurungan music okay"),
    ("cs", "I <3 you a < b", "i 3 you a b"),
    ("cs", "<|startoftranscript|><|ms|><|0.00|> Apa khabar?<|7.42|><|endoftext|>", "apa khabar"),
    ("cs", "#malaysia #makan sedap", "malaysia makan sedap"),
    ("cs", "cuti-cuti Malaysia \u2013 best", "cuti cuti malaysia best"),
    ("cs", "", ""),
    ("cs", " ... - ' ", ""),
    ("ms", "8 orang, 0 masalah", "lapan orang kosong masalah"),
    ("ms", "3.5 peratus, 10%", "tiga perpuluhan lima peratus sepuluh peratus"),
    ("ms", "RM10.4m", "sepuluh juta empat ratus ribu ringgit"),
    ("ms", "RM2.50 RM50 RM0.20", "dua ringgit lima puluh sen lima puluh ringgit dua puluh sen"),
    ("ms", "ke-1 ke-3 kanak-kanak ke-21", "pertama ketiga kanak kanak kedua puluh satu"),
    ("ms", "pukul 8:30.", "pukul lapan tiga puluh"),
    ("ms", "012 2024", "kosong satu dua dua ribu dua puluh empat"),
    ("ms", "12-15", "dua belas lima belas"),
    ("ms", "\u0668", "\u0668"),
    ("en", "It's colour, twenty one dollars (laughs)", "it is color $21"),
    ("en", "I don't know, Mr. Smith", "i do not know mister smith"),
    ("es", "\u00bfQu\u00e9 tal, se\u00f1or? [ruido]", "qu\u00e9 tal se\u00f1or"),
    ("zh", "\u4f60\u597d\u3002", "\u4f60 \u597d"),
    ("zh", "\u4f60\u597dDeadline\u5417, 12", "\u4f60 \u597d deadline \u5417 1 2"),
    (
        "ta",
        "\u0ba8\u0bbe\u0ba9\u0bcd \u0baa\u0bcb\u0bb1\u0bc7\u0ba9\u0bcd!",
        "\u0ba8\u0bbe\u0ba9\u0bcd \u0baa\u0bcb\u0bb1\u0bc7\u0ba9\u0bcd",
    ),
    ("hi", "\u092e\u0948\u0902 \u2764\ufe0f meeting", "\u092e\u0948\u0902 meeting"),
    ("vi", "H\u00f4m nay tr\u01a1\u0300i \u0111e\u0323p", "h\u00f4m nay tr\u1eddi \u0111\u1eb9p"),
    ("th", "\u0e01\u0e34\u0e19 ok", "\u0e01\u0e34 \u0e19 ok"),
]


@pytest.mark.parametrize(("lang", "text", "expected"), PLAIN)
def test_plain_text(lang: str, text: str, expected: str) -> None:
    result = normalize(text, lang)
    assert result.text == expected
    assert result.tags is None


MARKED = [
    # (language, text, "word/tag word/tag ...")
    ("cs", "so <malay>punya</malay> thing [lah]", "so/en punya/ms thing/en lah/shared"),
    ("cs", "<malay>saya suka</malay> it", "saya/ms suka/ms it/en"),
    ("cs", "<MALAY>kanak-kanak</MALAY> !wah!", "kanak/ms kanak/ms wah/shared"),
    ("cs", "<malay>makan:eat</malay> first", "makan/ms first/en"),
    ("cs", "<mandarin>\u4f60\u597d:nihao</mandarin> lah", "\u4f60/zh \u597d/zh lah/en"),
    (
        "cs",
        "<tamil>\u0ba4\u0bae\u0bbf\u0bb4\u0bcd:tamil</tamil> ok",
        "\u0ba4\u0bae\u0bbf\u0bb4\u0bcd/ta ok/en",
    ),
    ("cs", "<malay>pasar malam:night market</malay> ok", "pasar/ms malam/ms ok/en"),
    ("cs", "the <malay>pasar</malay price", "the/en pasar/ms price/en"),
    ("cs", "the <malay>pasar<>/malay> price", "the/en pasar/ms price/en"),
    ("cs", "the <malay>pasar malay> price", "the/en pasar/ms price/en"),
    ("cs", "the malay>pasar</malay> price", "the/en pasar/ms price/en"),
    ("cs", "the <malay>pasar<malay> price", "the/en pasar/ms price/en"),
    ("cs", "the pasar</malay> price", "the/en pasar/ms price/en"),
    ("cs", "the <malay>pasar malam", "the/en pasar/ms malam/ms"),
    ("cs", "<malay>jom<malay>makan</malay> now", "jom/ms makan/ms now/en"),
    ("cs", "<malay>makan</malay><malay>lah</malay>", "makan/ms lah/ms"),
    ("cs", "<hokkien>jiak</hokkien> already", "jiak/other already/en"),
    (
        "cs",
        "call #Feng-Shao-Feng# and #Siti Aminah#",
        "call/en feng/name shao/name feng/name and/en siti/name aminah/name",
    ),
    (
        "cs",
        "(uh) G_L_D [;ah] [uh)] wor~ ** (ppb) <malay>dua</malay> 2",
        "gld/en ah/shared dua/ms 2/num",
    ),
    ("cs", "<P1>rahsia</P1> <malay>tahu</malay>", "rahsia/en tahu/ms"),
    ("ms", "<malay>tolong</malay> [lah] 8", "tolong/ms lah/shared lapan/ms"),
    ("en", "we <malay>makan</malay> twenty one colours", "we/en makan/ms 21/num colors/en"),
]


@pytest.mark.parametrize(("lang", "text", "expected"), MARKED)
def test_markup(lang: str, text: str, expected: str) -> None:
    result = normalize(text, lang)
    assert result.tags is not None
    assert " ".join(f"{w}/{t}" for w, t in zip(result.words, result.tags, strict=True)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "<S>",
        "<Z>",
        "<UNK>",
        "<UNk>",
        "<UKN>",
        "<unk/>",
        "<NEN>",
        "<FIL/> <SPK/> <s/>",
        "**",
        "(ppo) (ppO) (pbb)",
        "(uh) (um) (err) (mm)",
    ],
)
@pytest.mark.parametrize("lang", ["cs", "ms"])
def test_marks_that_leave_nothing(text: str, lang: str) -> None:
    assert normalize(text, lang).words == []


@pytest.mark.parametrize(
    "text",
    [
        "It's 8:30, I've paid $5 for twenty-one colours!",
        "We'll theatre (noise) one hundred and one",
    ],
)
def test_english_equals_openai_whisper(text: str) -> None:
    from whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

    assert normalize(text, "en").text == EnglishTextNormalizer()(text).strip()
    assert normalize(text, "es").text == BasicTextNormalizer()(text).strip()


@pytest.mark.parametrize("lang", ["", "english", "EN", "ms-MY", None])
def test_unknown_language_is_an_error(lang: str) -> None:
    with pytest.raises(ValueError, match="allowed are cs, ms, en"):
        normalize("apa", lang)


def test_normalized_is_text_and_has_a_version() -> None:
    assert str(Normalized(["apa", "khabar"])) == "apa khabar"
    assert NORMALIZER_VERSION


ANY_TEXT = st.text(max_size=40) | st.text(alphabet="abkn2 '-.,:0189%RMrm_~!#()[]<>/*", max_size=40)
MARKUP = st.lists(
    st.sampled_from(
        [
            "<malay>",
            "</malay>",
            "</malay",
            "malay>",
            "<mandarin>",
            "saya",
            " ",
            "eat:makan",
            "#A b#",
            "[lah]",
            "!wah!",
            "wor~",
            "8",
        ]
    ),
    max_size=12,
).map("".join)
WORDS = st.text(alphabet="abkn2 '-.,:0189%RM\u00e9\u6211", max_size=25)


@settings(max_examples=300, deadline=None)
@given(text=ANY_TEXT | MARKUP, lang=st.sampled_from(["cs", "ms"]))
def test_idempotent(text: str, lang: str) -> None:
    once = normalize(text, lang)
    assert normalize(once.text, lang).words == once.words
    assert all(word and not any(c.isspace() for c in word) for word in once.words)


@settings(max_examples=200, deadline=None)
@given(text=MARKUP | ANY_TEXT, lang=st.sampled_from(["cs", "ms", "en", "es"]))
def test_tags_and_words_have_equal_length(text: str, lang: str) -> None:
    result = normalize(text, lang)
    assert result.tags is None or len(result.tags) == len(result.words)


@settings(max_examples=200, deadline=None)
@given(pieces=st.lists(WORDS, max_size=4), lang=st.sampled_from(["cs", "ms"]))
def test_pieces_joined_equal_the_whole(pieces: list[str], lang: str) -> None:
    joined = [word for piece in pieces for word in normalize(piece, lang).words]
    assert normalize(" ".join(pieces), lang).words == joined
