import random
from pathlib import Path

import pytest

from espnet_plugin.bin.prepare_corpus import main
from espnet_plugin.corpora.mend import external_sort, mend_data_dir
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import DataDir

TABLES = {
    "wav.scp": "ali-1 /a b/1.wav\nali-2 x.ark:7\nzoe-1 sox z |\n",
    "text": "ali-1 saya nak kopi\nali-2 it's fine\nzoe-1 两 people\n",
    "utt2spk": "ali-1 ali\nali-2 ali\nzoe-1 zoe\n",
    "spk2utt": "ali ali-1 ali-2\nzoe zoe-1\n",
    "utt2lang": "ali-1 ms\nali-2 en\nzoe-1 cs\n",
    "utt2tags": "ali-1 ms ms ms\nali-2 en en en\nzoe-1 zh en\n",
    "utt2dur": "ali-1 1.000\nali-2 2.500\nzoe-1 3.100\n",
    "utt2times": "ali-1 0.00:0.50:2 0.60:1.00:1\nali-2 0.00:2.50:2\nzoe-1 0.00:3.10:2\n",
    "reco2dur": "ali-1 1.0\nali-2 2.5\nzoe-1 3.1\n",
}
SEGMENTS = TABLES | {
    "wav.scp": "r1 /1.wav\nr2 /2.wav\n",
    "segments": "ali-1 r2 0 1\nali-2 r1 1.5 4\nzoe-1 r2 3 6.1\n",
    "reco2dur": "r1 4.0\nr2 6.0\n",
}


def data_dir(folder: Path, tables: dict[str, str], **changed: str | None) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in (
        tables | {k.replace("wav_scp", "wav.scp"): v for k, v in changed.items()}
    ).items():
        if text is not None:
            (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    return folder


@pytest.mark.parametrize("tables", [TABLES, SEGMENTS])
def test_a_valid_directory_has_no_faults(tmp_path, tables):
    path = data_dir(tmp_path / "d", tables)
    assert validate_data_dir(path) == []
    DataDir.load(path)


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"utt2lang": None}, "utt2lang: does not exist; required in a data directory"),
        ({"text": ""}, "text: is empty; at least one line"),
        ({"text": "ali-1 a\nali-2\nzoe-1 b\n"}, "text:2: 'ali-2' has no value"),
        ({"text": "ali-1 a\nali-2 b\n"}, "text: 'zoe-1' is missing; all utterances of wav.scp"),
        ({"utt2dur": "ali-1 1\nbob 1\n"}, "utt2dur:2: 'bob' is not in wav.scp"),
        (
            {"utt2spk": "ali-1 ali\nzoe-1 zoe\nali-2 ali\n"},
            "utt2spk:3: 'ali-2' after 'zoe-1'; sorted",
        ),
        ({"utt2lang": "ali-1 ms\nali-1 en\n"}, "utt2lang:2: 'ali-1' stands there again; every id"),
        ({"text": "\ufeffali-1 a\n"}, "text:1: starts with one; no byte order mark is allowed"),
        ({"text": "ali-1 a\r\nali-2 b\n"}, "text:1: has a \\r or NUL; Unix line ends"),
        ({"text": "ali-1 a\nali-2 b\nzoe-1 c"}, "text:3: ends without; every line ends with \\n"),
        ({"text": "ali-1 a\n\nzoe-1 c\n"}, "text:2: is empty or starts with white space"),
        ({"text": "ali-1 \udcff\n"}, "text:1: is not UTF-8 at byte 7; UTF-8 is needed"),
        ({"utt2spk": "ali-1 ali\nali-2 bob\nzoe-1 zoe\n"}, "utt2spk:2: 'ali-2' has 'bob'; the utt"),
        (
            {"utt2spk": "ali-1 ali-1\nali-2 ali\nzoe-1 zoe\n"},
            "utt2spk:2: speaker 'ali' after 'ali-1'",
        ),
        ({"spk2utt": "ali ali-1\nzoe zoe-1\n"}, "spk2utt:2: lists zoe-1 of zoe where utt2spk has"),
        (
            {"spk2utt": TABLES["spk2utt"] + "zoo zoo-1\n"},
            "spk2utt:3: lists zoo-1, which utt2spk lacks",
        ),
        ({"utt2lang": "ali-1 ms en\nali-2 en\nzoe-1 cs\n"}, "utt2lang:1: 'ali-1' has 'ms en'; one"),
        (
            {"utt2dur": "ali-1 1\nali-2 0\nzoe-1 x\n"},
            "utt2dur:2: 'ali-2' has '0'; seconds above 0 (so",
        ),
        ({"utt2tags": "ali-1 ms ms\nali-2 en en en\nzoe-1 zh en\n"}, "has 2 tags for 3 words"),
        (
            {"utt2tags": "ali-1 ms ms eng\nali-2 en en en\nzoe-1 zh en\n"},
            "'ali-1' has 'eng'; tags of",
        ),
        ({"utt2times": TABLES["utt2times"].replace("2.50:2", "2.50:3")}, "times for 3 words of 2"),
        (
            {"utt2times": TABLES["utt2times"].replace("0.60", "0.60:")},
            "has '0.60::1.00:1'; START:END",
        ),
        (
            {"utt2times": TABLES["utt2times"].replace("1.00:1", "1.30:1")},
            "in order and within the utt",
        ),
        ({"utt2times": TABLES["utt2times"].replace("0.00:0.50:2", "0.70:0.90:2")}, "in order and"),
    ],
)
def test_each_rule(tmp_path, changed, fault):
    found = [str(f) for f in validate_data_dir(data_dir(tmp_path / "d", TABLES, **changed))]
    assert any(fault in text for text in found), found


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        (
            {"segments": "ali-1 r2 0 1\nali-2 r1 4 4\nzoe-1 r2 3 6\n"},
            "segments:2: 'ali-2' has 'r1 4 4'",
        ),
        ({"segments": "ali-1 r2 0\nali-2 r1 1 2\nzoe-1 r2 3 6\n"}, "RECORDING START END with 0 <="),
        (
            {"segments": "ali-1 r2 0 1\nali-2 r3 1.5 4\nzoe-1 r2 3 6\n"},
            "segments:2: 'r3' is not in wav",
        ),
        (
            {"segments": "ali-1 r2 0 1\nali-2 r2 1.5 4\nzoe-1 r2 3 6\n"},
            "wav.scp:1: 'r1' is not in seg",
        ),
        (
            {"segments": "ali-1 r2 0 1\nali-2 r1 1.5 4\nzoe-1 r2 3 7\n"},
            "'zoe-1' ends at 7.0 of 6.000 s",
        ),
        ({"utt2dur": "ali-1 1\nali-2 2.6\nzoe-1 3.1\n"}, "utt2dur:2: 'ali-2' has 2.6, not 2.500"),
        ({"reco2dur": "r1 4.0\nr3 6.0\n"}, "reco2dur:2: 'r3' is not in wav.scp"),
        ({"reco2dur": "r1 0\nr2 6.0\n"}, "reco2dur:1: 'r1' has '0'; seconds above 0"),
    ],
)
def test_each_rule_of_segments(tmp_path, changed, fault):
    found = [str(f) for f in validate_data_dir(data_dir(tmp_path / "d", SEGMENTS, **changed))]
    assert any(fault in text for text in found), found


