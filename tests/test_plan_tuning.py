"""The configurations of conf/tuning fit the machines that they are named after, by the plan."""

from pathlib import Path

import pytest
import yaml

from espnet_plugin.groups import select
from espnet_plugin.planning import Setup, parse_machine, read_shape
from espnet_plugin.planning.fit import worst
from espnet_plugin.planning.shapes import parameters
from espnet_plugin.stages import STAGES

TUNING = sorted((Path(__file__).parents[1] / "conf" / "tuning").glob("*/train_*.yaml"))


def test_every_tuned_machine_has_three_stages() -> None:
    folders = {path.parent.name for path in TUNING}
    assert {"large-v3_1x80", "large-v3_4x24", "turbo_1x80", "small_1x16"} < folders
    assert len(TUNING) == 3 * len(folders)


@pytest.mark.parametrize("path", TUNING, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_tuned_batches_fit_by_the_plan(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "Not run on such a machine" in text
    conf = yaml.safe_load(text)
    model, gpus = path.parent.name.rsplit("_", 1)
    shape, machine = read_shape(model), parse_machine(gpus)
    stage = STAGES["adapt_" + path.stem.removeprefix("train_")]
    moving = frozenset(select(stage.trains, parameters(shape)))
    assert "joins" not in conf["scheduler_conf"] and "groups" not in text
    setup = Setup(
        sharding="zero1" if conf.get("shard_optimizer") else "none",
        checkpointing=conf.get("checkpointing") == "all",
        eight_bit=conf["optim"] == "adamw8bit",
        accumulate=conf["accum_grad"] > 1,
    )
    unit, bins = "positions", conf["batch_bins"] // machine.world
    if stage.data == "paired":
        utterances = -(-(conf["batch_bins"] // (30 * 16000)) // machine.world)
        padded = worst(shape, moving, machine, setup, "utterances", utterances)
        assert padded.peak <= machine.usable, "with --pad 30s"
        unit, bins = "samples", bins + 30 * 16000
    planned = worst(shape, moving, machine, setup, unit, bins)
    assert planned.peak <= machine.usable
    assert f"{planned.peak / 1e9:.1f} of {machine.usable / 1e9:.1f}" in text
