"""Trainings on several nodes: who is which rank, what srun is given, and a real Slurm."""

import argparse
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.fixtures import slurm as fixture
from tests.fixtures.recipe import ROOT, Recipe
from tests.fixtures.slurm import Slurm, running_slurm


def parsed(**given: Any) -> argparse.Namespace:
    names = "dist_rank dist_world_size local_rank dist_master_addr dist_master_port dist_launcher"
    plain = {"ngpu": 0, "dist_backend": "nccl", "multiprocessing_distributed": False}
    return argparse.Namespace(
        **dict.fromkeys(names.split()) | plain | {"sharded_ddp": False} | given
    )


def step(nodes: int, tasks: int, rank: int, local: int, **more: str) -> dict[str, str]:
    """Return what Slurm gives a task of a job step."""
    found = {"NTASKS": tasks, "STEP_NUM_NODES": nodes, "PROCID": rank, "LOCALID": local}
    found |= {"NODEID": rank * nodes // tasks, "JOB_ID": 4711, "STEP_ID": 2}
    names = {f"SLURM_{name}": str(value) for name, value in found.items()}
    return names | {"SLURM_STEP_NODELIST": f"gpu-a[03-{nodes + 2:02d}]"} | more


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)


@pytest.mark.usefixtures("gpus")
def test_a_task_of_slurm_is_a_rank() -> None:
    from espnet_plugin.distributed import checks_data, resolve

    args = parsed(ngpu=2, multiprocessing_distributed=True)
    resolve(args, step(2, 4, 3, 1, CUDA_VISIBLE_DEVICES="0,1"))
    assert (args.dist_rank, args.dist_world_size, args.local_rank, args.ngpu) == (3, 4, 1, 1)
    assert args.dist_master_addr == "gpu-a03" and args.dist_backend == "nccl"
    assert not args.multiprocessing_distributed and not checks_data(args)
    other = parsed(ngpu=2)
    resolve(other, step(2, 4, 2, 0, CUDA_VISIBLE_DEVICES="1"))
    assert (other.dist_rank, other.local_rank) == (2, 0), "it sees its own GPU alone"
    assert other.dist_master_port == args.dist_master_port
    assert checks_data(other, {"SLURM_LOCALID": "0"})
    assert not checks_data(other, {"SLURM_LOCALID": "1"})

    cpu = parsed()
    resolve(cpu, step(1, 2, 1, 1))
    assert (cpu.dist_rank, cpu.dist_world_size, cpu.local_rank, cpu.ngpu) == (1, 2, None, 0)
    assert (cpu.dist_master_addr, cpu.dist_backend) == ("localhost", "gloo")

    parent = parsed(ngpu=4)  # one task a node: ESPnet starts the processes
    resolve(parent, step(2, 2, 1, 0))
    assert parent.multiprocessing_distributed and parent.ngpu == 4 and checks_data(parent)
    assert (parent.dist_rank, parent.dist_world_size) == (1, 2), "of nodes"
    with pytest.raises(ValueError, match="3 tasks on 1 node.s. for --ngpu 2 .*per-node=2"):
        resolve(parsed(ngpu=2), step(1, 3, 0, 0))


@pytest.mark.parametrize("asked", [None, "INFO"])
def test_nccl_speaks_of_trouble_alone_unless_asked(
    monkeypatch: pytest.MonkeyPatch, asked: str | None
) -> None:
    from espnet_plugin.distributed import resolve

    monkeypatch.setenv("NCCL_DEBUG", asked or "")
    if asked is None:
        monkeypatch.delenv("NCCL_DEBUG")
    resolve(parsed(), {})
    assert os.environ["NCCL_DEBUG"] == (asked or "WARN")


