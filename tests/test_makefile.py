import os
import re
import runpy
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

# What the scripts need of the system; everything else is absent from their PATH.
TOOLS = "bash cat cksum cp dirname env find grep expand head make mkdir mv rm sed sh touch tr uname"

# Stands for a Python 3.13: passes for one, makes a .venv of itself, notes what pip is asked for.
FAKE_PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c "*) exit 0 ;;
    "--version ") echo "Python 3.13.0" ;;
    "-m venv") echo "venv $*" >>"$CALLS"; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip") echo "pip $*" >>"$CALLS"; exit "${PIP_STATUS:-0}" ;;
    *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


class Machine:
    """A checkout and a PATH with nothing in it but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "check out"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        self.bin.mkdir()
        (self.checkout / "local").mkdir(parents=True)
        for name in ("Makefile", "setup.py", "constraints.txt", "local/setup_env.sh"):
            shutil.copy(ROOT / name, self.checkout / name)
        for name in TOOLS.split():
            program = shutil.which(name)
            assert program, f"the test needs {name}"
            (self.bin / name).symlink_to(program)
        self.calls.touch()
        self.variables = {
            "PATH": str(self.bin),
            "HOME": str(folder / "home"),
            "CALLS": str(self.calls),
            "SCTK_DIRS": "",
        }

    def program(self, path: str | Path, script: str = "#!/bin/sh\nexit 0\n") -> None:
        path = self.bin / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def make(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=self.checkout,
            env=self.variables | variables,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine that has the system programs and no Python."""
    machine = Machine(tmp_path)
    machine.program("espeak-ng")
    machine.program("sclite")
    return machine


def test_no_python_says_how_to_get_one(machine: Machine) -> None:
    result = machine.make("env")
    assert result.returncode != 0
    assert "no Python 3.12 or 3.13" in result.stderr
    for way in ("apt-get install python3.12", "brew install python@3.13", "pyenv install", "uv "):
        assert way in result.stderr
    assert not (machine.checkout / ".venv").exists()


@pytest.mark.parametrize("target", ["test", "test-slow"])
def test_tests_do_not_depend_on_a_gpu(machine: Machine, target: str) -> None:
    result = machine.make("-n", target)
    assert "CUDA_VISIBLE_DEVICES= .venv/bin/python -m pytest" in result.stdout


def test_shim_that_fails_is_passed_over(machine: Machine, tmp_path: Path) -> None:
    machine.program("python3.13", "#!/bin/sh\nexit 127\n")
    machine.program("python3.12", "#!/bin/sh\nexit 127\n")
    versions = tmp_path / "home/.pyenv/versions"
    machine.program(versions / "3.12.1/bin/python3", FAKE_PYTHON)
    result = machine.make("env")
    assert result.returncode == 0, result.stderr
    assert f"creating .venv with {versions}/3.12.1/bin/python3" in result.stdout


def test_python_that_uv_has_installed(machine: Machine, tmp_path: Path) -> None:
    python = tmp_path / "uv versions/3.12/bin/python3.12"
    machine.program(python, FAKE_PYTHON)
    machine.program("uv", f"#!/bin/sh\n[ \"$3\" = 3.12 ] && echo '{python}'\n")
    result = machine.make("env")
    assert result.returncode == 0, result.stderr
    assert f"with {python}" in result.stdout


def test_python_of_the_user(machine: Machine, tmp_path: Path) -> None:
    machine.program("python3.13", FAKE_PYTHON)
    machine.program(tmp_path / "mine/python", FAKE_PYTHON)
    result = machine.make("env", f"PYTHON={tmp_path}/mine/python")
    assert f"with {tmp_path}/mine/python" in result.stdout
    shutil.rmtree(machine.checkout / ".venv")
    machine.program(tmp_path / "mine/python", "#!/bin/sh\nexit 1\n")
    result = machine.make("env", f"PYTHON={tmp_path}/mine/python")
    assert result.returncode != 0
    assert "does not run as Python 3.12 or 3.13" in result.stderr


