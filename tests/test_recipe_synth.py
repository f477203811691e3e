import importlib
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin import cli
from tests.fixtures.recipe import Recipe

SETS = ["--train_set", "tr", "--valid_set", "va", "--test_sets", "te1 te2", "--stage", "2"]
TEXT = ["--switch_text", "--parallel a.txt b.txt --cmi 25"]
SPEECH = ["--switch_speech", "speak --synthesiser espeak --lines data/text/train.jsonl"]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    recipe = Recipe(tmp_path)
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    return recipe


class ParsedError(Exception):
    """Ends a command once its options are parsed."""


def test_text_and_speech_are_made_without_what_is_tested_on(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*SETS, *TEXT, *SPEECH, "--stop_stage", "2", "--nj", "3", "--seed", "7"]
    result = recipe.run("asyncswitch.sh", *options)
    assert result.returncode == 0, result.stderr
    text, speech, combine = recipe.calls()
    common = ["--seed", "7", "--nj", "3", "--exclude", "data/text/valid.jsonl"]
    common += [f"data/{name}/text" for name in ("va", "te1", "te2")]
    assert text[:6] == ["synth_data", "switch", "--parallel", "a.txt", "b.txt", "--cmi"]
    assert text[6:] == ["25", "--output", "data/text/train.jsonl", *common]
    assert speech[:4] == ["synth_data", "speak", "--synthesiser", "espeak"]
    assert speech[6:] == ["--output", "data/tr_cs", *common]
    expected = ["--input", "data/tr,data/tr_cs", "--output", "data/tr_synth"]
    assert combine == ["prepare_corpus", "combine", *expected]

    real = cli.Parser.parse_args

    def parse_args(self: cli.Parser, *args: Any) -> None:
        real(self, *args)
        raise ParsedError

    monkeypatch.setattr(cli.Parser, "parse_args", parse_args)
    for module, *arguments in (text, speech, combine):
        with pytest.raises(ParsedError):
            importlib.import_module(f"espnet_plugin.bin.{module}").main(arguments)


def test_synthetic_speech_is_perturbed_and_trained_on(recipe: Recipe) -> None:
    factors = ["--speed_perturb_factors", "0.9 1.0"]
    result = recipe.run("asyncswitch.sh", *SETS, *SPEECH, *factors, "--stop_stage", "2")
    assert result.returncode == 0, result.stderr
    speed = recipe.calls()[-1]
    assert speed[1:6] == ["speed", "--input", "data/tr_synth", "--output", "data/tr_synth_sp"]
    result = recipe.run("asyncswitch.sh", *SETS, *SPEECH, "--stop_stage", "3")
    assert result.returncode == 2
    assert "data/tr_synth/wav.scp is missing or empty; stage 2 makes it" in result.stderr


def test_two_makers_of_one_text(recipe: Recipe) -> None:
    mix = ["--mix_input", "data/text/valid.jsonl", "--mix_phrases", "data/text/valid.jsonl"]
    result = recipe.run("asyncswitch.sh", *SETS, *TEXT, *mix, "--stop_stage", "2")
    assert result.returncode == 2
    assert "--mix_input and --switch_text both make data/text/train.jsonl" in result.stderr