@pytest.mark.usefixtures("gpus")
def test_other_launchers_and_one_process() -> None:
    from espnet_plugin.distributed import checks_data, resolve

    torchrun = {"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a"}
    args = parsed(ngpu=1)
    resolve(args, torchrun)
    assert (args.dist_rank, args.dist_world_size, args.local_rank, args.ngpu) == (3, 4, 1, 1)
    given = parsed(dist_rank=0, dist_world_size=2)
    resolve(given, torchrun)
    assert (given.dist_rank, given.dist_world_size, given.local_rank) == (0, 2, None)
    several = parsed(ngpu=4)
    resolve(several, {})
    assert several.multiprocessing_distributed and checks_data(several), "a process for each GPU"
    alone = parsed(ngpu=1)
    resolve(alone, {"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "a"})
    assert alone.dist_rank is None and not alone.multiprocessing_distributed and checks_data(alone)
    with pytest.raises(ValueError, match="fairscale.*--shard_optimizer"):
        resolve(parsed(sharded_ddp=True), {})


@pytest.mark.usefixtures("gpus")
def test_more_gpus_than_there_are() -> None:
    from espnet_plugin.distributed import resolve

    resolve(parsed(ngpu=4), {})
    with pytest.raises(ValueError, match="5 GPU.s. are needed here and torch .* sees 4.*--ngpu 0"):
        resolve(parsed(ngpu=5), {})
    torchrun = {"RANK": "4", "LOCAL_RANK": "4", "WORLD_SIZE": "5"}
    with pytest.raises(ValueError, match="5 GPU.s. are needed here"):
        resolve(parsed(ngpu=1), torchrun)
    resolve(parsed(), torchrun)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("n1", "n1"), ("n1,n2", "n1"), ("gpu-[03-05,9],x", "gpu-03"), ("a[1,3]-ib,b", "a1-ib")],
)
def test_the_first_host_of_slurms_list(nodes: str, first: str) -> None:
    from espnet_plugin.distributed import first_host

    assert first_host(nodes) == first


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    made = Recipe(tmp_path)
    made.program("srun", '#!/usr/bin/env bash\n(IFS="|"; echo "srun|$*") >>"$CALLS"\nexit 5\n')
    return made


def option(call: list[str], name: str) -> str:
    return call[call.index(name) + 1]


def test_slurm_gets_the_job(recipe: Recipe) -> None:
    recipe.data("tr", "va", "te1", "te2")
    recipe.text()
    options = ["--train_set", "tr", "--valid_set", "va", "--test_sets", "te1 te2", "--ngpu", "2"]
    options += ["--expdir", "my exp", "--num_nodes", "2"]
    slurm = {"cmd_backend": "slurm", "slurm_options": "--partition=a100 --time=9:00:00"}
    result = recipe.run("asyncswitch.sh", *options, **slurm)
    assert result.returncode == 5
    call = recipe.calls()[-1]
    assert call[0] == "srun" and option(call, "--systems") == "adapt_text"
    assert {"--partition=a100", "--time=9:00:00", "--gres=gpu:2", "my exp"} < set(call)
    assert {"--nodes=2", "--ntasks-per-node=2"} < set(call), "a training is on all GPUs"
    options += ["--stage", "12", "--stop_stage", "12", "--systems", "init"]
    result = recipe.run("asyncswitch.sh", *options, **slurm)
    call = recipe.calls()[-1]
    assert "--ntasks=1" in call and "--nodes=2" not in call, "decoding is on one node"
    result = recipe.run("asyncswitch.sh", *options, cmd_backend="pbs")
    assert result.returncode == 2
    assert "cmd_backend is local, slurm or ssh, not 'pbs'" in result.stderr


@pytest.mark.parametrize("asked", ["", "3"])
def test_a_job_counts_its_own_processors(recipe: Recipe, asked: str) -> None:
    """Where it is started from, there may be eight times as many."""
    seen = '#!/usr/bin/env bash\necho "srun|${OMP_NUM_THREADS-its own}" >>"$CALLS"\nexit 5\n'
    recipe.program("srun", seen)
    for folder in ("exp/adapt_text", "dump/raw/train_paired", "dump/raw/valid_paired"):
        (recipe.asr1 / folder).mkdir(parents=True)
    (recipe.asr1 / "exp/adapt_text/config.json").write_text("{}")
    given = {"OMP_NUM_THREADS": asked} if asked else {}
    recipe.run("local/train_align.sh", "--config", "path.sh", cmd_backend="slurm", **given)
    assert recipe.calls() == [["srun", asked or "its own"]]


