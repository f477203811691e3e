import gzip
import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_plugin.corpora import row_files, row_groups
from espnet_plugin.corpora.corpus import Skip
from espnet_plugin.corpora.row_files import need_columns, parts, records, table_units
from tests.fixtures.public_files import arrow, jsonl, parquet, tsv

ROWS = [{"id": str(n), "text": f"ayat {n}"} for n in range(50)]


def read(path, kind=None, header=None, columns=None):
    return [r for part in parts(path, kind, header) for _, _, r in records(part, columns)]


def write_table(folder, ending):
    path = folder / f"t.{ending}"
    if ending == "parquet":
        return parquet(path, ROWS, 7)
    if ending == "arrow":
        return arrow(path, ROWS, 7)
    if ending.startswith("jsonl"):
        jsonl(path, ROWS)
    else:
        mark = "," if ending.startswith("csv") else "\t"
        lines = [mark.join(("id", "text")), *(mark.join(row.values()) for row in ROWS)]
        path.write_bytes("\n".join(lines).encode())  # no line break at the end
    if ending.endswith(".gz"):
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    "ending", ["jsonl", "csv", "tsv", "jsonl.gz", "csv.gz", "tsv.gz", "parquet", "arrow"]
)
def test_small_parts_have_the_same_rows(tmp_path, ending, monkeypatch):
    path = write_table(tmp_path, ending)
    assert len(list(parts(path))) == 1
    assert read(path) == ROWS
    monkeypatch.setattr(row_files, "PART_BYTES", 100)
    monkeypatch.setattr(row_files, "GZIP_PART_BYTES", 100)
    monkeypatch.setattr(row_groups, "PART_ROWS", 5)
    monkeypatch.setattr(row_groups, "BATCH_BYTES", 50)
    cut = list(parts(path))
    assert len(cut) >= 5
    assert [part.start for part in cut[1:]] == [part.end for part in cut[:-1]]
    assert read(path) == ROWS
    names = [where for part in cut for where, _, _ in records(part)]
    assert len(set(names)) == len(ROWS)
    units = list(table_units(path, tmp_path, "more"))
    assert len({unit.key for unit in units}) == len(cut) and units[0].data == (cut[0], "more")


@pytest.mark.parametrize("ending", ["jsonl.gz", "csv.gz", "parquet", "arrow"])
def test_parts_are_reached_without_reading_all_before_them_again(tmp_path, ending, monkeypatch):
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        parquet(path, ROWS, len(ROWS))  # one group
    else:
        path = write_table(tmp_path, ending)
    monkeypatch.setattr(row_files, "GZIP_PART_BYTES", 100)
    monkeypatch.setattr(row_groups, "PART_ROWS", 5)
    monkeypatch.setattr(row_groups, "BATCH_BYTES", 50)
    cut = list(parts(path))
    row_files._decompressed.cache_clear()
    row_groups._open.clear()
    taken = []
    real_init, real_open = row_groups._Forward.__init__, row_files._decompressed

    class Stream:
        """Notes where it is sent back, which is decompressing again from the start."""

        def seek(self, place):
            if place < (stream := real_open(str(path), *state)).tell():
                taken.append("back")
            stream.seek(place)

        def read(self, size):
            return real_open(str(path), *state).read(size)

    def started(self, path, start, columns):
        taken.append(start)
        real_init(self, path, start, columns)

    state = path.stat().st_size, path.stat().st_mtime_ns
    monkeypatch.setattr(row_files, "_decompressed", lambda *_: Stream())
    monkeypatch.setattr(row_groups._Forward, "__init__", started)
    found = [one for part in cut for _, _, one in records(part)]
    assert len(cut) > 4 and found == ROWS
    assert taken == ([] if ending.endswith(".gz") else [0])
    # a process that gets every third part only goes forwards, too: back once, to the start
    third = [one for part in cut[::3] for _, _, one in records(part)]
    assert third == [one for one in ROWS if one in third] and len(third) < len(ROWS) / 2
    assert taken == (["back"] if ending.endswith(".gz") else [0, 0])


@pytest.mark.parametrize("ending", ["jsonl.gz", "parquet", "arrow"])
def test_readers_of_one_file_do_not_disturb_each_other(tmp_path, ending, monkeypatch):
    path = write_table(tmp_path, ending)
    monkeypatch.setattr(row_files, "GZIP_PART_BYTES", 100)
    monkeypatch.setattr(row_groups, "PART_ROWS", 5)
    first, second = list(parts(path))[:2]
    expected = [[one for _, _, one in records(part)] for part in (first, second)]
    both = [records(first), records(second)]
    found = [[next(reader)[2]] for reader in both]  # in turns, from here on
    for _ in range(len(expected[0])):
        for reader, rows in zip(both, found, strict=True):
            rows += [one for _, _, one in [next(reader, ("", 0, None))] if one is not None]
    assert found == expected
    next(records(first))  # left before its end
    assert [one for _, _, one in records(second)] == expected[1]


