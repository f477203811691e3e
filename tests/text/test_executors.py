import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from espnet_plugin.text.corpus.config import read_settings
from espnet_plugin.text.executors import IN_FLIGHT, LocalExecutor, SlurmCluster, make_executor

ROOT = Path(__file__).resolve().parents[2]


def slow_square(number: int) -> int:
    time.sleep(0.02 * (3 - number % 4))  # later items end first
    return number * number


def fail_at_3(number: int) -> int:
    if number == 3:
        raise ValueError("line 3 is bad")
    return number


def die_at_2(number: int) -> int:
    if number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def process_of(number: int) -> tuple[int, str | None]:
    return os.getpid(), os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("items", [0, 1, 2, 9])
def test_one_worker_works_here_and_in_order(items: int) -> None:
    with LocalExecutor(1) as executor:
        assert list(executor.ordered_map(slow_square, range(items))) == [
            n * n for n in range(items)
        ]
        found = list(executor.ordered_map(process_of, range(2)))
        assert [process for process, _ in found] == [os.getpid()] * 2


def test_processes_give_results_in_order_with_few_items_in_flight(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(20):
            taken += 1
            yield number

    with LocalExecutor(2) as executor:
        assert list(executor.ordered_map(process_of, [0])) == [(os.getpid(), None)]  # one item
        for done, square in enumerate(executor.ordered_map(slow_square, items())):
            assert square == done * done
            assert taken - done <= 2 * IN_FLIGHT
        # the workers are kept, and have one thread each
        found = list(executor.ordered_map(process_of, range(8)))
        assert os.getpid() not in {process for process, _ in found}
        assert len({process for process, _ in found}) <= 2
        assert {threads for _, threads in found} == {"1"}
        executor.rest()
        assert not multiprocessing.active_children()
        with pytest.raises(ValueError, match="line 3 is bad"):
            list(executor.ordered_map(fail_at_3, range(20)))
        with pytest.raises(ValueError, match="a worker process was killed.*fewer --workers"):
            list(executor.ordered_map(die_at_2, range(4)))
    assert "OMP_NUM_THREADS" not in os.environ


ORPHANS = """
import os, time
from espnet_plugin.text.executors import LocalExecutor
from tests.text.test_executors import process_of
if __name__ == "__main__":
    with LocalExecutor(2) as executor:
        print(*{process for process, _ in executor.ordered_map(process_of, range(8))}, flush=True)
        time.sleep(60)
"""


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert workers
    parent.kill()
    parent.communicate()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "the workers outlive their parent"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "dusk"}, r"--executor: 'dusk' \(did you mean dask\?\); local or dask"),
        ({"workers": 0}, "workers is at least 1, got 0"),
        ({"scheduler": "tcp://a:1"}, "are for --executor dask"),
        ({"cluster": "x.yaml"}, "are for --executor dask"),
        ({"name": "dask"}, "either --scheduler ADDRESS or --cluster YAML"),
        ({"name": "dask", "workers": 2}, "a Dask cluster has its own"),
    ],
)
def test_options_that_do_not_go_together(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_executor(**options)


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    dask = pytest.importorskip("dask")
    # imported later, its settings would be taken back as a whole with the one that is set here
    pytest.importorskip("distributed")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "100ms"}),
        pytest.raises(ValueError, match=r"tcp://127.0.0.1:9: no Dask scheduler answers"),
    ):
        list(make_executor("dask", scheduler="tcp://127.0.0.1:9").ordered_map(abs, [1]))


def test_the_slurm_configuration_is_that_of_the_defaults_and_makes_a_job() -> None:
    settings = read_settings(SlurmCluster, ROOT / "conf/dask_slurm.yaml")
    assert settings == SlurmCluster()
    jobqueue = pytest.importorskip("dask_jobqueue")
    chosen = SlurmCluster(cores=4, queue="long", job_extra_directives=("--constraint=ib",))
    job = jobqueue.slurm.SLURMJob(
        scheduler="tcp://head:8786", name="worker", **chosen.options()
    ).job_script()
    for expected in ("-p long", "--cpus-per-task=4", "--constraint=ib", "export OMP_NUM_THREADS=1"):
        assert expected in job
    assert "--nthreads 1 " in job and "--nworkers 4 " in job


def test_an_unknown_cluster_setting_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("qeue: long\n")
    with pytest.raises(ValueError, match=r"c.yaml: unknown setting 'qeue' \(did you mean queue\?"):
        make_executor("dask", cluster=path)