def test_second_run_does_nothing_until_something_changes(machine: Machine) -> None:
    machine.program("python3.13", FAKE_PYTHON)
    assert machine.make("env").returncode == 0
    first = machine.called()
    assert [call.split()[0] for call in first] == ["venv", "pip"]
    assert "-c constraints.txt -e .[train,text,ct2,demo,test]" in first[1]
    result = machine.make("env")
    assert "up to date" in result.stdout
    assert machine.called() == first
    with (machine.checkout / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert machine.make("env").returncode == 0
    assert [call.split()[0] for call in machine.called()] == ["venv", "pip", "pip"]


def test_failed_installation_is_not_taken_for_complete(machine: Machine) -> None:
    machine.program("python3.13", FAKE_PYTHON)
    result = machine.make("env", PIP_STATUS="1")
    assert result.returncode != 0
    assert "pip could not install" in result.stderr
    assert machine.make("env").returncode == 0
    assert [call.split()[0] for call in machine.called()] == ["venv", "pip", "pip"]


@pytest.mark.parametrize("programs", [["sclite"], ["espeak-ng"], ["sclite", "espeak-ng"]])
def test_missing_program_without_apt_says_the_commands(
    machine: Machine, programs: Sequence[str]
) -> None:
    machine.program("python3.13", FAKE_PYTHON)
    for name in programs:
        (machine.bin / name).unlink()
    result = machine.make("env")
    assert result.returncode != 0
    packages = [{"sclite": "sctk"}.get(name, name) for name in programs]
    assert re.search("missing system programs: .*" + packages[0], result.stderr)
    install = next(line for line in result.stderr.splitlines() if "sudo apt-get update" in line)
    assert all(package in install for package in packages)
    assert "brew install espeak-ng" in result.stderr
    assert "usnistgov/SCTK" in result.stderr
    assert machine.called() == []  # nothing is downloaded before the programs are there


def test_missing_program_is_installed_by_root(machine: Machine) -> None:
    machine.program("python3.13", FAKE_PYTHON)
    (machine.bin / "sclite").unlink()
    machine.program("id", "#!/bin/sh\necho 0\n")
    install = f'[ "$1" = install ] && : >"{machine.bin}/sclite" && chmod +x "{machine.bin}/sclite"'
    machine.program("apt-get", f'#!/bin/sh\necho "apt-get $*" >>"$CALLS"\n{install}\nexit 0\n')
    (machine.bin / "chmod").symlink_to(shutil.which("chmod") or "")
    result = machine.make("env")
    assert result.returncode == 0, result.stderr
    assert machine.called()[:2] == ["apt-get update -qq", "apt-get install -y -qq sctk"]


def test_missing_program_and_no_right_to_install(machine: Machine) -> None:
    machine.program("python3.13", FAKE_PYTHON)
    (machine.bin / "sclite").unlink()
    machine.program("id", "#!/bin/sh\necho 1000\n")
    machine.program("sudo", "#!/bin/sh\nexit 1\n")
    machine.program("apt-get", '#!/bin/sh\necho "apt-get $*" >>"$CALLS"\nexit 0\n')
    result = machine.make("env")
    assert result.returncode != 0
    assert "sudo apt-get install -y sctk" in result.stderr
    assert machine.called() == []


def test_sclite_off_the_path_is_enough(machine: Machine, tmp_path: Path) -> None:
    machine.program("python3.13", FAKE_PYTHON)
    (machine.bin / "sclite").unlink()
    machine.program(tmp_path / "sctk/sclite")
    assert machine.make("env", SCTK_DIRS=str(tmp_path / "sctk")).returncode == 0


def test_ci_runs_everything_and_stops_at_the_first_failure(machine: Machine) -> None:
    (machine.checkout / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", machine.checkout / ".ci/run")
    (machine.bin / "make").unlink()
    machine.program("make", '#!/bin/sh\necho "$2" >>"$CALLS"\n[ "$2" != "$FAIL" ]\n')

    def ci(fail: str) -> subprocess.CompletedProcess[str]:
        command = [str(machine.checkout / ".ci/run")]
        variables = machine.variables | {"FAIL": fail, "CI": "true"}
        return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)

    assert ci(fail="none").returncode == 0
    assert machine.called() == ["env", "lint", "test", "demo"]
    result = ci(fail="test")
    assert result.returncode != 0
    assert "make test failed" in result.stderr
    assert machine.called()[4:] == ["env", "lint", "test"]


def test_clean_keeps_experiments_that_are_not_the_demo_s(machine: Machine) -> None:
    recipe = machine.checkout / "egs2_asyncswitch/asr1"
    model = recipe / "exp/adapt_full/model.safetensors"
    model.parent.mkdir(parents=True)
    model.touch()
    (machine.checkout / ".mypy_cache").mkdir()
    assert machine.make("clean").returncode == 0
    assert model.exists()
    assert not (machine.checkout / ".mypy_cache").exists()
    (recipe / "exp/.demo").touch()
    assert machine.make("clean").returncode == 0
    assert not model.exists()


def test_help_lists_the_targets(machine: Machine) -> None:
    text = machine.make("help").stdout
    for target in ["env", "demo", "test", "test-slow", "lint", "bench", "clean"]:
        assert f"make {target} " in text


def test_constraints_are_exact_versions_of_what_setup_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._]+", pin) for pin in pins)
    versions = dict(pin.split("==") for pin in pins)
    assert list(versions) == sorted(map(canonicalize_name, versions))
    asked: dict[str, list[str]] = {}

    def setup(**options: Any) -> None:
        asked.update(options["extras_require"], base=options["install_requires"])

    monkeypatch.setattr("setuptools.setup", setup)
    runpy.run_path(str(ROOT / "setup.py"))
    assert {"base", "train", "text", "gpu", "ct2", "demo", "test", "wandb"} == set(asked)
    requirements = [Requirement(text) for group in asked.values() for text in group]
    for requirement in requirements:
        name = canonicalize_name(requirement.name)
        assert name in versions
        assert requirement.specifier.contains(versions[name]), requirement


def test_scripts_are_executable() -> None:
    scripts = [ROOT / ".ci/run", *ROOT.glob("local/*.sh"), *ROOT.glob("egs2_asyncswitch/*/*.sh")]
    for script in scripts:
        if script.read_text(encoding="utf-8").startswith("#!"):
            assert os.access(script, os.X_OK), script