def test_quoted_fields_hold_line_breaks_wherever_a_part_ends(tmp_path, monkeypatch):
    rows = [{"id": str(n), "text": f'satu "{n}"\ndua,\t{n}' * (n % 3 + 1)} for n in range(30)]
    path = tsv(tmp_path / "t.tsv", [("id", "text"), *(row.values() for row in rows)], quoted=True)
    monkeypatch.setattr(row_files, "PART_BYTES", 60)
    assert len(list(parts(path, "quoted_tsv"))) > 5
    assert read(path, "quoted_tsv") == rows


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\r\0\ufeff"), max_size=20)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(FIELD.map(lambda text: "x" + text), FIELD), min_size=1, max_size=12))
def test_whatever_the_fields_hold_the_parts_hold_all_of_it(tmp_path, monkeypatch, fields):
    monkeypatch.setattr(row_files, "PART_BYTES", 16)
    path = tsv(tmp_path / "t.tsv", [("id", "text"), *fields], quoted=True)
    assert read(path, "quoted_tsv") == [{"id": a, "text": b} for a, b in fields]
    jsonl(tmp_path / "t.jsonl", [{"id": a, "text": b} for a, b in fields])
    assert read(tmp_path / "t.jsonl") == [{"id": a, "text": b} for a, b in fields]


def test_tsv_knows_no_quotes_and_may_have_no_header(tmp_path):
    path = tsv(tmp_path / "t.tsv", [("1", '"Ya'), ("2", 'kata "dia"')])
    found = read(path, header=("id", "text"))
    assert found == [{"id": "1", "text": '"Ya'}, {"id": "2", "text": 'kata "dia"'}]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv"])
def test_a_byte_order_mark_is_no_text(tmp_path, ending):
    path = write_table(tmp_path, ending)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path) == ROWS


def test_bad_records_are_skipped_with_their_place(tmp_path):
    path = jsonl(tmp_path / "t.jsonl", ['{"a": 1}', "{", b'{"a": "\xe9"}', "[]", " ", "[" * 90_000])
    (part,) = parts(path)
    found = [(where, r.reason if isinstance(r, Skip) else r) for where, _, r in records(part)]
    assert found == [
        ("t.jsonl@0", {"a": 1}),
        ("t.jsonl@9", "not JSON"),
        ("t.jsonl@11", "not UTF-8"),
        ("t.jsonl@22", "not a JSON object"),
        ("t.jsonl@27", "not JSON"),
    ]
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,b\n1,2\n1\n1,2,3\ncaf\xe9,1\n\n"x,y",3\n')
    (part,) = parts(path)
    found = [r.reason if isinstance(r, Skip) else r for _, _, r in records(part)]
    assert found == [
        {"a": "1", "b": "2"},
        "another number of columns",
        "another number of columns",
        "not UTF-8",
        {"a": "x,y", "b": "3"},
    ]
    assert next(iter(records(part)))[0] == "t.csv@4"


def test_columns_are_chosen_and_checked(tmp_path):
    path = write_table(tmp_path, "parquet")
    assert read(path, columns=["text", "nothing"])[1] == {"text": "ayat 1"}
    (part,) = parts(path)
    need_columns(part, "id", "text")
    with pytest.raises(
        ValueError, match=r"t\.parquet: has no column 'txt' \(did you mean text\?\)"
    ):
        need_columns(part, "txt")


@pytest.mark.parametrize("ending", ["parquet", "arrow", "jsonl.gz", "csv.gz"])
@pytest.mark.parametrize("cut", [1, 60])
def test_truncated_files_are_errors(tmp_path, ending, cut):
    path = write_table(tmp_path, ending)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(ValueError, match=rf"t\.{ending}: truncated or damaged"):
        read(path)


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_damage_inside_is_an_error(tmp_path, ending, monkeypatch):
    path = write_table(tmp_path, ending)
    if ending == "arrow":
        path.write_bytes(b"this is no stream" + path.read_bytes()[-8:])
    else:
        data = bytearray(path.read_bytes())
        data[30:400] = bytes(370)
        path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"t\.{ending}: truncated or damaged"):
        read(path)


def test_arrow_files_with_a_footer_are_read_too(tmp_path):
    table = pa.Table.from_pylist(ROWS)
    with (
        pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table, 9)
    assert read(tmp_path / "t.arrow") == ROWS


def test_files_that_are_no_tables(tmp_path):
    for name, content, message in [
        ("t.txt", b"x", "not a table; allowed are"),
        ("t.parquet.gz", b"x", "not a table"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16"), "UTF-16"),
        ("t.jsonl", b"RIFF\0\0\0\0WAVE", "not UTF-8 text"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=message):
            list(parts(tmp_path / name))
    (tmp_path / "empty.jsonl").write_bytes(b"")
    assert list(parts(tmp_path / "empty.jsonl")) == []


def test_a_file_that_shrinks_while_it_is_read(tmp_path):
    path = write_table(tmp_path, "jsonl")
    (part,) = parts(path)
    path.write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match="has become shorter"):
        list(records(part))
