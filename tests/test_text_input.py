import json
from pathlib import Path

import pytest

from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text_input import prepare, read_lines
from espnet_plugin.text_store import TextStore, write_store

LINES = [
    ("Saya nak pergi sekolah.", "ms"),
    ("Boleh tolong book the flight?", "cs"),
    ("", "ms"),
    ("She left early.", "en"),
    ("<|endoftext|>", "en"),
    ("saya " * 500, "ms"),
]


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "with space" / "lines.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"text": t, "lang": g}) + "\n" for t, g in LINES))
    return path


@pytest.fixture
def store(tmp_path: Path, jsonl: Path, tiny_whisper: Path) -> Path:
    prepare([str(jsonl)], str(tmp_path / "store"), str(tiny_whisper))
    return tmp_path / "store"


def test_round_trip_and_exact_accounting(store: Path, tiny_whisper: Path) -> None:
    opened, builder = TextStore(store), PromptBuilder(tiny_whisper)
    kept = [(t, g) for t, g in LINES if t and len(t) < 1000]
    found = [
        (builder.tokenizer.decode(ids), lang)
        for ids, lang in (opened[i] for i in range(len(opened)))
    ]
    assert found == [(" " + t, g) for t, g in kept]
    manifest = opened.manifest
    assert manifest["dropped"] == {"empty": 1, "too_long": 1}
    assert manifest["read"] == manifest["lines"] + sum(manifest["dropped"].values()) == len(LINES)
    assert manifest["lines_by_lang"] == {"cs": 1, "ms": 1, "en": 2}


def test_the_same_text_is_not_done_again(
    store: Path, jsonl: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (store / "shard-00000.bin").stat().st_mtime_ns
    prepare([str(jsonl)], str(store), str(tiny_whisper))
    assert "kept" in capsys.readouterr().out
    assert (store / "shard-00000.bin").stat().st_mtime_ns == before
    with open(jsonl, "a") as file:
        file.write('{"text": "lagi", "lang": "ms"}\n')
    prepare([str(jsonl)], str(store), str(tiny_whisper))
    assert len(TextStore(store)) == 5


def test_a_failure_leaves_the_old_store(store: Path, jsonl: Path, tiny_whisper: Path) -> None:
    with open(jsonl, "a") as file:
        file.write('{"text": "lagi", "lang": "xx"}\n')
    with pytest.raises(ValueError, match=r"lines.jsonl:7: language 'xx' is not in lang_tokens"):
        prepare([str(jsonl)], str(store), str(tiny_whisper))
    assert len(TextStore(store)) == 4
    assert [p.name for p in store.parent.iterdir()] == ["with space", "store"] or len(
        list(store.parent.iterdir())
    ) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a", "lang": "ms"}\n\xff\xfe\n', r"x.jsonl:2: not UTF-8 at byte 0"),
        (b"{'text': 'a'}\n", r"x.jsonl:1: not JSON"),
        (b'{"txt": "a"}\n', r"x.jsonl:1: a line is .* found \['txt'\]"),
        (b"[1]\n", r"x.jsonl:1: a line is .* found list"),
        (b'{"text": "a"}\n', r"x.jsonl:1: no language: give --lang"),
    ],
)
def test_bad_lines_are_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_lines(path))


def test_only_blank_lines_are_an_error(tmp_path: Path, tiny_whisper: Path) -> None:
    (tmp_path / "x.txt").write_text("\n \n")
    lines = read_lines(tmp_path / "x.txt", "ms")
    with pytest.raises(ValueError, match="no line of text is left of 0"):
        write_store(lines, tmp_path / "s", PromptBuilder(tiny_whisper))
    assert not (tmp_path / "s").exists()
