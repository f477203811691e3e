from pathlib import Path

import pytest

from tests.fixtures.recipe import Recipe

OPTIONS = ["--stage", "6", "--stop_stage", "6", "--train_set", "tr", "--valid_set", "va"]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    made = Recipe(tmp_path)
    made.text()
    (made.asr1 / "exp/init").mkdir(parents=True)
    (made.asr1 / "exp/init/config.json").write_text("{}")
    for held_out in ("va", "te1", "te2"):
        (made.asr1 / "dump/raw" / held_out).mkdir(parents=True)
        (made.asr1 / "dump/raw" / held_out / "text").write_text("a b\n")
    return made


def test_stage_6_prepares_two_texts_or_holds_lines_out(recipe: Recipe) -> None:
    result = recipe.run("asyncswitch.sh", *OPTIONS, "--text_corpus_config", "my conf.yaml")
    assert result.returncode == 0, result.stderr
    train, valid = recipe.calls()
    for call, part in ((train, "train"), (valid, "valid")):
        assert call[:2] == ["text_corpus", "prepare"]
        assert call[call.index("--input") + 1] == f"data/text/{part}.jsonl"
        assert call[call.index("--output") + 1] == f"dump/text/{part}"
        assert call[call.index("--config") + 1] == "my conf.yaml"
        assert "--valid_output" not in call
    held_out = ["data/text/valid.jsonl", "dump/raw/va/text"]
    assert train[train.index("--exclude") + 1 :] == held_out
    assert "--exclude" not in valid
    (recipe.asr1 / "data/text/valid.jsonl").unlink()
    options = [*OPTIONS, "--test_sets", "te1 te2"]
    options += ["--text_options", "--executor dask --scheduler tcp://h:8786"]
    result = recipe.run("asyncswitch.sh", *options, "--text_valid", "held_out")
    assert result.returncode == 0, result.stderr
    call = recipe.calls()[-1]
    assert call[call.index("--valid_output") + 1] == "dump/text/valid"
    assert call[2:6] == ["--executor", "dask", "--scheduler", "tcp://h:8786"]
    held_out = [f"dump/raw/{name}/text" for name in ("va", "te1", "te2")]
    assert call[call.index("--exclude") + 1 :] == held_out
    assert len(recipe.calls()) == 3
    result = recipe.run("asyncswitch.sh", *OPTIONS)
    assert result.returncode == 2
    assert "data/text/valid.jsonl is missing or empty; stage 1 makes it" in result.stderr
    (recipe.asr1 / "dump/raw/te2/text").unlink()  # or its sentences could be trained on
    result = recipe.run("asyncswitch.sh", *options, "--text_valid", "held_out")
    assert result.returncode == 2
    assert "dump/raw/te2/text is missing or empty; stage 3 makes it" in result.stderr


def test_mixing_needs_a_file_of_what_is_held_out(recipe: Recipe) -> None:
    options = ["--stage", "2", "--stop_stage", "2", "--text_valid", "held_out"]
    options += ["--mix_input", "data/text/train.jsonl", "--mix_phrases", "x"]
    result = recipe.run("asyncswitch.sh", *OPTIONS[4:], *options)
    assert result.returncode == 2
    assert "--mix_input needs a file as --text_valid" in result.stderr
