"""The hand-made gold set of word tags keeps the format and the rules that its README states."""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

GOLD = Path(__file__).parent / "gold"
HALVES = ("dev", "test")
TAGS = ("ms", "en", "zh", "ta", "other", "num", "name", "shared")
REGISTERS = {
    "chat", "social", "news", "work", "food", "football", "tech", "school", "health", "religion",
    "formal", "english", "multilingual",
}  # fmt: skip


@dataclass(frozen=True)
class Sentence:
    id: str
    register: str
    lang: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_gold(half: str) -> list[Sentence]:
    """Read one half; a line that breaks the format is an error naming it."""
    path = GOLD / f"{half}.tsv"
    sentences: list[Sentence] = []
    for block in path.read_text(encoding="utf-8").rstrip("\n").split("\n\n"):
        head, *lines = block.split("\n")
        fields = dict(field.split("=", 1) for field in head.removeprefix("# ").split())
        if not head.startswith("# ") or list(fields) != ["id", "register", "lang"] or not lines:
            raise ValueError(f"{path}: not a sentence: {block!r}")
        pairs = [tuple(line.split("\t")) for line in lines]
        bad = [pair for pair in pairs if len(pair) != 2 or pair[1] not in TAGS]
        if bad:
            raise ValueError(f"{path}: {fields['id']}: not `word<TAB>tag`: {bad}")
        words, tags = zip(*pairs, strict=True)
        sentences.append(Sentence(fields["id"], fields["register"], fields["lang"], words, tags))
    return sentences


@pytest.fixture(scope="module")
def gold() -> dict[str, list[Sentence]]:
    return {half: read_gold(half) for half in HALVES}


def flat(sentences: list[Sentence]) -> list[tuple[str, str]]:
    return [pair for s in sentences for pair in zip(s.words, s.tags, strict=True)]


@pytest.mark.parametrize("half", HALVES)
def test_size_and_every_tag(gold, half):
    assert len(gold[half]) >= 165
    pairs = flat(gold[half])
    counts = Counter(tag for _, tag in pairs)
    assert len(pairs) >= 2000
    assert set(counts) == set(TAGS)
    assert counts["ms"] > counts["en"] > 500
    assert min(counts.values()) >= 5
    readme = (GOLD / "README.md").read_text(encoding="utf-8")
    row = [half, len(gold[half]), len(pairs), *(counts[tag] for tag in TAGS)]
    assert "| " + " | ".join(map(str, row)) + " |" in readme


@pytest.mark.parametrize("half", HALVES)
def test_ids_are_unique_and_name_half_and_register(gold, half):
    seen: Counter[str] = Counter()
    for s in gold[half]:
        seen[s.register] += 1
        assert s.id == f"{half}-{s.register}-{seen[s.register]:02d}"
    assert set(seen) == REGISTERS


def test_no_sentence_twice(gold):
    texts = Counter(" ".join(s.words).casefold() for half in HALVES for s in gold[half])
    assert [text for text, n in texts.items() if n > 1] == []


def test_halves_have_the_same_registers(gold):
    dev, test = (Counter(s.register for s in gold[half]) for half in HALVES)
    assert all(abs(dev[r] - test[r]) <= 5 and min(dev[r], test[r]) >= 10 for r in REGISTERS)
    dev, test = (Counter(s.lang for s in gold[half]) for half in HALVES)
    assert all(abs(dev[lang] - test[lang]) <= 20 for lang in ("cs", "ms", "en"))


@pytest.mark.parametrize("half", HALVES)
def test_lang_follows_from_the_tags(gold, half):
    for s in gold[half]:
        both = {"ms", "en"} & set(s.tags)
        assert s.lang == ("cs" if len(both) == 2 else both.pop()), s.id


@pytest.mark.parametrize("half", HALVES)
def test_words_are_bare(gold, half):
    for word, tag in flat(gold[half]):
        assert word == unicodedata.normalize("NFC", word)
        assert not any(c.isspace() for c in word)
        assert all(unicodedata.category(c)[0] not in "PS" for c in (word[0], word[-1])), word
        if any("\u4e00" <= c <= "\u9fff" for c in word):
            assert (len(word), tag) == (1, "zh"), word
        if any("\u0b80" <= c <= "\u0bff" for c in word):
            assert tag == "ta", word
        if tag == "num":
            assert any(c.isdigit() for c in word), word


def test_cognates_are_always_shared_and_those_of_dev_are_listed(gold):
    """A cognate is `shared` whatever its context; the README gives away none of the test half's."""
    pairs = [(word.casefold(), tag) for half in HALVES for word, tag in flat(gold[half])]
    shared = {word for word, tag in pairs if tag == "shared"}
    assert [pair for pair in pairs if pair[0] in shared and pair[1] != "shared"] == []
    readme = (GOLD / "README.md").read_text(encoding="utf-8")
    of_dev = {word.casefold() for word, tag in flat(gold["dev"]) if tag == "shared"}
    assert readme.split("<!-- shared -->")[1].split() == sorted(of_dev)
