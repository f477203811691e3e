"""Which files are text, and what identifies them."""

from pathlib import Path

import pytest

from espnet_plugin.text.sources import expand, fingerprint


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_expand_finds_files_folders_and_globs(tmp_path: Path, caplog) -> None:
    names = ["b/y.TXT", "b/c/x.jsonl.zst", "a.csv", "b/.hidden.txt", "b/.git/z.txt", "b/README.md"]
    a, *_ = made = [write(tmp_path / name, b"text\n") for name in names]
    wanted = sorted([made[2], made[1], made[0]])
    assert expand([tmp_path]) == wanted
    assert "skipped 1 other files: .md (1)" in caplog.text
    assert expand([a, str(tmp_path / "b/../b/y.TXT"), tmp_path / "b"]) == sorted(made[:2])
    assert expand([f"{tmp_path}/**/*.jsonl*"]) == [made[1]]
    (tmp_path / "b/loop").symlink_to(tmp_path)
    assert expand([tmp_path]) == wanted


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ValueError, "no text is given"),
        (["{}/a.jsnl"], ValueError, r"a\.jsnl: the ending '\.jsnl' \(did you mean \.jsonl\?\)"),
        (["{}/a.md.gz"], ValueError, r"the ending '\.md' is not known to be text; allowed are \.t"),
        (["{}/a.parquet.gz"], ValueError, r"parquet is compressed inside"),
        (["{}/LICENSE"], ValueError, r"a name without ending"),
        (["{}/*"], ValueError, r"is not known to be text"),
        (["{}/none"], ValueError, r"none: no text in this folder, only \.md \(1\)"),
        (["{}/empty"], ValueError, r"empty: no text in this folder; allowed"),
        (["{}/a.txt2"], FileNotFoundError, r"no such file or folder \(did you mean a\.txt\?\)"),
        (["{}/*.csv"], FileNotFoundError, r"\*\.csv: matches no file"),
    ],
)
def test_what_expand_refuses(
    given: list[str], error: type[Exception], message: str, tmp_path: Path
) -> None:
    for name in ("a.jsnl", "a.md.gz", "a.parquet.gz", "LICENSE", "a.txt", "none/x.md"):
        write(tmp_path / name, b"x\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=message):
        expand([name.format(tmp_path) for name in given])


def test_fingerprint_names_contents_not_places(tmp_path: Path) -> None:
    for place in ("x", "y"):
        write(tmp_path / place / "train/text", b"a_1 satu\n")
        write(tmp_path / place / "train/utt2lang", b"a_1 ms\n")
        write(tmp_path / place / "b.txt", b"")
    one, two = (fingerprint(expand([tmp_path / place])) for place in ("x", "y"))
    assert one == two
    assert [(fact["name"], fact["bytes"]) for fact in one] == [
        ("b.txt", 0),
        ("train/text", 9),
        ("train/utt2lang", 7),
    ]
    assert one[0]["sha256"].startswith("e3b0c44298fc1c14")
