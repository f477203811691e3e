"""The cleaner on tables of cases and on properties."""

import pickle
import time
from collections import Counter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from espnet_plugin.text.clean import STEPS, Cleaner
from espnet_plugin.text.elongation import squeeze

CLEANER = Cleaner()

KEPT = [
    "Kanak-kanak main kat taman, kanak2 happy lah! kawan2nya pun",
    "RM10.50 je, RM1,000.00 pun boleh; 10% off, 3:30pm, 8.30am, ke-3",
    "don't a'ah it's dogs' 'quoted' don\u2019t \u201cok\u201d saya\u2019",
    "jumpa @ KLCC @5pm, Ahmad @ Mamat, s@ya",
    "dan/atau 24/7 w/o 1/2 km/j, e.g. U.S.A. Sdn. Bhd. lah.makan",
    "Lazada.com dengan maybank2u.com.my best",
    "R&D, Q&A, AT&T, Tom & Jerry, S&P 500",
    "#1 pilihan, C# dan C++, no. #12",
    "a < b and c > d, x <y and z> w, 3<4",
    "hahaha wkwkwk hmm ok2 2x 5G Wi-Fi COVID-19 mp3",
    "seekor keempat maaf saat zoo good coffee committee",
    "www AAA III VIII xiii 1000000 !!! ... --- ***",
    "(ya) [tak] {ok} *bintang* nota: a = b; c \u00a9 2020 \u2122",
    "\u4f60\u597d\u3002 \u0ba4\u0bae\u0bbf\u0bb4\u0bcd \u0b95\u0bcd\u200c\u0bb7 caf\u00e9 \u00f1",
    "iPhone McDonald Sg. Buloh 7-Eleven 50sen 1:2 nisbah",
    "kalau 5 * 3 ~ 15 | tanya? ya! (a:b) x=1 ok; lah",
]


@pytest.mark.parametrize("text", KEPT)
def test_malay_english_text_is_left_alone(text: str) -> None:
    assert CLEANER.clean([text]) == ([text], Counter())


CASES = [
    # step, text, what that step alone makes of it
    ("nfc", "cafe\u0301 ok", "caf\u00e9 ok"),
    (
        "control",
        "a\x00b\x08c\x7f sa\u00adya \u200bnak\ufeff \u202emakan\ufffd",
        "abc saya nak makan",
    ),
    ("control", "don\x92t \x93ok\x94 5\x80 x\x81", "don\u2019t \u201cok\u201d 5\u20ac x"),
    ("control", "a\x0bb\x0cc\x1cd\te", "a b c d\te"),
    ("control", "a\u200db \u0b95\u0bcd\u200c\u0bb7", "ab \u0b95\u0bcd\u200c\u0bb7"),
    (
        "html",
        "Tom &amp; Jerry &lt;3 &quot;ok&quot; don&#39;t &#x2019;",
        'Tom & Jerry <3 "ok" don\'t ’',
    ),
    ("html", "&amp;amp;lt;b&amp;gt; &#38;amp; &unknown; &#10;x", " & &unknown;  x"),
    ("html", '<p class="a b">satu</p><br/>dua<br>tiga', " satu  dua tiga"),
    ("html", "<b>bold</b>ly <a href='x'>link</a> </s>", "boldly link "),
    ("html", "x<!-- no --> <script type=a>var x=1;</script>y <!DOCTYPE html>", "x   y  "),
    ("urls", "tengok http://t.co/aBc. best (https://x.my/a?b=1&c=2)", "tengok. best"),
    ("urls", "www.shopee.com.my HTTPS://X.MY bit.ly/2x youtu.be/a_b, ok", "ok"),
    (
        "urls",
        "sinihttps://t.co/a\u2026 https://t.co/a\u597d\u5403 <http://x.my> ok",
        "sini\u2026 \u597d\u5403 ok",
    ),
    ("emails", "hantar ke ali.abu+1@mail.com.my, ya <a@b.co> a@b", "hantar ke, ya a@b"),
    ("handles", "RT @siti: jom @ali_92's rumah @abc.def, ok @ sini", "jom rumah, ok @ sini"),
    ("handles", "a@b @5pm @@x", "a@b @5pm @@x"),
    (
        "hashtags",
        "#BolehLah #jom_makan ##Viral #iPhone #COVID19 #1 C#",
        "Boleh Lah jom makan Viral iPhone COVID19 #1 C#",
    ),
    (
        "emoji",
        "\U0001f602\U0001f602 sedap\U0001f602lah \u2764\ufe0f. ok\U0001f44d\U0001f3fd!",
        "sedap lah. ok!",
    ),
    (
        "emoji",
        "\U0001f1f2\U0001f1fe boleh 1\ufe0f\u20e3 \U0001f468\u200d\U0001f469\u200d\U0001f467",
        "boleh",
    ),
    ("emoji", "jom :) ;-) :P =D <3 <33 ^_^ 3:30 a:b (lah:)", "jom 3:30 a:b (lah:)"),
    (
        "whisper_tokens",
        "<|startoftranscript|><|ms|><|0.00|> Apa <|7.42|> a <| b",
        "    Apa  a <| b",
    ),
    (
        "elongation",
        "sooooo besttt goood YESSSS jommm laaaah alamakkk",
        "so best good YES jom lah alamak",
    ),
    ("elongation", "zzzzz Hahahaaaa RM1000 www AAA VIII", "zz Hahaha RM1000 www AAA VIII"),
    ("whitespace", "  dua\u00a0 ruang\t\u3000x\u2028y ", "dua ruang x y"),
]


@pytest.mark.parametrize(("step", "text", "expected"), CASES)
def test_each_step_alone(step: str, text: str, expected: str) -> None:
    cleaned, changed = Cleaner([step]).clean(["lain", text])
    assert cleaned == ["lain", expected]
    assert changed == ({} if text == expected else {step: 1})


