import pytest

from espnet_plugin.corpora.whisper_text import read_whisper

START = "<|startoftranscript|><|ms|><|transcribe|>"


@pytest.mark.parametrize(
    "raw, text, times",
    [
        (f"{START}<|0.00|> Apa khabar?<|1.42|><|endoftext|>", "Apa khabar?", [(0, 1.42, 2)]),
        (
            f"{START}<|0.00|> Apa<|1.00|><|1.20|> khabar dia<|2.00|><|endoftext|>",
            "Apa khabar dia",
            [(0, 1, 1), (1.2, 2, 2)],
        ),
        ("<|0.00|> satu<|1.00|> dua<|2.00|>", "satu dua", [(0, 1, 1), (1, 2, 1)]),
        ("<|0.00|> hujung terbuka", "hujung terbuka", [(0, 3, 2)]),
        ("<|0.00|> lewat sikit<|3.90|>", "lewat sikit", [(0, 3, 2)]),
        ("<|0.00|> jauh<|5.00|>", "jauh", None),
        ("<|3.10|> selepas habis<|3.50|>", "selepas habis", None),
        ("<|1.00|> ke belakang<|0.50|>", "ke belakang", None),
        ("<|0.00|> a<|2.00|><|1.00|> b<|2.50|>", "a b", None),
        ("tanpa masa<|1.00|>", "tanpa masa", None),
        (f"{START}<|notimestamps|> biasa<|endoftext|>", "biasa", None),
        ("teks biasa", "teks biasa", None),
        ("<|0.00|> potong<|1.0", "potong", [(0, 3, 1)]),
        (f"<|startofprev|> buang ini{START}<|0.00|> simpan<|1.00|>", "simpan", [(0, 1, 1)]),
        ("baris\nbaru\x00 dan\u00a0ruang", "baris baru dan ruang", None),
        (f"{START}<|0.00|> <|2.00|><|endoftext|>", "", None),
        ("", "", None),
    ],
)
def test_words_and_times(raw, text, times):
    found = read_whisper(raw)
    assert found.text == text
    assert found.times(3.0) == times


def test_language_and_task():
    found = read_whisper("<|startoftranscript|><|yue|><|translate|><|0.00|> hello")
    assert (found.lang, found.task, found.tokens) == ("yue", "translate", True)
    assert read_whisper("<|ms|><|transcribeprecise|> x").task == "transcribeprecise"
    plain = read_whisper("a < b | c")
    assert (plain.text, plain.lang, plain.tokens) == ("a < b | c", None, False)
