import importlib
import time
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin import cli
from tests.fixtures.recipe import Recipe, option

SETS = ["--train_set", "tr", "--valid_set", "va", "--test_sets", "te1 te2"]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


def test_help_is_quick_and_complete(recipe: Recipe) -> None:
    start = time.monotonic()
    result = recipe.run("asyncswitch.sh", "--help")
    assert time.monotonic() - start < 1
    assert result.returncode == 0
    declared = (recipe.asr1 / "asyncswitch.sh").read_text().split("# options\n")[1]
    declared = declared.split("# end of options")[0]
    names = [line.split("=")[0] for line in declared.splitlines()]
    assert len(names) > 30
    for name in names:
        assert f"--{name} " in result.stdout
    assert all(" # " in line for line in declared.splitlines()), "an option without a comment"
    assert recipe.calls() == []


@pytest.mark.parametrize("script", ["run.sh", "run_demo.sh", "local/train_text.sh"])
def test_help_of_every_entry(recipe: Recipe, script: str) -> None:
    result = recipe.run(script, "--help")
    assert result.returncode == 0, result.stderr
    assert "Options" in result.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--stop-stagee", "3"], "unknown option --stop_stagee; did you mean --stop_stage?"),
        (["--tset_sets", "x"], "did you mean --test_sets?"),
        (["--qwertyuiop", "x"], "unknown option --qwertyuiop ("),
        (["--stage"], "--stage needs a value"),
        (["--stage", "--stop_stage", "3"], "--stage needs a value, and --stop_stage follows"),
        (["--stage", "eight"], "--stage is a whole number, not 'eight'"),
        (["5"], "an option is expected, not '5'"),
        (["--stage", "9", "--stop_stage", "8"], "--stage 9 comes after --stop_stage 8"),
        (["--stop_stage", "16"], "there are 15 stages, and --stop_stage is 16"),
        ([*SETS, "--stage", "15", "--stop_stage", "15"], "--hub_repo is empty: OWNER/NAME"),
        (["--hub_dry_run", "maybe"], "--hub_dry_run is true or false, not 'maybe'"),
        (["--test_sets", ""], "--test_sets is empty"),
        (["--train_set", ""], "--train_set is empty"),
        ([*SETS, "--acoustic_train_set", "a"], "--acoustic_train_set needs --acoustic_valid_set"),
        (["--require", "yes"], "--require is true or false, not 'yes'"),
        ([*SETS, "--python", "/no/python"], "/no/python does not run as Python 3.12"),
        ([*SETS, "--stage", "12", "--systems", "adapt_fool"], "no system is called adapt_fool"),
    ],
)
def test_wrong_options(recipe: Recipe, options: list[str], message: str) -> None:
    result = recipe.run("asyncswitch.sh", *options)
    assert result.returncode == 2
    assert message in result.stderr
    assert recipe.calls() == []


