"""Experiments of several runs, with programs that only take notes."""

from pathlib import Path

import pytest

from tests.fixtures.recipe import Recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


def test_seeds_run_the_demo_and_make_one_table(recipe: Recipe) -> None:
    recipe.program(
        recipe.asr1 / "run_demo.sh",
        """#!/usr/bin/env bash
(IFS="|"; echo "demo|$*") >>"$CALLS"
""",
    )
    result = recipe.run("local/run_experiment.sh", "seeds", "2", "--stop_stage", "12")
    assert result.returncode == 0, result.stderr
    first, second, report = recipe.calls()
    assert first[3:] == ["--stop_stage", "12", "--expdir", "exp/seed_1", "--seed", "1"]
    assert second[-1] == "2"
    assert report[:4] == ["report", "--seeds", "exp/seed_1/results.json", "exp/seed_2/results.json"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "which experiment? there is: seeds NUMBER"),
        (["sedes", "3"], "no experiment is called 'sedes'"),
        (["seeds"], "seeds wants a number of runs, two or more; got ''"),
        (["seeds", "1"], "got '1'"),
    ],
)
def test_wrong_experiments(recipe: Recipe, options: list[str], message: str) -> None:
    result = recipe.run("local/run_experiment.sh", *options)
    assert result.returncode == 2
    assert message in result.stderr