def test_an_open_end_is_allowed(tmp_path):
    segments = SEGMENTS["segments"].replace("r2 3 6.1", "r2 3 -1")
    assert validate_data_dir(data_dir(tmp_path / "d", SEGMENTS, segments=segments)) == []


def test_mending_order_and_duplicates(tmp_path, capsys):
    random.seed(0)
    path = tmp_path / "d"
    shuffled = {}
    for name, text in SEGMENTS.items():
        lines = text.splitlines(keepends=True) + text.splitlines(keepends=True)[:1]
        random.shuffle(lines)
        shuffled[name] = "".join(lines)
    shuffled["text"] += "zoe-1 another text\n"
    data_dir(path, shuffled)
    with pytest.raises(ValueError, match="unsorted|duplicate"):
        DataDir.load(path)
    changes = mend_data_dir(path, run=2)
    assert f"{path / 'text'}: sorted; dropped 1 lines given twice and 1 with the id" in changes[2]
    assert validate_data_dir(path) == []
    for name, text in SEGMENTS.items():
        assert (path / name).read_text() == text
    assert mend_data_dir(path) == []
    assert main(["validate", "--input", str(path)]) == 0
    (path / "text").write_text("b x\na y\n")
    assert main(["validate", "--input", str(path), "--mend", "true"]) == 1
    printed = capsys.readouterr().out
    assert "mended: " in printed and printed.endswith("not valid\n")
    for call in (validate_data_dir, mend_data_dir):
        with pytest.raises(FileNotFoundError, match="none: no such data directory"):
            call(tmp_path / "none")


def test_external_sort_is_stable_and_complete(tmp_path):
    random.seed(1)
    lines = [b"%d %d\n" % (random.randrange(20), n) for n in range(500)]
    key = lambda line: (line.split()[0],)  # noqa: E731
    for run in (7, 100, 1000):
        assert list(external_sort(lines, key, tmp_path, run)) == sorted(lines, key=key)
    assert list(tmp_path.iterdir()) == []