def test_both_spellings(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    for options in (["--stop-stage", "3"], ["--stop_stage=3"], ["--stop-stage=3"]):
        result = recipe.run("asyncswitch.sh", *SETS, "--stage", "3", *options)
        assert result.returncode == 0, result.stderr
    assert [call[:2] for call in recipe.calls()] == [["prepare_data", "format"]] * 3


@pytest.mark.parametrize(
    ("stage", "missing", "maker"),
    [
        (3, "data/tr/wav.scp", 1),
        (4, "dump/raw/tr/wav.scp", 3),
        (5, "dump/raw/tr/wav.scp", 3),
        (6, "exp/init/config.json", 5),
        (7, "exp/init/config.json", 5),
        (8, "exp/init/config.json", 5),
        (9, "exp/init/config.json", 5),
        (10, "exp/init/config.json", 5),
        (11, "exp/init/config.json", 5),
        (12, "exp/init/config.json", 5),
        (13, "dump/raw/va/wav.scp", 3),
        (14, "dump/raw/te1/wav.scp", 3),
    ],
)
def test_missing_input_names_the_stage(
    recipe: Recipe, stage: int, missing: str, maker: int
) -> None:
    options = [*SETS, "--stage", str(stage), "--stop_stage", str(stage)]
    result = recipe.run("asyncswitch.sh", *options)
    assert result.returncode == 2
    assert f"{missing} is missing or empty; stage {maker} makes it" in result.stderr
    assert recipe.calls() == []


def test_missing_model_names_its_stage(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    assert recipe.run("asyncswitch.sh", *SETS, "--stop_stage", "13").returncode == 0
    assert option(recipe.calls()[-2], "--device") == ""  # a GPU, where there is one
    makers = {"adapt_text": 8, "align_only": 9, "direct_full": 10, "direct_merge_0.2": 11}
    for system, maker in makers.items():
        (recipe.asr1 / "exp" / system / "config.json").unlink()
        result = recipe.run("asyncswitch.sh", *SETS, "--stage", "12", "--systems", system)
        assert result.returncode == 2
        assert f"exp/{system}/config.json is missing or empty; stage {maker}" in result.stderr
    (recipe.asr1 / "exp/adapt_full/decode_greedy/te2/text").unlink()
    result = recipe.run("asyncswitch.sh", *SETS, "--stage", "13", "--systems", "adapt_full")
    assert "decode_greedy/te2/text is missing or empty; stage 12 makes it" in result.stderr


def test_all_stages_with_spaces_in_every_path(recipe: Recipe, tmp_path: Path) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    options = [*SETS, "--expdir", "my exp", "--dumpdir", f"{tmp_path}/my dump", "--ngpu", "0"]
    options += ["--source", "/models/my whisper", "--lang_tokens", "cs:ms en:en", "--seed", "7"]
    options += ["--stage_seconds", "9 9 9 9 9 9 9 9 9 9 9 9 9"]
    result = recipe.run("asyncswitch.sh", *options)
    assert result.returncode == 0, result.stderr
    calls = recipe.calls()
    modules = [call[0] for call in calls]
    assert modules == (
        ["prepare_data"] * 2  # format, filter
        + ["import_model", "prepare_data"]  # and filter by tokens
        + ["text_corpus"] * 2
        + ["prepare_data", "text_corpus"]  # statistics
        + ["train_systems"] * 3
        + ["merge"] * 2
        + ["decode", "report"]
    )
    assert option(calls[0], "--lang_tokens") == "cs:ms en:en"
    assert option(calls[0], "--test_sets") == "te1 te2 "
    assert option(calls[1], "--held_out") == "va te1 te2 "
    assert option(calls[2], "--source") == "/models/my whisper"
    assert option(calls[2], "--output") == "my exp/init"
    assert option(calls[3], "--model") == "my exp/init"
    assert option(calls[-2], "--device") == "cpu"  # though there may be a GPU: --ngpu 0
    training = [call for call in calls if call[0] == "train_systems"]
    assert [option(call, "--systems") for call in training] == [
        "adapt_text adapt_align align_only adapt_full direct_full text_full align_full",
        "adapt_align align_only",
        "adapt_full direct_full text_full align_full",
    ]
    for call in training:
        assert option(call, "--expdir") == "my exp"
        assert option(call, "--dumpdir") == f"{tmp_path}/my dump"
        assert option(call, "--lang_tokens") == "cs:ms en:en"
        assert option(call, "--seed") == "7"
    decode = calls[-2]
    assert option(decode, "--sets") == "va te1 te2"
    systems = option(decode, "--systems").split()
    assert systems[:4] == ["init", "adapt_text", "adapt_align", "adapt_full"]
    assert {"merge_0.4", "direct_merge_0.8", "text_full"} < set(systems)
    assert (recipe.asr1 / "my exp/logs/decode.log").exists()
    for stage in range(1, 14):
        assert f"stage {stage}: " in result.stdout
    assert "(about 1:57 left)" in result.stdout  # 13 stages of 9 s, before anything is measured


@pytest.mark.parametrize(("last", "ablations"), [(8, ""), (10, ""), (10, "text_full align_full")])
def test_side_by_side_stage_8_trains_ahead(recipe: Recipe, last: int, ablations: str) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    options = [*SETS, "--train_workers", "2", "--stop_stage", str(last)]
    options += ["--ablations", ablations]
    assert recipe.run("asyncswitch.sh", *options).returncode == 0
    calls = [call for call in recipe.calls() if call[0] == "train_systems"]
    assert {option(call, "--workers") for call in calls} == {"2"}
    trained = [option(call, "--systems") for call in calls]
    if last == 8:
        assert trained == ["adapt_text"]
    else:
        assert trained[0] == f"adapt_text {trained[1]} {trained[2]}" and len(trained) == 3


def test_acoustic_adaptation_and_no_ablations(recipe: Recipe) -> None:
    recipe.data("tr", "va", "ac", "vac", "te1", "te2")
    recipe.text()
    options = [*SETS, "--acoustic_train_set", "ac", "--acoustic_valid_set", "vac"]
    result = recipe.run("asyncswitch.sh", *options, "--ablations", "", "--require", "true")
    assert result.returncode == 0, result.stderr
    calls = recipe.calls()
    imported = next(call for call in calls if call[0] == "import_model")
    assert option(imported, "--output") == "exp/whisper_base"
    trained = [option(call, "--systems") for call in calls if call[0] == "train_systems"]
    assert trained == ["init", "adapt_text", "adapt_align", "adapt_full"]
    assert option(calls[-2], "--systems").startswith("whisper_base init ")
    assert "direct" not in option(calls[-2], "--systems")
    report = calls[-1]
    assert report[-1] == "--require"
    assert option(report, "--sets") == "te1 te2"
    assert option(report, "--valid_sets") == "va"
    assert option(report, "--text_lines") == "data/text/train.jsonl"
    assert option(report, "--speech_sets") == "tr ac"


def test_merges_in_memory(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    result = recipe.run("asyncswitch.sh", *SETS, "--merge_in_memory", "true")
    assert result.returncode == 0, result.stderr
    calls = recipe.calls()
    assert "merge" not in [call[0] for call in calls]
    decode = calls[-2]
    assert option(decode, "--merges") == "merge_=init:adapt_full direct_merge_=init:direct_full"
    assert "merge_0.4" in option(decode, "--systems").split()


def test_export_and_upload(recipe: Recipe, tmp_path: Path) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    options = [*SETS, "--expdir", "my exp", "--dumpdir", f"{tmp_path}/my dump"]
    options += ["--hub_repo", "me/mixed", "--export_formats", "hf ct2:int8", "--stop_stage"]
    result = recipe.run("asyncswitch.sh", *options, "15", "--hub_dry_run", "true")
    assert result.returncode == 0, result.stderr
    exported, published = recipe.calls()[-2:]
    assert exported[0] == "export" and option(exported, "--model") == "my exp/merge_0.4"
    sets = exported[exported.index("--data") + 1 : exported.index("--num_utts")]
    assert sets == [f"{tmp_path}/my dump/raw/te1", f"{tmp_path}/my dump/raw/te2"]
    assert option(exported, "--formats") == "hf ct2:int8"
    assert option(exported, "--output_prefix") == "my exp/merge_0.4/export_"
    assert (recipe.asr1 / "my exp/logs/export.log").exists()
    assert published[0] == "publish" and "--dry_run" in published
    assert option(published, "--private") == "true" and option(published, "--repo") == "me/mixed"
    folders = ["my exp/merge_0.4/export_hf", "my exp/merge_0.4/export_ct2_int8"]
    assert published[published.index("--exports") + 1 :] == folders
    (recipe.asr1 / "my exp/merge_0.4/export_ct2_int8/export.json").unlink()
    result = recipe.run("asyncswitch.sh", *options, "15", "--stage", "15")
    assert "export_ct2_int8/export.json is missing or empty; stage 14 makes it" in result.stderr


def test_export_writes_a_model_that_was_merged_in_memory(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    result = recipe.run("asyncswitch.sh", *SETS, "--merge_in_memory", "true", "--stop_stage", "14")
    assert result.returncode == 0, result.stderr
    merge, exported = recipe.calls()[-2:]
    assert merge[0] == "merge" and option(merge, "--ratio") == "0.4"
    assert option(merge, "--output") == option(exported, "--model") == "exp/merge_0.4"


class ParsedError(Exception):
    """Ends a command once its options are parsed."""


def test_every_command_is_one_that_its_module_takes(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe.data("tr", "va", "ac", "vac", "te1", "te2")
    recipe.text()
    (recipe.asr1 / "data/text/hand.jsonl").write_text("{}\n")
    options = [*SETS, "--acoustic_train_set", "ac", "--acoustic_valid_set", "vac"]
    options += ["--mix_input", "data/text/hand.jsonl", "--mix_phrases", "data/text/hand.jsonl"]
    options += ["--speed_perturb_factors", "0.9 1.0", "--require", "true"]
    options += ["--stop_stage", "15", "--hub_repo", "me/mixed"]
    result = recipe.run("asyncswitch.sh", *options)
    assert result.returncode == 0, result.stderr
    real = cli.Parser.parse_args

    def parse_args(self: cli.Parser, *args: Any) -> None:
        real(self, *args)
        raise ParsedError

    monkeypatch.setattr(cli.Parser, "parse_args", parse_args)
    calls = recipe.calls()
    calls.append(["report", "--seeds", "exp/seed_1/results.json", "--output", "exp/SEEDS.md"])
    for module, *arguments in calls:
        with pytest.raises(ParsedError):
            importlib.import_module(f"espnet_plugin.bin.{module}").main(arguments)


def test_speed_perturbed_copies_are_what_is_trained_on(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    factors = ["--speed_perturb_factors", "0.9 1.0 1.1"]
    result = recipe.run("asyncswitch.sh", *SETS, *factors, "--stop_stage", "9")
    assert result.returncode == 0, result.stderr
    calls = recipe.calls()
    assert calls[0][:2] == ["synth_data", "speed"]
    assert option(calls[0], "--factors") == "0.9 1.0 1.1"
    assert option(calls[0], "--output") == "data/tr_sp"
    assert option(calls[-1], "--train_set") == "tr_sp"


def test_mixing_excludes_what_is_tested_on(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    (recipe.asr1 / "data/text/train.jsonl").unlink()
    phrases = recipe.root / "phrases.tsv"
    phrases.write_text("x\n")
    hand = recipe.asr1 / "data/text/hand.jsonl"
    hand.write_text("{}\n")
    options = [*SETS, "--mix_input", "data/text/hand.jsonl", "--stop_stage", "2"]
    result = recipe.run("asyncswitch.sh", *options)
    assert result.returncode == 2
    assert "--mix_input needs --mix_phrases" in result.stderr
    result = recipe.run("asyncswitch.sh", *options, "--mix_phrases", "../../phrases.tsv")
    assert result.returncode == 0, result.stderr
    (call,) = recipe.calls()
    excluded = call[call.index("--exclude") + 1 :]
    assert excluded == ["data/text/valid.jsonl", *(f"data/{s}/text" for s in ("va", "te1", "te2"))]


def test_failing_stage_ends_the_recipe(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    result = recipe.run("asyncswitch.sh", *SETS, FAIL="train_systems")
    assert result.returncode == 3
    assert recipe.calls()[-1][0] == "train_systems"
    assert "train_systems fails" in (recipe.asr1 / "exp/logs/adapt_text.log").read_text()
    assert "done:" not in result.stdout


def test_no_sclite_is_said_before_any_work(recipe: Recipe) -> None:
    (recipe.bin / "sclite").unlink()
    result = recipe.run("asyncswitch.sh", *SETS)
    assert result.returncode == 2
    assert "sclite, which stage 13 scores with" in result.stderr
    assert recipe.calls() == []


@pytest.mark.parametrize("program", ["sclite", "espeak-ng"])
def test_demo_says_what_program_is_missing(recipe: Recipe, program: str) -> None:
    (recipe.bin / program).unlink()
    result = recipe.run("run_demo.sh")
    assert result.returncode == 2
    assert f"{program} is missing; make env installs it" in result.stderr


def test_demo_passes_the_user_s_options_last(recipe: Recipe) -> None:
    result = recipe.run("run_demo.sh", "--stage", "13", "--expdir", "exp/seed_1")
    assert result.returncode == 2
    assert "dump/raw/valid_paired/wav.scp is missing" in result.stderr
    watch = recipe.calls()[0]
    assert option(watch, "--output") == "exp/seed_1/resources.json"
    assert option(watch, "--max_gb") == "8"
    assert watch[-4:] == ["--stage", "13", "--expdir", "exp/seed_1"]
    assert (recipe.asr1 / "exp/.demo").exists()


@pytest.mark.parametrize("apart", [True, False])
def test_demo_measures_with_the_python_that_is_asked_for(recipe: Recipe, apart: bool) -> None:
    other = (recipe.root / ".venv/bin/python").rename(recipe.root / "other")
    result = recipe.run("run_demo.sh", *(["--python", other] if apart else [f"--python={other}"]))
    assert result.returncode == 2, result.stderr
    assert recipe.calls()[0][0] == "watch"
