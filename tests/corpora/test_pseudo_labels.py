import pytest

from espnet_plugin.corpora.corpus import Row, Skip
from espnet_plugin.corpora.pseudo_labels import (
    OPTIONS,
    Limits,
    compression,
    count_words,
    filtered,
    find_bad,
    label_wer,
    read_limits,
    relabelled,
    repeats,
)

NORMAL = "Jadi hari ini kita akan bincang tentang cara memasak rendang yang sedap"


@pytest.mark.parametrize(
    "text, times",
    [
        ("", 0),
        ("satu", 1),
        (NORMAL, 1),
        ("kanak-kanak main", 2),
        ("ya ya ya ya ya", 5),
        ("Terima kasih. terima kasih, TERIMA KASIH!", 3),
        ("a b c a b c a b", 2),
        ("谢谢谢谢", 4),
        ("谢谢观看谢谢观看谢谢观看", 3),
        ("a b a", 1),
    ],
)
def test_repeats(text, times):
    assert repeats(text) == times


def test_measures():
    assert compression("terima kasih " * 30) > 10
    assert compression(NORMAL) < 1.5
    assert compression("") == 0
    assert count_words("Saya suka 谢谢, lah!") == 5
    assert label_wer("Saya suka nasi", "saya suka nasi.", "ms") == 0
    assert label_wer("saya suka nasi", "saya nasi goreng", "ms") == pytest.approx(2 / 3)
    assert label_wer("", "apa", "ms") == 1


def test_each_reason():
    texts = [NORMAL, "terima kasih " * 30, "ya ya ya ya ya ya baik", "apa", NORMAL, "eh"]
    seconds = [5.0, 30.0, 5.0, 30.0, 1.0, 0.0]
    found = find_bad(texts, seconds, Limits())
    assert [reason and reason[0] for reason in found] == [
        None,
        "compression",
        "repetition",
        "slow speech",
        "fast speech",
        None,
    ]
    assert found[3] == ("slow speech", "0.03 words/s")
    assert find_bad(texts, seconds, Limits(kinds=())) == [None] * 6


def test_languages():
    texts = [
        NORMAL,
        "I think we should go makan first lah",
        "ご視聴ありがとうございました",
        "Дякую за перегляд цього відео",
        "我们今天去吃饭吧",
        "Ali 123",
    ]
    limits = Limits(kinds=("language",))
    bad = [reason is not None for reason in find_bad(texts, [5.0] * 6, limits)]
    assert bad == [False, False, True, True, True, False]
    chinese = Limits(kinds=("language",), languages=("ms", "en", "zh"))
    assert find_bad(texts, [5.0] * 6, chinese)[4] is None
    with pytest.raises(ValueError, match="languages: 'malay' is none of ms en"):
        find_bad(texts, [5.0] * 6, Limits(kinds=("language",), languages=("malay",)))


def rows():
    yield Row("a", "s", NORMAL, "ms", "a.wav", 5.0)
    yield Skip("b", "missing audio")
    yield Row("c", "s", "apa", "ms", "c.wav", 60.0, recording="c", start=0.0, end=1.0)
    yield Row("d", "s", "apa", "ms", "d.wav", 60.0, items=3)
    yield Row("e", "s", "I want to makan nasi", "ms", "e.wav", 2.0)


def test_rows_become_skips_in_their_order(monkeypatch):
    monkeypatch.setattr("espnet_plugin.corpora.pseudo_labels.BLOCK", 2)
    found = list(filtered(rows(), Limits()))
    assert [one.name if isinstance(one, Row) else one.item for one in found] == list("abcde")
    assert found[3] == Skip("d", "pseudo-label: slow speech", "0.02 words/s", 3)
    assert [type(one) for one in found] == [Row, Skip, Row, Skip, Row]


def test_language_by_the_words_keeps_other_languages():
    given = [*rows(), Row("f", None, "我们去吃饭", "zh", "f.wav", 1.0)]
    found = [one.lang for one in relabelled(given) if isinstance(one, Row)]
    assert found == ["ms", "ms", "ms", "cs", "zh"]


def test_options():
    given = {name: option.default for name, option in OPTIONS.items()}
    assert read_limits(given) == Limits()
    assert read_limits(given | {"filter": "none"}).kinds == ()
    limits = read_limits(given | {"filter": "speed,language", "max_speed": "9", "languages": "ms"})
    assert (limits.kinds, limits.max_speed, limits.languages) == (
        ("speed", "language"),
        9.0,
        ("ms",),
    )
    with pytest.raises(ValueError, match="max_repeats is '2.5', not a number"):
        read_limits(given | {"max_repeats": "2.5"})
    with pytest.raises(ValueError, match="min_speed 9.0 is not below max_speed"):
        read_limits(given | {"min_speed": "9"})
    with pytest.raises(ValueError, match="filter 'sped' is none of compression"):
        Limits(kinds=("sped",))