def test_a_task_of_a_job_has_the_jobs_processors(tmp_path: Path) -> None:
    script = [str(ROOT / "local/sbatch_train.sh"), "bash", "-c", 'echo "$SRUN_CPUS_PER_TASK"']
    job = {"PATH": os.environ["PATH"], "SLURM_SUBMIT_DIR": str(tmp_path)}
    asked = subprocess.run(
        script, env=job | {"SLURM_CPUS_PER_TASK": "8"}, capture_output=True, text=True
    )
    assert (asked.returncode, asked.stdout) == (0, "8\n"), asked.stderr
    plain = subprocess.run(script, env=job, capture_output=True, text=True)
    assert (plain.returncode, plain.stdout) == (0, "\n")


def test_a_training_takes_a_task_for_each_gpu_of_each_node(recipe: Recipe) -> None:
    for folder in ("exp/adapt_text", "dump/raw/train_paired", "dump/raw/valid_paired"):
        (recipe.asr1 / folder).mkdir(parents=True)
    (recipe.asr1 / "exp/adapt_text/config.json").write_text("{}")
    options = ["--config", "path.sh", "--ngpu", "4", "--num_nodes", "2"]
    result = recipe.run("local/train_align.sh", *options, cmd_backend="slurm")
    assert result.returncode == 5, "the stage fails with srun"
    (call,) = recipe.calls()
    ours = {"--nodes=2", "--ntasks-per-node=4", "--gres=gpu:4", "--cpus-per-task=8"}
    assert ours < set(call) and option(call, "--ngpu") == "4"
    result = recipe.run("local/train_align.sh", *options)
    assert result.returncode == 2 and "--num_nodes 2 needs cmd_backend=slurm" in result.stderr
    result = recipe.run("local/train_align.sh", *options, cmd_backend="ssh")
    assert result.returncode == 2 and "cmd_backend=ssh needs cmd_hosts" in result.stderr
    lang = ["--", "--lang_tokens", "cs:ms ms:ms"]
    hosts = {"cmd_backend": "ssh", "cmd_hosts": "a,b"}
    assert recipe.run("local/train_align.sh", *options, *lang, **hosts).returncode == 0
    call = recipe.calls()[-1]
    assert call[0] == "launch" and option(call, "--host") == "a,b"
    assert call[-2:] == ["--lang_tokens", r"cs:ms\ ms:ms"], "quoted for a shell of the host"


