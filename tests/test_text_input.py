import functools
import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from espnet_plugin.bin.text_corpus import main
from espnet_plugin.checkpoint import files
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text_input import prepare, sample, stats
from espnet_plugin.text_store import TextStore


@pytest.fixture(scope="module", autouse=True)
def quick_disk() -> Iterator[None]:
    """Do not wait for the disk: no test here cuts the power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda fd: None)
        yield


LINES = [
    ("Saya nak pergi sekolah.", "ms"),
    ("Boleh tolong book the flight?", "cs"),
    ("", "ms"),
    ("She left early.", "en"),
    ("<|endoftext|>", "en"),
    ("saya " * 500, "ms"),
    ("she left EARLY", "en"),
]


def make(
    inputs: Path | list[str], output: Path, model: Path, *, workers: int = 1, **options: Any
) -> TextStore:
    paths = inputs if isinstance(inputs, list) else [str(inputs)]
    prepare(paths, str(output), str(model), workers=workers, plots=False, **options)
    return TextStore(output)


builder_of = functools.cache(PromptBuilder)  # its tokenizer takes long to load


def texts_of(store: TextStore, model: Path) -> list[tuple[str, str]]:
    builder = builder_of(model)
    found = [store[i] for i in range(len(store))]
    return [(builder.decode(ids.tolist()), lang) for ids, lang in found]


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "with space" / "lines.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps({"text": t, "lang": g}) + "\n" for t, g in LINES))
    return path


@pytest.fixture
def store(tmp_path: Path, jsonl: Path, tiny_whisper: Path) -> TextStore:
    return make(jsonl, tmp_path / "store", tiny_whisper)


def test_round_trip_and_exact_accounting(store: TextStore, tiny_whisper: Path) -> None:
    assert texts_of(store, tiny_whisper) == [LINES[0], LINES[1], LINES[3]]
    manifest = store.manifest
    assert manifest["dropped"] == {"blank": 1, "empty": 1, "too_many_tokens": 1, "duplicate": 1}
    assert manifest["read"] == manifest["lines"] + sum(manifest["dropped"].values()) == len(LINES)
    assert manifest["lines_by_lang"] == {"cs": 1, "ms": 1, "en": 1}
    store.check(builder_of(tiny_whisper))


def test_the_same_text_is_not_done_again(
    store: TextStore, jsonl: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (store.path / "shard-00000.bin").stat().st_mtime_ns
    make(jsonl, store.path, tiny_whisper)
    assert "(3 lines), kept" in capsys.readouterr().out
    assert (store.path / "shard-00000.bin").stat().st_mtime_ns == before
    with open(jsonl, "a") as file:
        file.write('{"text": "lagi", "lang": "ms"}\n')
    assert len(make(jsonl, store.path, tiny_whisper)) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"text": "lagi", "lang": "mss"}',
            r"lines.jsonl:8: language 'mss' is not in lang_tokens \(did you mean ms\?\): cs:ms",
        ),
        ("{'text': 1}", r"lines.jsonl:8: not JSON"),
        ("\udcff", r"lines.jsonl:8: not UTF-8: byte ff"),
        ('{"txt": "a"}', r"lines.jsonl:8: no field 'text'; found: txt"),
        ("[1]", r"lines.jsonl:8: no field 'text': a JSON list"),
    ],
)
def test_a_bad_line_is_named_and_the_old_store_stays(
    store: TextStore, jsonl: Path, tiny_whisper: Path, line: str, message: str
) -> None:
    with open(jsonl, "a", errors="surrogateescape") as file:
        file.write(line + "\n")
    with pytest.raises(ValueError, match=message):
        make(jsonl, store.path, tiny_whisper, strict=True)
    assert len(TextStore(store.path)) == 3


def test_languages_from_the_input_the_option_or_the_words(
    tmp_path: Path, tiny_whisper: Path
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "saya makan nasi", "lang": "en"}\n{"text": "she left early"}\n')

    def langs(name: str, **options: Any) -> list[str]:
        opened = make(path, tmp_path / name, tiny_whisper, **options)
        return [lang for _, lang in texts_of(opened, tiny_whisper)]

    def config(text: str) -> str:
        (tmp_path / "c.yaml").write_text(text)
        return str(tmp_path / "c.yaml")

    assert langs("given") == ["en", "en"]
    assert langs("option", lang="cs") == ["en", "cs"]
    assert langs("tags", config=config("line_language: tags")) == ["ms", "en"]
    with pytest.raises(ValueError, match=r"x.jsonl:2: no language: give --lang, or set pair"):
        langs("none", config=config("pair: null"))
    assert langs("no tags", config=config("pair: null"), lang="ms") == ["en", "ms"]
    chosen = make(
        path, tmp_path / "m", tiny_whisper, config=config("line_language: tags\nlanguages: [ms]")
    )
    assert texts_of(chosen, tiny_whisper) == [("saya makan nasi", "ms")]
    assert chosen.manifest["dropped"] == {"language": 1}


def test_free_text_in_the_language_field_is_one_entry_of_the_statistics(
    tmp_path: Path, tiny_whisper: Path
) -> None:
    path = tmp_path / "web.jsonl"
    rows = [{"text": f"baris {i} di sini", "lang": f"free text {i}"} for i in range(9)]
    rows.append({"text": "saya suka makan", "lang": "ms"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "c.yaml").write_text("languages: [ms]")
    prepare([str(path)], str(tmp_path / "s"), str(tiny_whisper), config=str(tmp_path / "c.yaml"))
    report = json.loads((tmp_path / "s/report/report.json").read_text())
    assert report["dropped"] == {"language": 9}
    assert set(report["before"]["langs"]) == {"unknown", "ms"}


def test_a_kaldi_directory_gives_texts_and_languages(tmp_path: Path, tiny_whisper: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "text").write_text("a-1 saya makan\na-2 she left early\n")
    (folder / "utt2lang").write_text("a-1 ms\na-2 en\n")
    found = texts_of(make(folder, tmp_path / "s", tiny_whisper), tiny_whisper)
    assert found == [("saya makan", "ms"), ("she left early", "en")]
    (folder / "utt2lang").write_text("a-1 ms\n")
    with pytest.raises(ValueError, match="utt2lang:2"):
        make(folder, tmp_path / "s", tiny_whisper)


def test_every_format_gives_the_same_lines(tmp_path: Path, tiny_whisper: Path) -> None:
    import pyarrow
    import pyarrow.parquet
    import zstandard

    texts = ["saya makan, dia minum", "she left early", "jom makan"]
    plain = "".join(text + "\n" for text in texts)
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "a.txt").write_text(plain)
    (folder / "b.txt.gz").write_bytes(gzip.compress(plain.encode()))
    (folder / "c.txt.xz").write_bytes(lzma.compress(plain.encode()))
    (folder / "d.txt.zst").write_bytes(zstandard.ZstdCompressor().compress(plain.encode()))
    (folder / "e.csv").write_text("id,text\n" + "".join(f'1,"{text}"\n' for text in texts))
    (folder / "f.tsv").write_text("text\tid\n" + "".join(f"{text}\t1\n" for text in texts))
    (folder / "g.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in texts))
    pyarrow.parquet.write_table(pyarrow.table({"text": texts}), folder / "h.parquet")
    config = tmp_path / "c.yaml"
    config.write_text("exact_duplicates: false\n")
    store = make([str(folder)], tmp_path / "s", tiny_whisper, config=str(config))
    assert [text for text, _ in texts_of(store, tiny_whisper)] == texts * 8
    sources = json.loads((store.path / "report/report.json").read_text())["after"]["figures"]
    assert sources["top_sources"] == [[name, 3] for name in "abcdefgh"]
    config.write_text("max_lines_per_source: 2\nexact_duplicates: false\n")
    capped = make([str(folder)], tmp_path / "s", tiny_whisper, config=str(config))
    assert capped.manifest["dropped"] == {"source_cap": 8}
    deduplicated = make([str(folder / "*")], tmp_path / "s", tiny_whisper)
    assert deduplicated.manifest["dropped"] == {"duplicate": 21}


def test_every_limit_counts_what_it_drops(tmp_path: Path, tiny_whisper: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(
        b"saya makan nasi lemak\nsatu\nsaya pergi ke kedai dengan kawan saya semalam petang\n"
        + "谢谢你们大家 ok\nhasta la vista amigos\n".encode()
        + b"tolong book flight saya\n"
        + b"\x00saya makan\n\xff\xfe\n\n"
        + b"x" * 3000
        + b"\nsaya makan, nasi LEMAK!\n"
        + b"dia tidak pernah makan nasi\ndia tak pernah makan nasi\n"
    )
    config = tmp_path / "c.yaml"
    config.write_text(
        "min_words: 2\nmax_words: 8\nscripts: [Latin]\nmax_cmi: 30\nmax_tokens: 14\n"
        "max_line_bytes: 2000\nnear_duplicates: true\nnear_threshold: 0.6\n"
    )
    store = make(path, tmp_path / "s", tiny_whisper, config=str(config))
    dropped = store.manifest["dropped"]
    assert store.manifest["read"] == 13 == len(store) + sum(dropped.values())
    expected = {"nul_bytes", "not_utf8", "blank", "line_too_long", "too_few_words", "script"}
    expected |= {"too_many_words", "duplicate", "near_duplicate", "cmi_high"}
    assert expected <= set(dropped)
    assert {dropped[reason] for reason in expected} == {1}
    assert list(dropped)[:4] == ["blank", "line_too_long", "not_utf8", "nul_bytes"]


def test_the_style_is_that_of_scoring(tmp_path: Path, tiny_whisper: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("Saya nak MAKAN, lah!\n...\n")
    store = make(path, tmp_path / "s", tiny_whisper, lang="cs", text_style="spoken")
    assert texts_of(store, tiny_whisper) == [("saya nak makan lah", "cs")]
    assert store.manifest["text_style"] == "spoken"
    config = tmp_path / "c.yaml"
    config.write_text("text_style: spoken\nmin_words: 0\n")
    store = make(path, tmp_path / "s", tiny_whisper, lang="cs", config=str(config))
    assert store.manifest["dropped"] == {"empty": 1}


def test_a_line_that_no_rule_can_read_is_dropped_before_it_is_styled(
    tmp_path: Path, tiny_whisper: Path
) -> None:
    path = tmp_path / "x.txt"
    path.write_text(f"the total is {'1' * 5000} ringgit\nthe total is 11 ringgit\n")
    store = make(path, tmp_path / "s", tiny_whisper, text_style="spoken", lang="en")
    assert texts_of(store, tiny_whisper) == [("the total is 11 ringgit", "en")]
    assert store.manifest["dropped"] == {"too_many_tokens": 1}


def test_held_out_lines_go_to_a_store_of_their_own(tmp_path: Path, tiny_whisper: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("".join(f"saya makan {number} kali\n" for number in range(200)))
    config = tmp_path / "c.yaml"
    config.write_text("valid_share: 0.1\n")
    options = {"config": str(config), "valid_output": str(tmp_path / "v")}
    train = make(path, tmp_path / "t", tiny_whisper, **options)
    valid = TextStore(tmp_path / "v")
    assert len(train) + len(valid) == 200 and 5 < len(valid) < 40
    both = texts_of(train, tiny_whisper) + texts_of(valid, tiny_whisper)
    assert len(set(both)) == 200
    path.write_text("saya makan\n")
    with pytest.raises(ValueError, match=r"none of 1 lines falls to valid: change valid_share"):
        make(path, tmp_path / "t", tiny_whisper, **options)
    with pytest.raises(ValueError, match="is --output: give another directory"):
        make(path, tmp_path / "t", tiny_whisper, valid_output=str(tmp_path / "t"))


def test_lines_of_other_sets_are_excluded(tmp_path: Path, tiny_whisper: Path) -> None:
    path, folder = tmp_path / "x.txt", tmp_path / "test_cs"
    path.write_text("saya makan nasi\nshe left early\nSaya makan nasi!\njom balik rumah\n")
    folder.mkdir()
    (folder / "text").write_text("a-1 saya MAKAN, nasi @you\na-2 tidak ada\n")
    (folder / "utt2lang").write_text("a-1 ms\na-2 ms\n")
    store = make(path, tmp_path / "s", tiny_whisper, exclude=[str(folder)])
    assert [text for text, _ in texts_of(store, tiny_whisper)] == [
        "she left early",
        "jom balik rumah",
    ]
    assert store.manifest["dropped"] == {"excluded": 2}
    (folder / "text").write_text("a-1 jom balik rumah\na-2 tidak ada\n")
    store = make(path, tmp_path / "s", tiny_whisper, exclude=[str(folder)])
    assert store.manifest["dropped"] == {"excluded": 1, "duplicate": 1}


@pytest.mark.parametrize(
    ("content", "dropped"),
    [(b"", ""), (b"\n \n\t\n", r" \(dropped: blank 3\)"), (b"\xff\n", r" \(dropped: not_utf8 1\)")],
)
def test_nothing_left_is_an_error(
    tmp_path: Path, tiny_whisper: Path, content: bytes, dropped: str
) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(content)
    message = rf"s: no line of text is left of {content.count(10)} read{dropped}$"
    with pytest.raises(ValueError, match=message):
        make(path, tmp_path / "s", tiny_whisper)
    assert not (tmp_path / "s").exists()


def test_one_line_of_10_mb_among_others(tmp_path: Path, tiny_whisper: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"saya makan\n" + b"saya makan lagi " * 655_360 + b"\nshe left early\n")
    store = make(path, tmp_path / "s", tiny_whisper)
    assert [text for text, _ in texts_of(store, tiny_whisper)] == ["saya makan", "she left early"]
    assert store.manifest["dropped"] == {"line_too_long": 1}


def test_truncated_and_mistaken_files_are_named(tmp_path: Path, tiny_whisper: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    lines = "".join(f"saya makan {number} kali\n" for number in range(5000))
    good = {"a.txt.gz": gzip.compress(lines.encode())}
    table = pyarrow.table({"text": lines.splitlines()})
    pyarrow.parquet.write_table(table, tmp_path / "b.parquet")
    good["b.parquet"] = (tmp_path / "b.parquet").read_bytes()
    for name, content in good.items():
        (tmp_path / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=name):
            make(tmp_path / name, tmp_path / "s", tiny_whisper)
    (tmp_path / "c.csv").write_text("id,txt\n1,a\n")
    with pytest.raises(ValueError, match=r"c.csv: no column 'text' \(did you mean txt\?\)"):
        make(tmp_path / "c.csv", tmp_path / "s", tiny_whisper)
    found = texts_of(
        make(tmp_path / "c.csv", tmp_path / "s", tiny_whisper, field="txt", lang="ms"), tiny_whisper
    )
    assert found == [("a", "ms")]
    with pytest.raises(FileNotFoundError, match="none.txt"):
        make(tmp_path / "none.txt", tmp_path / "s", tiny_whisper)


def test_a_store_made_with_another_tokenizer_is_made_again(
    store: TextStore, jsonl: Path, tiny_whisper: Path, tiny_whisper_v3: Path
) -> None:
    with pytest.raises(ValueError, match="was made with another tokenizer"):
        store.check(PromptBuilder(tiny_whisper_v3))
    made = make(jsonl, store.path, tiny_whisper_v3)
    made.check(PromptBuilder(tiny_whisper_v3))
    with pytest.raises(ValueError, match="another tokenizer"):
        made.check(PromptBuilder(tiny_whisper))


def test_a_folder_of_something_else_is_not_replaced(
    jsonl: Path, tmp_path: Path, tiny_whisper: Path
) -> None:
    with pytest.raises(ValueError, match="exists and is not a token store"):
        make(jsonl, jsonl.parent, tiny_whisper)
    for manifest in ("{}", '{"files": []}', '{"a": 1}\n{"a": 2}\n', "[1]"):
        (jsonl.parent / "manifest.json").write_text(manifest)  # another program's
        with pytest.raises(ValueError, match="exists and is not a token store"):
            make(jsonl, jsonl.parent, tiny_whisper)
    assert jsonl.is_file()


def test_commands_print_what_a_store_holds(
    store: TextStore, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    stats([str(store.path)])
    out = capsys.readouterr().out
    assert "store: 3 lines, 19 tokens; cs 1, ms 1, en 1; 7 lines read = 3 train + 4 dropped" in out
    assert "(blank 1, empty 1, too_many_tokens 1, duplicate 1)" in out
    assert "| lines that switch |" in out
    sample(str(store.path), str(tiny_whisper), lines=2)
    assert len(capsys.readouterr().out.splitlines()) == 2
    with pytest.raises(ValueError, match="--lines: at least 1, got -2"):
        sample(str(store.path), str(tiny_whisper), lines=-2)


def test_figures_before_the_limits_are_those_of_each_text(
    store: TextStore, tmp_path: Path, tiny_whisper: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.txt").write_text("satu baris sahaja\n\n")
    make(tmp_path / "x.txt", tmp_path / "other", tiny_whisper)
    capsys.readouterr()
    stats([str(store.path), str(tmp_path / "other")])
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| lines |")]
    assert rows == ["| lines | 6 | 3 | 1 | 1 |"]


def test_the_command_line_passes_its_options(tmp_path: Path, tiny_whisper: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [{"body": f"saya makan {number} kali"} for number in range(60)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = tmp_path / "c.yaml"
    config.write_text("valid_share: 0.2\n")
    options = ["--input", str(path), "--output", str(tmp_path / "t"), "--model", str(tiny_whisper)]
    options += ["--valid-output", str(tmp_path / "v"), "--config", str(config), "--field", "body"]
    options += ["--nj", "1", "--strict", "--no_plots", "--lang-tokens", "ms:ms", "--keep_work"]
    assert main(["prepare", *options]) == 0
    assert len(TextStore(tmp_path / "t")) + len(TextStore(tmp_path / "v")) == 60
    assert TextStore(tmp_path / "t").manifest["made_from"]["config"]["strict"] is True
    assert (tmp_path / ".t.work").is_dir()
    assert np.all(TextStore(tmp_path / "t").lengths() > 3)


@pytest.mark.slow
def test_pictures_are_drawn(jsonl: Path, tmp_path: Path, tiny_whisper: Path) -> None:
    prepare([str(jsonl)], str(tmp_path / "s"), str(tiny_whisper), workers=1)
    for picture in ("text_switching.png", "text_content.png"):
        assert (tmp_path / "s/report" / picture).read_bytes()[:4] == b"\x89PNG"
