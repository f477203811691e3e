import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_plugin.data import DataDir, Segment, read_table, write_table


def write(path, **tables):
    path.mkdir(exist_ok=True)
    for name, text in tables.items():
        (path / name.replace("wav_scp", "wav.scp")).write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def good(tmp_path):
    return write(
        tmp_path / "a set",
        wav_scp="ali-1 /a b/x 1.wav\nali-2 y.wav\nzoë-1 z.wav\n",
        text="ali-1 saya nak  kopi\nali-2\nzoë-1 日本 ok\n",
        utt2spk="ali-1 ali\nali-2 ali\nzoë-1 zoë\n",
        spk2utt="ali ali-1 ali-2\nzoë zoë-1\n",
        utt2lang="ali-1 cs\nali-2 ms\nzoë-1 en\n",
        utt2tags="ali-1 ms ms ms\nali-2\nzoë-1 zh en\n",
    )


def test_load(good):
    data = DataDir.load(good, languages=["cs", "ms", "en"])
    assert data.utterances == ["ali-1", "ali-2", "zoë-1"]
    assert data.wav["ali-1"] == "/a b/x 1.wav"  # a path with spaces
    assert data.text["ali-2"] == ""
    assert data.spk2utt == {"ali": ["ali-1", "ali-2"], "zoë": ["zoë-1"]}
    assert data.extra == {"utt2tags": {"ali-1": "ms ms ms", "ali-2": "", "zoë-1": "zh en"}}


def test_write_gives_the_same_directory(good, tmp_path):
    data = DataDir.load(good)
    data.write(tmp_path / "copy")
    names = sorted(p.name for p in good.iterdir())
    assert names == sorted(p.name for p in (tmp_path / "copy").iterdir())
    for name in names:
        assert (good / name).read_bytes() == (tmp_path / "copy" / name).read_bytes()


def test_subset(good):
    data = DataDir.load(good).subset(["zoë-1"])
    assert data.utterances == ["zoë-1"] and list(data.wav) == ["zoë-1"]
    assert data.extra["utt2tags"] == {"zoë-1": "zh en"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a 1\na 2\n", ":2: duplicate id 'a', first in line 1"),
        (b"b 1\na 2\nc 3\n", ":2: unsorted: 'a' after 'b'; sort with: LC_ALL=C sort"),
        (b"a 1\nB 2\n", ":2: unsorted: 'B' after 'a'"),  # bytes, not the locale's order
        (b"a caf\xe9\n", ":1: is not UTF-8: byte e9 in column 6"),
        (b"a 1\nb\n", ":2: 'b' has no value"),
        (b"a 1\r\nb 2\r\n", ":1: has a carriage return (\\r); use Unix line ends (\\n) (so in 2"),
        (b"\xef\xbb\xbfa 1\n", ":1: starts with a byte order mark"),
        (b"a 1\x00\n", ":1: has a NUL byte"),
        (b"a 1\n\nb 2\n", ":2: is empty or starts with white space"),
        (b" a 1\n", ":1: is empty or starts with white space"),
    ],
)
def test_faults_of_a_table(tmp_path, data, message):
    path = tmp_path / "wav.scp"
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught:
        read_table(path)
    assert str(path) + message in str(caught.value)


def test_all_kinds_of_faults_in_one_message(tmp_path):
    (tmp_path / "text").write_bytes(b"b x\na \xff\na y\r\n")
    with pytest.raises(ValueError, match=r"(?s)text:3: has a carriage.*|text:2: is not UTF-8"):
        read_table(tmp_path / "text")


def test_missing_table(tmp_path):
    with pytest.raises(FileNotFoundError, match="text: no such file"):
        read_table(tmp_path / "text")


def test_last_line_without_end(tmp_path):
    (tmp_path / "t").write_bytes(b"a 1\nb 2")
    assert read_table(tmp_path / "t") == {"a": "1", "b": "2"}


ids = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1)
values = st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0")).map(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.dictionaries(ids, values, min_size=1))
def test_what_is_written_is_read(tmp_path, table):
    write_table(tmp_path / "t", table)
    read = read_table(tmp_path / "t", allow_empty=True)
    assert read == table and list(read) == sorted(table, key=str.encode)


