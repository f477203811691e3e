"""Text files cut into blocks and read back: every format, and bad input."""

import csv
import gzip
import io
import json
import lzma
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.text.sources import (
    Block,
    SourceSettings,
    blocks,
    expand,
    read,
    separated,
    where,
)

TEXTS = ["Saya nak book hotel", "kanak-kanak, kanak2", 'dia kata "jom"', "你好 lah", "dua  ruang"]


def zst(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zst,
    ".xz": lzma.compress,
}


def as_txt(texts: list[str]) -> bytes:
    return "".join(text + "\n" for text in texts).encode()


def as_jsonl(texts: list[str]) -> bytes:
    return as_txt([json.dumps({"text": t, "lang": "ms", "source": i % 2}) for i, t in rows(texts)])


def as_csv(texts: list[str]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["source", "text", "lang"])
    writer.writerows([i % 2, text, "ms"] for i, text in rows(texts))
    return file.getvalue().encode()


def as_tsv(texts: list[str]) -> bytes:
    return as_txt(["lang\ttext\tsource", *(f"ms\t{text}\t{i % 2}" for i, text in rows(texts))])


def as_parquet(texts: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    columns = {"n": list(range(len(texts))), "text": texts, "lang": ["ms"] * len(texts)}
    table = pa.table(columns | {"source": [i % 2 for i, _ in rows(texts)]})
    pq.write_table(table, sink, row_group_size=3)
    return sink.getvalue().to_pybytes()


def rows(texts: list[str]) -> list[tuple[int, str]]:
    return list(enumerate(texts))


MAKE = {"txt": as_txt, "jsonl": as_jsonl, "csv": as_csv, "tsv": as_tsv, "parquet": as_parquet}
NAMES = [
    f"a.{name}{ending}" for name in MAKE for ending in PACK if not (name == "parquet" and ending)
]


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read_all(paths: list[Path], **options: object) -> tuple[list[str], Counter[str], list[Block]]:
    """Read files; checks the accounting of each block and that blocks can be shipped."""
    chosen = SourceSettings(**options)  # type: ignore[arg-type]
    texts, dropped, made = [], Counter[str](), list(blocks(paths, chosen))
    for index, block in enumerate(made):
        assert block.index == index
        records = read(pickle.loads(pickle.dumps(block)), chosen)
        assert records.read == len(records.texts) + records.dropped.total()
        assert len(records.langs) == len(records.lines) == len(records.texts)
        texts += records.texts
        dropped += records.dropped
    return texts, dropped, made


@pytest.mark.parametrize("name", NAMES)
def test_formats(name: str, tmp_path: Path) -> None:
    _, kind, *ending = name.split(".")
    path = write(tmp_path / name, PACK["".join("." + e for e in ending)](MAKE[kind](TEXTS)))
    assert read_all([path])[0] == TEXTS
    small = SourceSettings(block_bytes=40, source_field="source")
    made = list(blocks([path], small))
    assert len(made) > 1 and list(blocks([path], small)) == made
    texts, langs, sources, lines = [], [], [], []
    for block in reversed(made):  # any order, any process
        records = read(block, small)
        texts = records.texts + texts
        langs = records.langs + langs
        sources = (records.sources or [records.source] * len(records.texts)) + sources
        lines = [where(block, line) for line in records.lines] + lines
    assert texts == TEXTS
    assert langs == [None if kind == "txt" else "ms"] * 5
    assert sources == (["a"] * 5 if kind == "txt" else ["0", "1", "0", "1", "0"])
    first = 2 if kind in ("csv", "tsv") else 1
    mark = ": row " if kind == "parquet" else ":"
    assert lines == [f"{path}{mark}{first + i}" for i in range(5)]


def test_kaldi_text_takes_its_languages_from_utt2lang(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    text = write(folder / "text", "a_1 saya nak\na_2\na_3 你好 lah\n".encode())
    chosen = SourceSettings(block_bytes=8)
    assert [read(b, chosen).langs for b in blocks([text], chosen)] == [[None], [None]]
    write(folder / "utt2lang", b"a_1 ms\na_2 en\na_3 cs\n")
    write(folder / "split1/1/text", b"a_1 not read\n")
    write(folder / "notes.txt", b"not read\n")
    assert expand([tmp_path]) == [text]
    found = [read(b, chosen) for b in blocks([text], chosen)]
    assert [(r.texts, r.langs, r.source) for r in found] == [
        (["saya nak"], ["ms"], "train"),
        (["你好 lah"], ["cs"], "train"),
    ]
    for damaged in (b"a_1 ms\na_3 cs\n", b"a_1 ms\na_2 en\n", b"a_1 ms\na_2\na_3 cs\n"):
        write(folder / "utt2lang", damaged)
        with pytest.raises(ValueError, match=r"utt2lang:[23]: found .* the same ids"):
            list(blocks([text], chosen))


FIELD = st.text(st.sampled_from('ab,"\n\r\t é你 '), max_size=12)


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(FIELD, min_size=1, max_size=12), block_bytes=st.integers(1, 60))
def test_csv_with_quotes_and_line_breaks_is_read_as_csv_reads_it(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], block_bytes: int
) -> None:
    path = write(tmp_path_factory.getbasetemp() / "property.csv", as_csv(texts))
    got, dropped, _ = read_all([path], block_bytes=block_bytes)
    assert got == [text.strip() for text in texts if text.strip()]
    assert set(dropped) <= {"blank"}


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=80), block_bytes=st.integers(1, 40), longest=st.integers(1, 20))
def test_blocks_hold_whole_lines_whatever_the_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, block_bytes: int, longest: int
) -> None:
    data = b"-\n" + data  # no byte order mark or magic number in front
    base = tmp_path_factory.getbasetemp()
    plain, packed = write(base / "p.txt", data), write(base / "p.txt.gz", gzip.compress(data, 1))
    expected, dropped = [], Counter[str]()
    for line in data.removesuffix(b"\n").split(b"\n"):
        try:
            text = line.decode().strip()
        except UnicodeDecodeError:
            text = "?"
        if len(line) > longest:
            dropped["line_too_long"] += 1
        elif b"\0" in line:
            dropped["nul_bytes"] += 1
        elif text == "?" and line.strip() != b"?":
            dropped["not_utf8"] += 1
        elif text:
            expected.append(text)
        else:
            dropped["blank"] += 1
    options = {"block_bytes": block_bytes, "max_line_bytes": longest}
    assert read_all([plain], **options)[:2] == (expected, dropped)
    assert read_all([packed], **options)[:2] == (expected, dropped)


