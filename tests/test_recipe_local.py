"""The scripts of local/ by themselves: data, a stage alone, merging."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.recipe import RECIPE, ROOT, Recipe, option
from tests.test_recipe_shell import SETS


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


def test_stage_1_prepares_the_corpora_of_db_sh(recipe: Recipe) -> None:
    result = recipe.run("asyncswitch.sh", *SETS, corpora="nsc", tr="nsc_cs_train", NSC="/my nsc")
    assert result.returncode == 2
    assert "db.sh makes tr of nsc_cs_train; there is no data/nsc_cs_train" in result.stderr
    recipe.data("nsc_cs_train")
    result = recipe.run("asyncswitch.sh", *SETS, corpora="nsc", tr="nsc_cs_train", NSC="/my nsc")
    assert result.returncode == 2
    assert "the recipe needs sets that are not in data: tr va te1 te2" in result.stderr
    prepare, _, combine = recipe.calls()
    assert prepare[:2] == ["prepare_corpus", "prepare"]
    assert option(prepare, "--corpora") == "nsc"
    assert combine[1:] == ["combine", "--input", "data/nsc_cs_train", "--output", "data/tr"]


def test_stage_alone_passes_options_through(recipe: Recipe) -> None:
    for folder in ("exp/adapt_text", "dump/raw/train_paired", "dump/raw/valid_paired", "conf"):
        if folder != "conf":
            (recipe.asr1 / folder).mkdir(parents=True)
    (recipe.asr1 / "exp/adapt_text/config.json").write_text("{}")
    (recipe.root / "my conf.yaml").write_text("")
    config = ["--config", str(recipe.root / "my conf.yaml")]
    result = recipe.run("local/train_align.sh", "--ngpu", "2", *config, "--", "--max_epoch", "3")
    assert result.returncode == 0, result.stderr
    (call,) = recipe.calls()
    assert call[0] == "asr_train"
    assert option(call, "--adaptation_stage") == "adapt_align"
    assert option(call, "--config") == config[1]
    assert option(call, "--multiprocessing_distributed") == "true"
    assert call[-2:] == ["--max_epoch", "3"]
    result = recipe.run("local/train_full.sh")
    assert result.returncode == 2
    assert "exp/adapt_align/config.json is missing; recipe stage 9 makes it" in result.stderr


def test_links_of_the_recipe() -> None:
    for name in ("conf", "local"):
        assert os.readlink(ROOT / RECIPE / name) == f"../../{name}"


def test_merge_py_runs_in_the_environment_of_the_checkout(recipe: Recipe) -> None:
    script = shutil.copy(ROOT / "local/merge.py", recipe.root / "local")
    recipe.program(recipe.root / ".venv/bin/python", '#!/bin/sh\necho "$*" >>"$CALLS"\n')
    command = [sys.executable, script, "--ratio", "0.4"]
    result = subprocess.run(command, env=recipe.variables, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert recipe.calls() == [[f"{script} --ratio 0.4"]]
