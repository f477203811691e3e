import dataclasses
import json
import random
import re
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.bin import synth_data
from espnet_plugin.corpora.markup import Sentence, parse_markup, to_markup
from espnet_plugin.corpora.phrase_mix import MixOptions, PhraseIndex, mix, mix_sentence, report
from espnet_plugin.corpora.phrases import Phrase
from espnet_plugin.corpora.text_lines import Line, key_of, languages_of, sentence_key, tags_of
from espnet_plugin.score import cmi

PHRASES = [
    Phrase("food", "nasi", "rice"),
    Phrase("food", "nasi goreng", "fried rice"),
    Phrase("food", "telur", "egg"),
    Phrase("food", "ikan", "fish"),
    Phrase("time", "semalam", "yesterday"),
    Phrase("time", "pagi ini", "this morning"),
    Phrase("time", "minggu lepas", "last week"),
    Phrase("person", "mak", "my mother"),
    Phrase("person", "kawan saya", "my friend"),
    Phrase("keep", "mak cik", "-"),
]
INDEX = PhraseIndex(PHRASES)


def sentence(markup: str, lang: str = "cs") -> Sentence:
    return Sentence(parse_markup(markup, lang, "test:1"), lang, "food", "test:1")


HAND = [
    sentence("Semalam mak masak nasi goreng, [very nice]."),
    sentence("Kawan saya beli ikan [this morning], murah betul."),
    sentence("Mak cik jual telur minggu lepas.", "ms"),
    sentence("My friend cooked an egg this morning.", "en"),
    sentence("[The fish] tu besar gila."),
]
LINES = [Line(s, "hand") for s in HAND]


def found(markup: str, lang: str = "cs") -> list[str]:
    text = sentence(markup, lang)
    return [text.segments[s.segment].text[s.start : s.end] for s in INDEX.find(text.segments)]


def test_longest_match_in_the_stretchs_own_language():
    assert found("Semalam mak makan NASI goreng, [fried rice] dan [egg].") == [
        "Semalam",
        "mak",
        "NASI goreng",
        "fried rice",
        "egg",
    ]
    assert found("Saya rice [semalam].") == []  # right words, wrong language
    assert found("Dia masak nasi, goreng ikan.", "ms") == ["nasi", "ikan"]  # not across punctuation
    assert found("Mak cik datang, mak pula balik.", "ms") == ["mak"]  # compounds stay whole
    assert found("nasi-goreng telurnya", "ms") == []  # whole words only


def drawn(text: Sentence, **rates: float) -> set[str]:
    options = MixOptions(1, **{"keep_rate": 0.0, **rates})
    slots = INDEX.find(text.segments)
    return {mix_sentence(text, slots, INDEX, options, random.Random(n)).markup for n in range(300)}


def test_translation_keeps_case_punctuation_and_context():
    made = drawn(sentence("Semalam mak makan ikan, kan?", "ms"), switch_rate=1.0, category_rate=0.0)
    assert "[Yesterday] mak makan ikan, kan?" in made
    assert "Semalam mak makan [fish], kan?" in made
    assert "[Yesterday my mother] makan [fish], kan?" in made  # neighbours share their brackets
    assert all(re.fullmatch(r"\[?(Semalam|Yesterday).*makan.*, kan\?", text) for text in made)


def test_articles():
    made = drawn(sentence("I ate an egg.", "en"), switch_rate=0.0, category_rate=1.0)
    assert made >= {"I ate a fish.", "I ate a rice."}
    made = drawn(sentence("I ate an egg.", "en"), switch_rate=1.0, category_rate=0.0)
    assert made == {"[I ate] telur."}  # Malay has no article
    assert drawn(sentence("[The fish] tu besar."), switch_rate=0.0, category_rate=0.0) == {
        "ikan tu besar.".capitalize(),
    }


def test_function_words_are_not_left_alone():
    made = drawn(sentence("[My friend is] baik."), switch_rate=0.0, category_rate=0.0)
    assert made == {"[My friend is] baik."}  # "Kawan saya [is] baik" is refused


def test_a_rate_of_switching_is_a_rate_of_switching():
    def mean(rate: float) -> float:
        options = MixOptions(lines=60, seed=1, switch_rate=rate, keep_rate=0.0)
        return report(mix(LINES, INDEX, options), 60).mean_cmi

    assert mean(0.05) < mean(0.5) < mean(0.95)


def test_nothing_is_said_twice():
    made = drawn(sentence("Mak beli ikan dan nasi.", "ms"), switch_rate=0.0, category_rate=1.0)
    assert "Mak beli telur dan nasi." in made
    assert "Mak beli nasi dan nasi." not in made


def test_sentences_can_keep_their_language():
    made = drawn(HAND[3], keep_rate=1.0)
    assert len(made) > 3
    assert not any("[" in text for text in made)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    switch=st.floats(0, 1),
    keep=st.floats(0, 1),
    category=st.floats(0.2, 1),
)
def test_properties_of_mixed_text(seed: int, switch: float, keep: float, category: float):
    options = MixOptions(14, seed, switch, keep, category)
    banned = sentence_key("Kawan saya beli nasi this morning, murah betul.")
    lines = mix(LINES, INDEX, options, {banned})
    assert lines == mix(LINES, INDEX, options, {banned})
    keys = [sentence_key(line.sentence.text) for line in lines]
    assert len(set(keys)) == len(lines) == 14
    assert banned not in keys
    assert [line.sentence for line in lines[: len(HAND)]] == HAND
    for line in lines:
        made = line.sentence
        assert parse_markup(made.markup, made.lang, "again") == made.segments
        assert key_of(made) == sentence_key(made.text)
        assert len(languages_of(made)) == len(key_of(made).split())
        assert len(tags_of(made)) > 0
        assert (made.lang == "cs") == (cmi(languages_of(made)) > 0)
        assert "  " not in made.text
        assert made.text[:1].isupper()
        assert made.text[-1:] == "."


