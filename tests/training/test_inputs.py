import shutil
from pathlib import Path
from typing import Any

import pytest

from espnet_plugin.checkpoint import write_json
from espnet_plugin.systems import Plan
from espnet_plugin.training.inputs import contents, same_run
from espnet_plugin.training.side_by_side import train_side_by_side


def test_a_plan_holds_on_any_number_of_gpus(tmp_path: Path) -> None:
    made = {"ngpu": "4", "multiprocessing_distributed": "true", "seed": "0"}
    assert not same_run(tmp_path, made)
    assert not same_run(tmp_path, {"ngpu": "1", "seed": "0", "keep_checkpoints": "false"})
    with pytest.raises(ValueError, match=r"other settings or data \(seed: 1, was 0\): remove it"):
        same_run(tmp_path, {"ngpu": "1", "seed": "1"})


def test_what_was_trained_apart_gets_no_plan_that_is_not_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "training.json", {})
    assert same_run(tmp_path, {"seed": "0"})
    assert "trained apart from the recipe" in capsys.readouterr().out
    assert not (tmp_path / "plan.json").exists()


def inputs(root: Path, model: Path) -> dict[str, str]:
    """Make a start, a set and a store; return the options that name them."""
    shutil.copytree(model, root / "init", dirs_exist_ok=True)
    for folder in ("tr", "va"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in ("wav.scp", "text", "utt2lang", "utt2num_samples"):
            (root / folder / name).write_text(f"a {name}\n")
        store: dict[str, Any] = {"langs": ["ms"], "shards": [{"sha256": "1", "name": "shard"}]}
        write_json(root / folder / "manifest.json", store)
    names = {"train_data": "tr", "valid_data": "va", "train_text": "tr", "valid_text": "va"}
    return {"init_dir": str(root / "init"), **{k: str(root / v) for k, v in names.items()}}


def changed_start(root: Path) -> None:
    path = root / "init/model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)


def changed_text(root: Path) -> None:
    (root / "tr/text").write_text("a other\n")


def changed_lengths(root: Path) -> None:
    (root / "va/utt2num_samples").write_text("a 7\n")


def changed_store(root: Path) -> None:
    write_json(root / "tr/manifest.json", {"langs": ["ms"], "shards": [{"sha256": "2"}]})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed_start, "init_dir"),
        (changed_text, "train_data"),
        (changed_lengths, "valid_data"),
        (changed_store, "train_text"),
    ],
)
def test_what_was_made_of_something_else_is_not_taken_for_finished(
    tmp_path: Path, tiny_whisper: Path, change: Any, named: str
) -> None:
    options = inputs(tmp_path, tiny_whisper)
    output = tmp_path / "out"
    assert not same_run(output, {**options, "content": contents(options)})
    write_json(output / "training.json", {})
    assert same_run(output, {**options, "content": contents(options)})
    # elsewhere, and with tables written again, they are the same
    moved = inputs(tmp_path / "moved", tiny_whisper)
    assert same_run(output, {**moved, "content": contents(moved)})
    change(tmp_path)
    with pytest.raises(ValueError, match=rf"{named}: .*, which has changed since"):
        same_run(output, {**options, "content": contents(options)})


def test_a_start_that_is_made_later_is_noted_then(tmp_path: Path, tiny_whisper: Path) -> None:
    options = {"init_dir": str(tmp_path / "init")}
    output = tmp_path / "out"
    assert not same_run(output, {**options, "content": contents(options)})  # looks ahead
    inputs(tmp_path, tiny_whisper)
    assert not same_run(output, {**options, "content": contents(options)})  # begins
    changed_start(tmp_path)
    with pytest.raises(ValueError, match="init_dir: "):
        same_run(output, {**options, "content": contents(options)})


def test_all_systems_that_were_made_otherwise_are_named_at_once(tmp_path: Path) -> None:
    config = tmp_path / "conf.yaml"
    config.write_text("max_epoch: 1\nnum_iters_per_epoch: 1\n")
    configs = dict.fromkeys(("adapt_text", "adapt_align", "adapt_full"), str(config))
    pair = {stage: ("tr", "va") for stage in ("adapt_align", "adapt_full")}
    names = ["adapt_align", "adapt_full"]
    for name in names:
        write_json(tmp_path / name / "plan.json", {"seed": "1"})
    plan = Plan(tmp_path, configs, pair, ("t", "v"), {"seed": "0"})
    with pytest.raises(ValueError, match=r"(?s)adapt_align was made .*adapt_full was made "):
        train_side_by_side(names, plan, 1)
