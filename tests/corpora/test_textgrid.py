import codecs

import pytest

from espnet_plugin.corpora.textgrid import (
    Interval,
    TextGridError,
    decode,
    read_textgrid,
    speech_tier,
)
from tests.fixtures.nsc import binary_textgrid, long_textgrid, short_textgrid

SAID = [(0.0, 1.5, "<S>"), (1.5, 3.25, "saya nak [lah]"), (3.25, 5, "好"), (5.0, 6.0, "")]
OVERLAP = [(0.0, 2.0, "a"), (1.5, 3.0, "b"), (3.0, 4.0, "c")]
ZERO = [(0.0, 1.0, "a"), (1.0, 1.0, "b"), (1.0, 2.0, "c")]
NEGATIVE = [(0.0, 1.0, "a"), (2.0, 1.5, "b"), (2.0, 3.0, "c")]
QUOTES = [(0.0, 1.0, 'he said "no" twice'), (1.0, 2.0, '"quoted"')]
LONG, SHORT = long_textgrid(SAID), short_textgrid(SAID)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (LONG.encode(), SAID),
        (codecs.BOM_UTF8 + LONG.encode(), SAID),
        (codecs.BOM_UTF16_LE + LONG.encode("utf-16-le"), SAID),
        (codecs.BOM_UTF16_BE + LONG.encode("utf-16-be"), SAID),
        (LONG.encode("utf-16-le"), SAID),
        (LONG.encode("utf-16-be"), SAID),
        (LONG.replace("\n", "\r\n").encode(), SAID),
        (long_textgrid([(0, 1, "caf\xe9")]).encode("cp1252"), [(0, 1, "caf\xe9")]),
        (SHORT.encode(), SAID),
        (codecs.BOM_UTF16_LE + SHORT.encode("utf-16-le"), SAID),
        (long_textgrid(SAID, header=False).encode(), SAID),
        (short_textgrid(SAID, header=False).encode(), SAID),
        (binary_textgrid(SAID), SAID),
        (long_textgrid(OVERLAP).encode(), OVERLAP),
        (short_textgrid(ZERO).encode(), ZERO),
        (long_textgrid(NEGATIVE).encode(), NEGATIVE),
        (long_textgrid(QUOTES).encode(), QUOTES),
        (short_textgrid([(0, 1, 'he said ""no""')]).encode(), [(0, 1, 'he said "no"')]),
    ],
)
def test_every_encoding_and_defect(data, said):
    (tier,) = read_textgrid(data)
    assert tier.intervals == [Interval(*interval) for interval in said]
    assert tier.lost == 0


def test_binary_form_is_praat_s():
    # as Praat 6.4 saves a tier "utt" with the interval 0..1 "\u597d"
    data = bytes.fromhex(
        "6f6f42696e61727946696c650854657874477269640000000000000000"
        "3ff00000000000000100000001" + "0c" + b"IntervalTier".hex() + "0003757474"
        "00000000000000003ff000000000000000000001"
        "00000000000000003ff0000000000000ffff0001597d"
    )
    assert read_textgrid(data)[0].intervals == [Interval(0.0, 1.0, "好")]
    assert binary_textgrid([(0.0, 1.0, "好")]) == data


@pytest.mark.parametrize("cut", [100, 60, 20])
def test_a_cut_file_says_how_much_it_lost(cut):
    (tier,) = read_textgrid(LONG.encode()[:-cut])
    assert len(tier.intervals) + tier.lost == len(SAID) and tier.lost >= 1
    (tier,) = read_textgrid(SHORT.encode()[:-10])
    assert (len(tier.intervals), tier.lost) == (3, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "holds no interval"),
        (b"nothing of this kind", "holds no interval"),
        (binary_textgrid(SAID)[:-9], "cut or damaged binary TextGrid"),
        (b"ooBinaryFile\x05Pitch rest", "a binary file of another kind"),
        (long_textgrid([(0, 1, "a")]).replace("xmax = 1", "xmax = 1.2.3").encode(), "no numbers"),
    ],
)
def test_what_is_no_textgrid(data, message):
    with pytest.raises(TextGridError, match=message):
        read_textgrid(data)


def test_the_tier_that_speaks_is_taken_and_points_are_left_out():
    long = long_textgrid([(0.0, 1.0, "")], "noise") + long_textgrid(SAID, "speech", header=False)
    points = '"TextTier"\n"clicks"\n0\n6\n2\n1.5\n"click"\n2.5\n"clack"\n'
    short = short_textgrid([(0.0, 1.0, "")], "noise") + points
    short += short_textgrid(SAID, "speech", header=False)
    for text in (long, short):
        tiers = read_textgrid(text.encode())
        assert [tier.name for tier in tiers] == ["noise", "speech"]
        assert len(speech_tier(tiers).intervals) == len(SAID)
    with pytest.raises(TextGridError, match="no interval tier"):
        speech_tier([])


def test_mixed_encodings():
    assert decode("naïve 好".encode()) == "naïve 好"
    assert decode(b"na\xefve") == "naïve"
    assert decode(codecs.BOM_UTF8 + b"x") == "x"