@pytest.mark.parametrize(
    "table", [{"a b": "x"}, {"a": "x\ny"}, {"a": " x"}, {"a": "x "}, {"": "x"}]
)
def test_write_refuses_what_would_not_be_read(tmp_path, table):
    with pytest.raises(ValueError, match="cannot have the value"):
        write_table(tmp_path / "t", table)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("text", "ali-1 a\nzoë-1 b\n", "text: 1 utterances of wav.scp are missing: ali-2"),
        (
            "utt2lang",
            "ali-1 cs\nali-2 ms\nbob-1 en\nzoë-1 en\n",
            "utt2lang: 1 utterances are not in wav.scp: bob-1",
        ),
        ("utt2tags", "ali-1 ms\n", "utt2tags: 2 utterances of wav.scp are missing"),
        (
            "utt2spk",
            "ali-1 ali\nali-2 eve\nzoë-1 zoë\n",
            "the speaker must be the start of the utterance id, .* 1 are not: ali-2 .speaker eve",
        ),
        ("spk2utt", "ali ali-1\nzoë zoë-1\n", "spk2utt: differs from utt2spk for ali-2"),
        ("spk2utt", "ali ali-1 ali-2 ali-2\nzoë zoë-1\n", "spk2utt: lists an utterance twice"),
        ("utt2lang", "ali-1 cs\nali-2 ms en\nzoë-1 en\n", "'ali-2' has 'ms en', not one language"),
        ("utt2num_samples", "ali-1 5\nali-2 x\nzoë-1 5\n", "'ali-2' has 'x', not a count"),
    ],
)
def test_tables_that_disagree(good, name, text, message):
    (good / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        DataDir.load(good)


def test_all_faults_of_a_directory_are_shown(good):
    write(good, text="ali-1 a\n", spk2utt="ali ali-1\n")
    with pytest.raises(ValueError, match=r"(?s)/text: 2 utterances.*spk2utt: differs"):
        DataDir.load(good)
    (good / "text").write_bytes(b"b x\na x\n")
    (good / "utt2spk").write_bytes(b"a \xff\n")
    with pytest.raises(ValueError, match=r"(?s)text:2: unsorted.*utt2spk:1: is not UTF-8"):
        DataDir.load(good)


def test_unknown_language_names_the_nearest(good):
    with pytest.raises(ValueError, match=r"'zoë-1' has the language 'en' \(did you mean eng\?\)"):
        DataDir.load(good, languages=["cs", "ms", "eng"])


def test_language_for_a_directory_without_utt2lang(good):
    (good / "utt2lang").unlink()
    with pytest.raises(FileNotFoundError, match="has no utt2lang; or give --language CODE"):
        DataDir.load(good)
    assert set(DataDir.load(good, language="cs").utt2lang.values()) == {"cs"}


def test_missing_directory_and_empty_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="none: no such data directory"):
        DataDir.load(tmp_path / "none")
    empty = write(tmp_path / "e", wav_scp="", text="", utt2spk="", utt2lang="")
    with pytest.raises(ValueError, match="holds no utterance"):
        DataDir.load(empty)


def segmented(tmp_path, segments):
    return write(
        tmp_path / "s",
        wav_scp="call1 c.wav\n",
        segments=segments,
        text="a-1 x\na-2 y\n",
        utt2spk="a-1 a\na-2 a\n",
        utt2lang="a-1 ms\na-2 ms\n",
    )


def test_segments(tmp_path):
    data = DataDir.load(segmented(tmp_path, "a-1 call1 0 1.5\na-2 call1 1.5 -1\n"))
    assert data.segments == {
        "a-1": Segment("call1", 0.0, 1.5),
        "a-2": Segment("call1", 1.5, -1.0),
    }
    assert data.subset(["a-1"]).wav == {"call1": "c.wav"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a-2 call2 1 2", "recording 'call2' is not in wav.scp"),
        ("a-2 call1 2 1", "'a-2' has 'call1 2 1', not 'RECORDING START END'"),
        ("a-2 call1 -1 1", "not 'RECORDING START END'"),
        ("a-2 call1 nan 1", "not 'RECORDING START END'"),
        ("a-2 call1 1", "not 'RECORDING START END'"),
        ("a-2 call1 0 1 2", "not 'RECORDING START END'"),
    ],
)
def test_bad_segments(tmp_path, line, message):
    with pytest.raises(ValueError, match=message):
        DataDir.load(segmented(tmp_path, f"a-1 call1 0 1\n{line}\n"))
