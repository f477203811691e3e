"""The configurations that come with the recipe: the training entry takes each as it stands."""

from pathlib import Path

import pytest
import yaml

from espnet_plugin.pads import PADS
from espnet_plugin.pair_batches import deal, make_plan
from espnet_plugin.planning import parse_machine
from espnet_plugin.systems import Plan
from espnet_plugin.task import AsyncSwitchTask

CONF = Path(__file__).parents[1] / "conf"
TRAINING = sorted([*CONF.glob("train_*.yaml"), *CONF.glob("*/**/train_*.yaml")])
STAGE_OF = {"acoustic": "acoustic", **{s: f"adapt_{s}" for s in ("text", "align", "full")}}


def name_of(path: Path) -> str:
    return path.relative_to(CONF).as_posix()


def test_all_are_found() -> None:
    names = {name_of(path) for path in TRAINING}
    assert {"train_full.yaml", "demo/train_acoustic.yaml", "tuning/turbo_1x80/train_text.yaml"} < (
        names
    )


@pytest.mark.parametrize("path", TRAINING, ids=name_of)
def test_the_training_entry_takes_it(path: Path) -> None:
    stage = STAGE_OF[path.stem.removeprefix("train_")]
    command = ["--config", str(path), "--adaptation_stage", stage]
    args = AsyncSwitchTask.get_parser().parse_args(command)
    conf = AsyncSwitchTask.complete_schedule(args)
    updates = args.max_epoch * args.num_iters_per_epoch // args.accum_grad
    assert conf["inner_conf"]["total_steps"] == updates > conf["inner_conf"]["warmup_steps"]


@pytest.mark.parametrize("folder", sorted({path.parent for path in TRAINING}), ids=name_of)
def test_ablations_are_as_long_as_stages_2_and_3(folder: Path) -> None:
    configs = {f"adapt_{name}": str(folder / f"train_{name}.yaml") for name in ("align", "full")}
    epochs, batches = Plan(Path(), configs, {}, ("", ""), {}).matched_length()
    align, full = (yaml.safe_load(Path(path).read_text()) for path in configs.values())
    wanted = sum(conf["max_epoch"] * conf["num_iters_per_epoch"] for conf in (align, full))
    assert abs(epochs * batches - wanted) <= full["num_iters_per_epoch"] / 2
    assert batches % full.get("accum_grad", 1) == 0
    if folder.name == "demo":  # longer epochs, and no more of them
        assert (epochs, batches) == (full["max_epoch"], wanted / full["max_epoch"])


PAIRED = [p for p in TRAINING if "text" not in p.name and p.parent.name != "demo"]


@pytest.mark.parametrize("path", PAIRED, ids=name_of)
def test_its_batches_can_be_dealt_out_to_the_gpus_that_it_is_for(
    path: Path, tmp_path: Path
) -> None:
    shapes = tmp_path / "utt2num_samples"
    shapes.write_text("".join(f"u{n} {8_000 + 4_720 * n}\n" for n in range(101)))
    conf = yaml.safe_load(path.read_text())
    worlds = [1, 2, 4, 8]  # run.sh's --ngpu
    if path.parent.parent.name == "tuning":
        worlds = [parse_machine(path.parent.name.rpartition("_")[2]).world]
    for world in worlds:
        for pad in PADS:
            least = {"min_batch_size": world, "batch_size": 20}
            plan = make_plan(shapes, pad, conf["batch_type"], conf["batch_bins"], least)
            for rank in range(world):
                assert deal(plan.batches, rank, world)