def test_every_step_has_a_case() -> None:
    assert {step for step, *_ in CASES} == set(STEPS)


ALL_STEPS = [
    ("RT @ali: sooo best!! \U0001f602 https://t.co/a #JomMakan", "so best!! Jom Makan"),
    ("&lt;b&gt;e&#769;&lt;/b&gt; &amp;#128514; &nbsp; &shy;x", "\u00e9 x"),
    ("satu\ndua\r\ntiga", "satu dua tiga"),
    ("@ali https://t.co/a \U0001f602", ""),
    ("<|0.00|> saya nak <|7.42|>", "saya nak"),
]


@pytest.mark.parametrize(("text", "expected"), ALL_STEPS)
def test_all_steps_together(text: str, expected: str) -> None:
    assert CLEANER.clean([text])[0] == [expected]


@pytest.mark.parametrize(
    ("word", "languages", "expected"),
    [
        ("makannnn", ("ms",), "makan"),
        ("Maaaaaf", ("ms",), "Maaf"),
        ("coooool", ("en",), "cool"),
        ("coooool", (), "cool"),
        ("seeee", ("en",), "see"),
        ("soooooonnn", ("en",), "soon"),
        ("Zqxxxxv", ("ms", "en"), "Zqxxv"),
        ("Zqvxxxx", ("ms", "en"), "Zqvx"),
        ("aaabbbcccdddeeefff", ("en",), "aabbccddeef"),
        ("mmmm", ("en",), "mm"),
        ("XXX", ("en",), "XXX"),
    ],
)
def test_squeeze(word: str, languages: tuple[str, ...], expected: str) -> None:
    assert squeeze(word, languages) == expected


_PIECES = (
    "& amp; &amp; lt; &lt; &gt; &#38; #x3c; ; < > <b> </b> <a href= <!-- --> <| |> <|ms|> 0.00 "
    "@ @ali a@b.my RT . .. com x.com/ / http:// www. my # #A #aB _ - ' \u2019 a aa aaa Aaa best "
    "sss 3 1 : :) <3 ( ) \u00e9 e \u0301 \u4f60 \u0b95\u0bcd \u200c \u200d \ufe0f \u20e3 "
    "\U0001f602 \U0001f1f2 \x85 \x92 \x00 \t \r \u00a0 \u00ad \ufeff \u2028 \ud800 \u017f \u212a"
)
PIECES = st.sampled_from([*_PIECES.split(" "), " ", "\n"])
TEXT = st.lists(PIECES, max_size=14).map("".join) | st.text()


@settings(max_examples=150, deadline=None)
@given(st.lists(TEXT, max_size=4), st.sets(st.sampled_from(STEPS)) | st.just(set(STEPS)))
@example(["<" * 12 + "b" + ">b" * 12 + ">"], set(STEPS))
def test_cleaning_twice_is_cleaning_once(texts: list[str], steps: set[str]) -> None:
    cleaner = Cleaner(sorted(steps))
    once, changed = cleaner.clean(texts)
    assert len(once) == len(texts)
    assert not any("\n" in text for text in once)
    assert set(changed) <= {*steps, "unsettled"}
    assert all(0 < count <= len(texts) for count in changed.values())
    assert cleaner.clean(once) == (once, Counter())
    # a text's result does not depend on its neighbours
    assert [cleaner.clean([text])[0][0] for text in texts] == once


def test_steps_have_their_order_and_the_cleaner_can_be_shipped() -> None:
    cleaner = Cleaner(["whitespace", "html"])
    assert cleaner.steps == ("html", "whitespace")
    assert pickle.loads(pickle.dumps(cleaner)).clean(["a&amp;  b"])[0] == ["a& b"]
    prints = {each.fingerprint for each in (cleaner, CLEANER, Cleaner(languages=["en"]))}
    assert len(prints) == 3
    assert Cleaner(["html", "whitespace"], ["en"]).fingerprint == cleaner.fingerprint
    assert Cleaner([]).clean(["  http://x.my "]) == (["  http://x.my "], Counter())


def test_unknown_names_are_errors() -> None:
    with pytest.raises(
        ValueError, match=r"no cleaning step 'url' \(did you mean urls\?\); allowed"
    ):
        Cleaner(["url"])
    with pytest.raises(ValueError, match=r"wordfreq has no words of 'xx', only of ar, .* ms, "):
        Cleaner(languages=["ms", "xx"])


HOSTILE = {
    "unclosed tags": "<b" * 100_000,
    "unclosed comments": "<!--" * 50_000,
    "unclosed scripts": "<script>" * 30_000,
    "attributes": "<a" + " x=1" * 50_000,
    "entities": "&" + "amp;" * 50_000 + "lt;",
    "one word": "a" * 200_000 + "@",
    "at signs": "a@" * 100_000,
    "labels": "a." * 100_000 + "/",
    "links": "http://" * 30_000,
    "brackets": "http://" + ")" * 200_000,
    "hashes": "#1" * 100_000,
    "bars": "<|" * 100_000,
    "runs": "aaab" * 50_000,
    "marks": "e" + "\u0301" * 100_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_time_grows_with_the_length_only(name: str) -> None:
    start = time.process_time()
    CLEANER.clean([HOSTILE[name]])
    assert time.process_time() - start < 1.0  # 0.1 s at most; what is quadratic takes minutes


def test_markup_nested_on_purpose_is_emptied() -> None:
    cleaned, changed = CLEANER.clean(["<" * 50 + "b" + ">b" * 50, "lain"])
    assert cleaned == ["", "lain"]
    assert changed["unsettled"] == 1
