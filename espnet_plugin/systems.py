"""Train several systems of the table in `stages.py`, one after another, in one process.

ESPnet takes 8 s to import; a recipe stage therefore trains all of its systems in one go.
"""

import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from espnet_plugin.finish import is_finished, summary
from espnet_plugin.stages import STAGES, System, get_system, made_by
from espnet_plugin.training.inputs import CONTENT, contents, same_run
from espnet_plugin.training.saving import remove_checkpoints


@dataclass(frozen=True)
class Plan:
    """Where the systems of an experiment find their data and settings.

    Attributes:
        expdir: Experiment directory; a system is `expdir/NAME`.
        configs: Stage name -> ESPnet configuration file.
        paired: Stage name -> (training, validation) data directories.
        text: (training, validation) token stores.
        options: Further options of the training entry, the same for all systems.
        launcher: Those by which a launcher tells this process its place among others; they do not
            decide the result.
    """

    expdir: Path
    configs: Mapping[str, str]
    paired: Mapping[str, tuple[str, str]]
    text: tuple[str, str]
    options: Mapping[str, str]
    launcher: Mapping[str, str] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Number of this process among those that a launcher started; 0 where there is none."""
        rank = self.launcher.get("dist_rank") or os.environ.get("RANK")
        if rank is None and "SLURM_STEP_NODELIST" in os.environ:
            rank = os.environ.get("SLURM_PROCID")
        return int(rank or 0)

    def command(self, system: System) -> list[str]:
        """Return the arguments of `espnet_plugin.bin.asr_train` that train a system.

        Raises:
            FileNotFoundError: If the configuration is missing.
            ValueError: If it lacks the length of the run.
        """
        stage = STAGES[system.stage]
        config = self.configs[system.stage]
        command = ["--config", config, "--adaptation_stage", system.stage]
        command += ["--init_dir", str(self.expdir / system.start)]
        command += ["--output_dir", str(self.expdir / system.name)]
        if stage.data == "text":
            names, data = ("train_text", "valid_text"), self.text
        else:
            names, data = ("train_data", "valid_data"), self.paired[system.stage]
        for name, path in zip(names, data, strict=True):
            command += [f"--{name}", path]
        for name, value in self.options.items():
            command += [f"--{name}", value]
        if int(self.options.get("ngpu", "0")) > 1:
            command += ["--multiprocessing_distributed", "true"]
        if system.matched:
            epochs, iterations = self.matched_length()
            command += ["--max_epoch", str(epochs), "--num_iters_per_epoch", str(iterations)]
        return command

    def matched_length(self) -> tuple[int, int]:
        """Return epochs, and batches of each, with as many updates as stages 2 and 3 together.

        Where it comes out even, the epochs are as many as stage 3's and each is longer, so that
        nothing is validated more often; else they are as long as stage 3's and there are more.
        """
        align, full = self._length("adapt_align"), self._length("adapt_full")
        batches = align[0] * align[1] + full[0] * full[1]
        if batches % (full[0] * full[2]) == 0:
            return full[0], batches // full[0]
        return round(batches / full[1]), full[1]

    def _length(self, stage: str) -> tuple[int, int, int]:
        """Return a stage's epochs, batches of each, and batches of an update."""
        path = Path(self.configs[stage])
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such configuration")
        conf = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key in ("max_epoch", "num_iters_per_epoch"):
            if not isinstance(conf.get(key), int):
                raise ValueError(
                    f"{path}: {key} must be a whole number: ablations get as many updates as "
                    "stages 2 and 3 together"
                )
        return conf["max_epoch"], conf["num_iters_per_epoch"], int(conf.get("accum_grad", 1))


class _LogFile(logging.FileHandler):
    """A log that may fail: a full disk is said once, and the run ends by its own error of it."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say that the log cannot be written; logging would print a traceback for each line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.failed:
            self.failed = True
            print(f"{self.baseFilename}: the log cannot be written: {error}", file=sys.stderr)

    def close(self) -> None:
        """Close the file; what cannot be written any more must not hide the run's own error."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Send the log to a file (everything) and to stderr (warnings), for one training."""
    path.parent.mkdir(parents=True, exist_ok=True)
    root, old, level = logging.getLogger(), logging.getLogger().handlers[:], logging.root.level
    to_file = _LogFile(path, encoding="utf-8")
    to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setLevel(logging.WARNING)
    to_stderr.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    root.handlers = [to_file, to_stderr]
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        to_file.close()
        root.handlers = old
        root.setLevel(level)


def train(names: Sequence[str], plan: Plan) -> None:
    """Train systems in the order given; finished ones are skipped, interrupted ones resumed.

    Raises:
        ValueError: If a name is unknown, or a directory was made with other settings.
        FileNotFoundError: If a system's start is missing; says what makes it.
    """
    systems = [get_system(name) for name in names]
    for system in systems:
        start, output = plan.expdir / system.start, plan.expdir / system.name
        if not (start / "config.json").is_file():
            raise FileNotFoundError(f"{start} is missing: {made_by(system.start)}")
        command = plan.command(system)
        if is_trained(system, plan):
            print(f"{system.name}: finished earlier, skipped ({summary(output)})")
            if plan.options.get("keep_checkpoints") == "false":
                remove_checkpoints(output)
            continue
        print(f"== {system.name}: {system.does}; from {system.start}", flush=True)
        from espnet_plugin.quick_start import quick_start

        quick_start()
        from espnet_plugin.task import AsyncSwitchTask  # 8 s: only when there is work

        command += [word for name, value in plan.launcher.items() for word in (f"--{name}", value)]
        with log_to(output / (f"train.rank{plan.rank}.log" if plan.rank else "train.log")):
            logging.info("asr_train %s", " ".join(command))
            AsyncSwitchTask.main(cmd=command)
        if plan.options.get("ngpu", "0") != "0":
            # Optimisers and schedules refer to each other: what they hold of a GPU would stay there
            # until Python looks for such cycles, while the next system is built.
            gc.collect()
        if not is_finished(output):
            raise RuntimeError(f"{output} is not finished: see {output / 'train.log'}")


def is_trained(system: System, plan: Plan) -> bool:
    """Tell whether a system is finished, from the same data and with the same settings.

    Raises:
        ValueError: If its directory was made with other settings, or from another start or data.
    """
    return same_run(plan.expdir / system.name, _record(plan.command(system)))


def _record(command: list[str]) -> dict[str, Any]:
    """Return what a training is: its options, its configuration's text, hashes of its data."""
    options = dict(zip((n.lstrip("-") for n in command[::2]), command[1::2], strict=True))
    return {
        **options,
        "configuration": Path(options["config"]).read_text(encoding="utf-8"),
        CONTENT: contents(options),
    }