# name, content, the texts that are left, what is dropped, where --strict stops
BAD_LINES = [
    ("a.txt", b"", [], {}, None),
    ("a.txt", b"\n \n\t\r\n", [], {"blank": 3}, None),
    ("a.txt", b"\xef\xbb\xbfsatu\r\ndua", ["satu", "dua"], {}, None),
    ("a.txt", b"satu\ncaf\xe9\ndua\n", ["satu", "dua"], {"not_utf8": 1}, r":2: not UTF-8: byte e9"),
    ("a.txt", b"satu\nd\0a\n\0\0", ["satu"], {"nul_bytes": 2}, r":2: has NUL bytes"),
    ("a.txt", b"satu\n" + b"x" * 101 + b"\n", ["satu"], {"line_too_long": 1}, r":2: longer than"),
    ("a.txt", "d\u2028ua\x85x\n".encode(), ["d\u2028ua\x85x"], {}, None),
    ("a.jsonl", b"", [], {}, None),
    ("a.jsonl", b"\n\n", [], {"blank": 2}, None),
    ("a.jsonl", b'{"text":"a"}\n{"text"', ["a"], {"not_json": 1}, r":2: not JSON \(Expect"),
    ("a.jsonl", b'{"text":"a"}\n' + b"[" * 99, ["a"], {"not_json": 1}, r":2: not JSON"),
    ("a.jsonl", b'{"text":"a"}\n["text"]', ["a"], {"missing_field": 1}, r":2: .* a JSON list"),
    ("a.jsonl", b'{"text":"a"}\n{"t":1}', ["a"], {"missing_field": 1}, r":2: no field .*: t"),
    ("a.jsonl", b'{"text":"a"}\n{"text":null}', ["a"], {"missing_field": 1}, r"holds no .*null"),
    ("a.jsonl", b'{"text":"a"}\n{"text":" "}', ["a"], {"blank": 1}, None),
    ("a.jsonl", b'{"text":"\\ud83d\\ude00"}\n{"text":"\\ud83d"}', ["😀"], {"not_utf8": 1}, r":2: "),
    ("a.jsonl", b'{"text":"a\xff"}\n{"text":"a"}', ["a"], {"not_utf8": 1}, r":1: not UTF-8"),
    (
        "a.jsonl",
        b'{"text":"a","lang":"\\ud83d"}\n{"text":"b"}',
        ["b"],
        {"not_utf8": 1},
        r":1: half",
    ),
    ("a.csv", b"", [], {}, None),
    ("a.csv", b"\n\n", [], {}, None),
    ("a.csv", b"text\n", [], {}, None),
    ("a.csv", b"\xef\xbb\xbftext,x\na,\n\nb,1\n", ["a", "b"], {"blank": 1}, None),
    ("a.csv", b"text,x\na,b,c\nok,\n", ["ok"], {"wrong_columns": 1}, r":2: 3 columns, the hea"),
    ("a.csv", b'text\n"a\nb"\n\xff\nok\n', ["a\nb", "ok"], {"not_utf8": 1}, r":4: not UTF-8"),
    ("a.csv", b"text\na\0\nok\n", ["ok"], {"nul_bytes": 1}, r":2: has NUL"),
    ("a.csv", b"text\na\rb\nok\n", ["ok"], {"not_csv": 1}, r":2: not CSV"),
    ("a.csv", b'text\n"' + b"\n" * 101 + b'"\nok\n', ["ok"], {"line_too_long": 1}, r":2: longer"),
    ("a.tsv", b'x\ttext\r\n1\t"a\r\n2\n', ['"a'], {"wrong_columns": 1}, r":3: 1 columns"),
    ("text", b"a_1 satu\na_2\n", ["satu"], {"blank": 1}, None),
]