def test_too_few_phrases_say_how_many_lines_there_are():
    with pytest.raises(
        ValueError, match=r"only \d+ distinct lines .* of 5 sentences .* 100000 were"
    ):
        mix(LINES, INDEX, MixOptions(100_000))


def test_a_test_sentence_among_the_hand_written_ones_is_an_error():
    with pytest.raises(
        ValueError, match="test:1: also a validation or test sentence: 'Mak cik jual"
    ):
        mix(LINES, INDEX, MixOptions(5), {"mak cik jual telur minggu lepas"})


@pytest.mark.parametrize("rate", ["switch_rate", "keep_rate", "category_rate"])
def test_rates_are_checked(rate: str):
    with pytest.raises(ValueError, match=f"{rate} is 1.5, allowed is 0 to 1"):
        dataclasses.replace(MixOptions(5), **{rate: 1.5})


def command(folder: Path, lines: int, *more: str) -> list[str]:
    return [
        *["mix", "--input", str(folder / "hand.jsonl"), "--phrases", str(folder / "a.tsv")],
        *["--phrases", str(folder / "b.tsv"), "--output", str(folder / "train.jsonl")],
        *["--lines", str(lines), "--keep-rate", "0.2", *more],
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "with space"
    folder.mkdir()
    (folder / "hand.jsonl").write_text("".join(line.to_json() + "\n" for line in LINES))
    for name, part in (("a.tsv", PHRASES[:5]), ("b.tsv", PHRASES[5:])):
        (folder / name).write_text("".join(f"{p.category}\t{p.malay}\t{p.english}\n" for p in part))
    return folder


def test_text_that_was_not_made_is_not_written_over(folder: Path):
    output = folder / "train.jsonl"
    output.write_text("a corpus of someone's own")
    with pytest.raises(ValueError, match=r"train.jsonl: exists, and would be lost"):
        synth_data.main(command(folder, 20))
    assert output.read_text() == "a corpus of someone's own"
    with pytest.raises(ValueError, match=r"\*.jsonl: made text goes to one file, not to a pattern"):
        synth_data.main([*command(folder, 20), "--output", str(folder / "*.jsonl")])
    output.unlink()
    with (
        patch("espnet_plugin.corpora.mix_file.report", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        synth_data.main(command(folder, 20))
    assert output.exists()
    synth_data.main(command(folder, 20))  # a killed run can be run again


def test_command_line(folder: Path, capsys: pytest.CaptureFixture):
    synth_data.main(command(folder, 20))
    assert (
        "20 distinct lines (20 requested): hand 5, mix 15; by language: cs"
        in capsys.readouterr().out
    )
    first = (folder / "train.jsonl").read_text()
    records = [json.loads(line) for line in first.splitlines()]
    assert {r["source"] for r in records} == {"hand", "mix"}
    for record in records:
        segments = parse_markup(record["markup"], record["lang"], "x")
        assert "".join(s.text for s in segments) == record["text"]
        assert to_markup(segments) == record["markup"] or record["lang"] != "cs"
    synth_data.main(command(folder, 20))
    assert (folder / "train.jsonl").read_text() == first
    assert capsys.readouterr().out.startswith("unchanged: 20 distinct lines")
    (folder / "train.jsonl").write_text("something else")
    synth_data.main(command(folder, 20))
    assert (folder / "train.jsonl").read_text() == first
    synth_data.main(command(folder, 20, "--seed", "1"))
    assert (folder / "train.jsonl").read_text() != first

    mixed = [r["text"] for r in records if r["source"] == "mix"]
    (folder / "text").write_text(f"spk-1 {mixed[0]}\nspk-2 {mixed[1]}\n")
    (folder / "valid.jsonl").write_text(json.dumps({"text": mixed[2]}) + "\n")
    excluded = ["--exclude", str(folder / "text"), str(folder / "valid.jsonl")]
    synth_data.main(command(folder, 20, *excluded))
    again = {json.loads(line)["text"] for line in (folder / "train.jsonl").open()}
    assert not again & set(mixed[:3])
    assert len(again) == 20


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "hand.jsonl:2: not JSON"),
        ('{"lang": "ms"}', "hand.jsonl:2: expected an object with 'text'"),
        ('{"text": "Apa?"}', "hand.jsonl:2: no 'lang'"),
        ('{"text": "Apa?", "lang": "cs", "markup": "Apa [what?"}', "hand.jsonl:2: unbalanced"),
        (
            '{"text": "Apa?", "lang": "cs", "markup": "Apa [what]?"}',
            "hand.jsonl:2: 'markup' without",
        ),
    ],
)
def test_bad_lines_are_named(folder: Path, line: str, message: str):
    with (folder / "hand.jsonl").open("r+") as file:
        first = file.readline()
        file.seek(0)
        file.truncate()
        file.write(first + line + "\n")
    with pytest.raises(ValueError, match=message):
        synth_data.main(command(folder, 20))


def test_missing_files(folder: Path):
    (folder / "b.tsv").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.tsv: missing"):
        synth_data.main(command(folder, 20))
