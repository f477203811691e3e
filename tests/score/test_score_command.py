"""`bin.score` and `local/score.sh` on files."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_plugin.bin import score as command
from tests.score.conftest import needs_sclite
from tests.score.experiment import write_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "a corpus"
    write_table(root / "test_cs/text", {"s-1": "Saya nak book hotel.", "s-2": "Okay lah"})
    write_table(root / "hyp/text", {"s-1": "saya nak book hotel", "s-2": ""})
    return root


def arguments(root: Path, *more: str) -> list[str]:
    paths = [("--ref", "test_cs/text"), ("--hyp", "hyp/text"), ("--output", "out")]
    return [word for name, path in paths for word in (name, str(root / path))] + list(more)


@needs_sclite
def test_score(files: Path, capsys) -> None:
    write_table(files / "tags", {"s-1": "ms ms en en", "s-2": "en shared"})
    command.main(arguments(files, "--lang", "cs", "--name", "mine", "--tags", str(files / "tags")))
    assert "mine on test_cs: WER 33.33 %" in capsys.readouterr().out
    (result,) = json.loads((files / "out/results.json").read_text())["results"]
    assert (result["system"], result["del"], result["n_pier"]) == ("mine", 2, 2)
    assert (files / "out/score_wer/result.txt").is_file()


@needs_sclite
def test_the_language_may_stand_beside_the_references(files: Path) -> None:
    write_table(files / "test_cs/utt2lang", {"s-1": "cs", "s-2": "cs"})
    command.main(arguments(files))
    (result,) = json.loads((files / "out/results.json").read_text())["results"]
    assert result["system"] == "hyp"


def test_the_language_has_to_be_known(files: Path) -> None:
    with pytest.raises(ValueError, match="which language"):
        command.main(arguments(files))
    with pytest.raises(ValueError, match="give one of them"):
        command.main(arguments(files, "--lang", "cs", "--utt2lang", "x"))


def test_not_utf8_names_file_and_line(files: Path) -> None:
    (files / "hyp/text").write_bytes(b"s-1 saya\ns-2 caf\xe9\n")
    with pytest.raises(ValueError, match="text:2: is not UTF-8"):
        command.main(arguments(files, "--lang", "cs"))


def test_importing_and_help_are_light() -> None:
    code = (
        "import sys; import espnet_plugin.bin.report, espnet_plugin.bin.score\n"
        "import espnet_plugin.score.commands\n"
        "print([m for m in ('torch', 'espnet2', 'transformers', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@needs_sclite
def test_score_sh(files: Path) -> None:
    write_table(files / "test_cs/utt2lang", {"s-1": "cs", "s-2": "cs"})
    decoded = files / "exp/init/decode_greedy/test_cs"
    decoded.mkdir(parents=True)
    shutil.copy(files / "hyp/text", decoded / "text")

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        line = [str(ROOT / "local/score.sh"), "--python", sys.executable, "--dumpdir", str(files)]
        return subprocess.run([*line, *words], capture_output=True, text=True, env=os.environ)

    done = run(f"{files}/exp/init")
    assert done.returncode == 0, done.stderr
    assert "init on test_cs: WER 33.33 %" in done.stdout
    assert (decoded / "score_cer/result.txt").is_file()
    done = run("--sets", "test_xx", f"{files}/exp/init")
    assert done.returncode == 2
    assert "recipe stage 12 makes it" in done.stderr
    assert "name at least one" in run().stderr