@pytest.mark.parametrize(("name", "content", "expected", "dropped", "strict"), BAD_LINES)
def test_bad_lines_are_counted_or_errors(
    name: str, content: bytes, expected: list[str], dropped: dict, strict: str, tmp_path: Path
) -> None:
    path = write(tmp_path / name, content)
    for block_bytes in (7, 4 << 20):
        options = {"block_bytes": block_bytes, "max_line_bytes": 100}
        assert read_all([path], **options)[:2] == (expected, Counter(dropped))
        if strict is None:
            assert read_all([path], strict=True, **options)[0] == expected
        else:
            with pytest.raises(ValueError, match=strict):
                read_all([path], strict=True, **options)


def test_parquet_with_null_and_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array([b"ok", None, b"\xff", b" "], pa.binary())})
    pq.write_table(table, tmp_path / "a.parquet")
    texts, dropped, _ = read_all([tmp_path / "a.parquet"])
    assert texts == ["ok"]
    assert dropped == {"missing_field": 1, "not_utf8": 1, "blank": 1}
    with pytest.raises(ValueError, match=r"a\.parquet: row 2: null"):
        read_all([tmp_path / "a.parquet"], strict=True)


def test_a_source_that_no_file_can_hold_is_dropped(tmp_path: Path) -> None:
    lines = b'{"text":"a","site":"\\udc00"}\n{"text":"b","site":"\\ud83d\\ude00"}'
    path = write(tmp_path / "a.jsonl", lines)
    settings = SourceSettings(source_field="site")
    (records,) = [read(block, settings) for block in blocks([path], settings)]
    assert (records.texts, records.sources, records.dropped) == (["b"], ["😀"], {"not_utf8": 1})