CONFIG = """
optim: adamw
optim_conf: {lr: 1.0e-3, eps: 1.0e-4}
scheduler: freeze
scheduler_conf: {inner: warmuplinear, inner_conf: {warmup_steps: 2, total_steps: 200}}
max_epoch: EPOCHS
num_iters_per_epoch: 4
batch_type: numel
batch_bins: 60000
autocast: none
num_workers: 0
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    if why := fixture.trouble():
        pytest.skip(why)
    with running_slurm(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def options(tiny_whisper: Path, tmp_path: Path) -> dict[str, str]:
    from tests.fixtures.pairs import write_pairs

    (tmp_path / "conf.yaml").write_text(CONFIG.replace("EPOCHS", "2"))
    write_pairs(tmp_path / "train", 23)
    write_pairs(tmp_path / "valid", 5, seed=1)
    paths = {"train": "train", "valid": "valid", "config": "conf.yaml", "expdir": "exp"}
    found = {name: str(tmp_path / value) for name, value in paths.items()}
    return found | {"init_dir": str(tiny_whisper), "ngpu": "0"}


def words(options: dict[str, str], **more: str) -> list[str]:
    return [word for name, value in (options | more).items() for word in (f"--{name}", value)]


def same(one: Path, other: Path, tolerance: float) -> None:
    from espnet_plugin.checkpoint import load_state
    from espnet_plugin.training.curve import read_curve

    for a, b in zip(read_curve(one / "curve.csv"), read_curve(other / "curve.csv"), strict=True):
        assert a["valid_loss"] == pytest.approx(b["valid_loss"], rel=tolerance)
    first, second = load_state(one), load_state(other)
    assert max(float((first[n] - second[n]).abs().max()) for n in first) <= tolerance


@pytest.mark.slow
def test_espnets_launcher_trains_on_two_hosts(options: dict[str, str], tmp_path: Path) -> None:
    """The hosts are this machine twice: `ssh` is a script that runs what it is given."""
    ssh = tmp_path / "bin/ssh"
    ssh.parent.mkdir()
    ssh.write_text('#!/bin/sh\necho "$1" >>"$0.hosts"\nshift\nexec sh -c "$*"\n')
    ssh.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_")}
    environment |= {"PATH": f"{ssh.parent}:{environment['PATH']}", "OMP_NUM_THREADS": "1"}
    hosts = {"cmd_backend": "ssh", "cmd_hosts": "localhost,127.0.0.1"}
    hosts["cmd_port"] = str(fixture.free_ports(1)[0])
    script = [str(ROOT / "local/train_align.sh")]
    more = ["--", "--lang_tokens", "cs:ms ms:ms en:en"]
    for name, variables in (("two", environment | hosts), ("one", environment)):
        command = script + words(options, output_dir=str(tmp_path / name)) + more
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert sorted((tmp_path / "bin/ssh.hosts").read_text().split()) == ["127.0.0.1", "localhost"]
    assert yaml.safe_load((tmp_path / "two/config.yaml").read_text())["dist_world_size"] == 2
    same(tmp_path / "one", tmp_path / "two", 1e-5)


@pytest.mark.slow
def test_slurm_runs_a_training_on_two_nodes(
    slurm: Slurm, options: dict[str, str], tmp_path: Path
) -> None:
    script = str(ROOT / "local/train_align.sh")
    more = {"output_dir": str(tmp_path / "two"), "num_nodes": "2"}
    backend = {"cmd_backend": "slurm", "slurm_options": "", "OMP_NUM_THREADS": "1"}
    here = ["--", "--dist_master_addr", "127.0.0.1"]  # the nodes' names are known to Slurm alone
    slurm.run(script, *words(options, **more), *here, **backend)
    config = yaml.safe_load((tmp_path / "two/config.yaml").read_text())
    assert config["dist_world_size"] == 2 and config["dist_backend"] == "gloo"
    slurm.run(script, *words(options, output_dir=str(tmp_path / "one")), OMP_NUM_THREADS="1")
    assert yaml.safe_load((tmp_path / "one/config.yaml").read_text())["dist_world_size"] is None
    same(tmp_path / "one", tmp_path / "two", 1e-5)


@pytest.mark.slow
def test_a_job_that_is_warned_goes_back_into_the_queue_and_on(
    slurm: Slurm, options: dict[str, str], tmp_path: Path
) -> None:
    Path(options["config"]).write_text(CONFIG.replace("EPOCHS", "16"))
    job = ["--chdir", str(ROOT), "--output", str(tmp_path / "log"), "--gres=none", "--parsable"]
    job += ["--ntasks-per-node=2", "--cpus-per-task=1"]
    training = ["local/train_align.sh", *words(options, output_dir=str(tmp_path / "two"))]
    extra = {"slurm_options": "--ntasks-per-node=2", "OMP_NUM_THREADS": "1"}
    number = slurm.run("sbatch", *job, str(ROOT / "local/sbatch_train.sh"), *training, **extra)
    number = number.strip().split("\n")[-1]
    end = time.monotonic() + 240
    while not (tmp_path / "two/1epoch.pth").exists():
        assert time.monotonic() < end, (tmp_path / "log").read_text()[-3000:]
        time.sleep(0.1)
    slurm.run("scancel", "--signal=USR1", number)  # what --signal sends before the time limit
    slurm.wait("squeue", "-h", "-j", number, "-o", "%T", until="", seconds=400)
    log = (tmp_path / "log").read_text()
    assert f"stopped with a checkpoint; job {number} goes back into the queue" in log, log[-3000:]
    assert (tmp_path / "two/training.json").is_file(), log[-3000:]
    slurm.run(str(ROOT / training[0]), *words(options, output_dir=str(tmp_path / "one")))
    same(tmp_path / "one", tmp_path / "two", 1e-3)
