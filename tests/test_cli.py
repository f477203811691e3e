import argparse
import errno
import io
import subprocess
import sys

import pytest

from espnet_plugin import cli


def make_parser() -> cli.Parser:
    parser = cli.parser("text", prog="tool")
    parser.add_argument("--stop_stage", type=int, default=3)
    parser.add_argument("--output", required=True)
    parser.add_argument("--train", action=argparse.BooleanOptionalAction, default=True)
    return parser


@pytest.mark.parametrize(
    "args",
    [
        ["--stop_stage", "4", "--output", "x"],
        ["--stop-stage", "4", "--output", "x"],
        ["--stop-stage=4", "--output=x"],
    ],
)
def test_dashes_and_underscores_alike(args):
    options = make_parser().parse_args(args)
    assert options.stop_stage == 4 and options.output == "x"


def test_values_keep_their_dashes():
    options = make_parser().parse_args(["--output=--a-b", "--no_train"])
    assert options.output == "--a-b" and options.train is False


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--stop-stag", "4", "--output", "x"],
            "unknown option --stop-stag (did you mean --stop_st",
        ),
        (["--ouput", "x"], "unknown option --ouput (did you mean --output?)"),
        (["--out", "x"], "unknown option --out "),  # no abbreviations
        (["--zzzzz", "--output", "x"], "unknown option --zzzzz\n"),
    ],
)
def test_unknown_options_name_the_nearest(args, message, capsys):
    with pytest.raises(SystemExit) as stop:
        make_parser().parse_args(args)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_subcommands(capsys):
    parser = cli.parser("text", prog="tool")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("format").add_argument("--dump_dir")
    assert parser.parse_args(["format", "--dump-dir", "d"]).dump_dir == "d"
    with pytest.raises(SystemExit):
        parser.parse_args(["format", "--dumpdirs", "d"])
    assert "--dumpdirs (did you mean --dump_dir?)" in capsys.readouterr().err


def test_rest_belongs_to_another_program():
    parser = cli.parser("text")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    assert parser.parse_args(["x", "--a-b"]).rest == ["x", "--a-b"]


def failing(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("ratio 2 is not in 0..1"), "error: ratio 2 is not in 0..1\n"),
        (FileNotFoundError(2, "No such file or directory", "a b"), "error: a b: No such file"),
        (FileNotFoundError("exp/init: run stage 5"), "error: exp/init: run stage 5\n"),
        (PermissionError(13, "Permission denied", "x"), "error: x: Permission denied"),
        (
            UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "bad"),
            "error: text is not utf-8 at byte 1 (ff)",
        ),
    ],
)
def test_mistakes_become_one_message(error, message, capsys, monkeypatch):
    monkeypatch.delenv(cli.DEBUG_VARIABLE, raising=False)
    with pytest.raises(SystemExit) as stop:
        cli.run(failing(error))
    assert stop.value.code == 2
    text = capsys.readouterr().err
    assert message in text and "Traceback" not in text


def test_notes_are_shown(capsys):
    error = ValueError("bad")
    error.add_note("in set train")
    with pytest.raises(SystemExit):
        cli.run(failing(error))
    assert "error: bad\nin set train\n" in capsys.readouterr().err


def test_a_full_disk_is_a_message_and_other_errors_of_the_system_are_not(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.run(failing(OSError(errno.ENOSPC, "No space left on device", "dump/x")))
    assert stop.value.code == 2
    assert "error: dump/x: No space left on device\nmake room" in capsys.readouterr().err
    with pytest.raises(OSError, match="Too many open files"):
        cli.run(failing(OSError(errno.EMFILE, "Too many open files")))


def test_debug_shows_the_traceback(capsys, monkeypatch):
    monkeypatch.setenv(cli.DEBUG_VARIABLE, "1")
    with pytest.raises(SystemExit):
        cli.run(failing(ValueError("bad")))
    assert "Traceback" in capsys.readouterr().err


def test_defects_keep_their_traceback():
    with pytest.raises(KeyError):
        cli.run(failing(KeyError("x")))


def test_exit_codes():
    assert cli.run(lambda: None) == 0
    with pytest.raises(SystemExit) as stop:
        cli.run(lambda: 3)
    assert stop.value.code == 3


def test_progress_writes_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    with cli.progress(3, "reading", "utt", stream, mininterval=0) as bar:
        for _ in range(3):
            bar.update()
    lines = stream.getvalue().splitlines()
    assert "\r" not in stream.getvalue()
    assert lines[-1].startswith("reading: 100%") and "3/3" in lines[-1] and "utt" in lines[-1]


def test_light_import():
    code = "import sys, espnet_plugin.cli; print({'torch', 'espnet2', 'tqdm'} & set(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "set()"