def test_parquet_dictionary_columns(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_all([tmp_path / "a.parquet"])[0] == ["a", "b", "a"]


BIG = as_txt([f"{i} saya nak makan nasi lemak" for i in range(20_000)])
BAD_FILES = [
    ("a.txt", "saya".encode("utf-16"), r"a\.txt: UTF-16 text .*iconv -f UTF-16 -t UTF-8"),
    ("a.csv", "text".encode("utf-32"), r"a\.csv: UTF-32 text"),
    ("a.jsonl.gz", gzip.compress("saya".encode("utf-16"), mtime=0), r"a\.jsonl\.gz: UTF-16 text"),
    ("a.txt", gzip.compress(b"saya", mtime=0), r"the name says text, the content is gzip"),
    ("a.txt.gz", b"plain text", r"a\.txt\.gz: truncated or damaged \.gz"),
    ("a.txt.gz", b"", r"a\.txt\.gz: truncated: a \.gz file of 0 bytes"),
    *[
        (f"a.txt{end}", pack(BIG)[:cut], rf"a\.txt\{end}: truncated or damaged \{end}")
        for end, pack in PACK.items()
        if end
        for cut in (-1, 3000, 3)
    ],
    ("a.parquet", b"", r"a\.parquet: truncated or damaged parquet"),
    ("a.parquet", as_parquet(TEXTS)[:-9], r"a\.parquet: truncated or damaged parquet"),
    ("a.parquet", b"PAR1" + bytes(400) + as_parquet(TEXTS)[404:], r"truncated or damaged parquet"),
    ("a.jsonl", b'{"txt":"a","id":1}\n', r"'text' \(did you mean txt\?\); found: txt, id"),
    ("a.jsonl", b'{"text":1}\n', r"no line has text \(a JSON string\) in the field 'text'"),
    ("a.jsonl", b"saya\nnak\n", r"a\.jsonl: no line is a JSON object"),
    ("a.csv", b"Text,lang\na,ms\n", r"no column 'text' \(did you mean Text\?\); found: Text, lang"),
    ("a.tsv", b"saya nak\n", r"a\.tsv: no column 'text'; found: saya nak"),
    ("a.csv", b'text\nok\n"never\nclosed\n', r"a\.csv:3: a quoted field .* never closed"),
    (
        "a.csv",
        b"text,x\rsaya,1\rnak,2\r",
        r"a\.csv: no line can be read as .* end in \\n or \\r\\n",
    ),
    ("a.tsv", b"text\tx\rsaya\t1\rnak\t2\r", r"a\.tsv: no line can be read as the names of col"),
    ("a.csv", b",,\n", r"a\.csv: no line can be read as the names of columns"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES)
def test_bad_files_are_errors(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        read_all([write(tmp_path / name, content)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'text\nok\n"' + b"x\n" * 9000, r"a\.csv:3: a quoted field .* never closed"),
        (b"text\nok\n" + b"x" * (3 << 20), r"a\.csv: a line after line \d is longer than 8192"),
    ],
)
def test_csv_that_never_ends_is_noticed(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(separated, "LONGEST", 8192)
    cut = blocks([write(tmp_path / "a.csv", content)], SourceSettings(block_bytes=4096))
    with pytest.raises(ValueError, match=message):
        list(cut)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.tsv", "a.parquet"])
def test_fields_are_chosen_and_checked(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, MAKE[name[2:]](TEXTS))
    assert read_all([path], field="lang")[0] == ["ms"] * 5
    for options in ({"field": "txet"}, {"lang_field": "langg"}, {"source_field": "sauce"}):
        (wrong,) = options.values()
        with pytest.raises(ValueError, match=rf"{name}: no .*'{wrong}' \(did you mean"):
            read_all([path], **options)


def test_a_field_that_comes_late_is_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b'{"t":1}\nx\n' * 9000 + b'{"text":"a"}\n')
    texts, dropped, _ = read_all([path])
    assert texts == ["a"]
    assert dropped == {"missing_field": 9000, "not_json": 9000}


def test_text_of_a_parquet_file_must_be_strings(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", as_parquet(TEXTS))
    with pytest.raises(ValueError, match=r"column 'n' holds int64, strings are needed"):
        read_all([path], field="n")


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.jsonl", "a.csv", "a.parquet"])
def test_a_line_of_10_mb_is_dropped_in_little_memory(name: str, tmp_path: Path) -> None:
    long = "x" * 10_000_000
    kind = name.split(".")[1]
    data = MAKE[kind](["satu", long, "dua"])
    path = write(tmp_path / name, gzip.compress(data, 1) if name.endswith("gz") else data)
    del data, long
    tracemalloc.start()
    texts, dropped, _ = read_all([path], block_bytes=1 << 16)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (texts, dropped) == (["satu", "dua"], {"line_too_long": 1})
    if kind in ("txt", "jsonl"):
        assert peak < 9_000_000  # less than the line


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl.gz", "a.tsv", "a.csv"])
def test_memory_does_not_grow_with_the_file(name: str, tmp_path: Path) -> None:
    data = MAKE[name.split(".")[1]](["jom " * 2500] * 1000)  # 10 MB
    path = write(tmp_path / name, gzip.compress(data, 1) if name.endswith("gz") else data)
    del data
    chosen = SourceSettings(block_bytes=1 << 16)
    tracemalloc.start()
    count = sum(len(read(block, chosen).texts) for block in blocks([path], chosen))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 1000
    assert peak < 6_000_000


def test_what_is_asked_for_must_make_sense(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="block_bytes is 0"):
        SourceSettings(block_bytes=0)
    with pytest.raises(ValueError, match="field is empty"):
        SourceSettings(field="")
    with pytest.raises(FileNotFoundError, match=r"gone\.txt: no such file"):
        list(blocks([tmp_path / "gone.txt"], SourceSettings()))


def test_a_file_that_shrinks_after_it_was_cut_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"satu\ndua\n")
    (block,) = blocks([path], SourceSettings())
    write(path, b"satu\n")
    with pytest.raises(ValueError, match=r"a\.txt: has become shorter"):
        read(block, SourceSettings())
