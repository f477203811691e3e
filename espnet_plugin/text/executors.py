"""Where the units of corpus preparation run: here, in processes, or on a Dask cluster.

All have `ordered_map(fn, items)`: results in the order of the items, a bounded number of items in
flight, so that neither a corpus nor its results are ever held as a whole. What a unit gives depends
on the item alone; which executor ran it, and with how many workers, cannot be seen in the result.
"""

import importlib.util
import multiprocessing
import os
import signal
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

IN_FLIGHT = 2  # items per worker: one at work, one waiting
EXECUTORS = ("local", "dask")
# One process a core does the parallel work; threads of libraries would only compete for it.
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS", "ARROW_NUM_THREADS")


class Executor(ABC):
    """Runs a function over items; a context manager that ends its workers.

    Attributes:
        workers: How many items are worked on at a time.
    """

    workers: int

    @abstractmethod
    def ordered_map[A, B](self, fn: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield `fn(item)` for each item, in order; the first error ends it."""

    def rest(self) -> None:  # noqa: B027  # a cluster's workers take no memory from here
        """Give back what idle workers hold, before work that this process does alone."""

    def __enter__(self) -> Self:
        """Return the executor."""
        return self

    @abstractmethod
    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """End the workers."""


class LocalExecutor(Executor):
    """Processes on this machine; with one worker, or one item, the work is done in this one."""

    def __init__(self, workers: int) -> None:
        """Set the number of workers; processes start with the second item.

        Raises:
            ValueError: If there are less than one.
        """
        if workers < 1:
            raise ValueError(f"workers is at least 1, got {workers}")
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def ordered_map[A, B](self, fn: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield `fn(item)` for each item, in order.

        Raises:
            ValueError: If a worker was killed, as a system short of memory does.
        """
        source = iter(items)
        first = [item for _, item in zip(range(2), source, strict=False)]
        if self.workers == 1 or len(first) < 2:
            for item in first:
                yield fn(item)
            yield from map(fn, source)
            return
        if self._pool is None:
            self._pool = _start(self.workers)
        running: deque[Any] = deque()
        try:
            running.extend(self._pool.submit(fn, item) for item in first)
            first.clear()
            for item in source:
                running.append(self._pool.submit(fn, item))
                del item  # its bytes are the worker's now
                if len(running) >= self.workers * IN_FLIGHT:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BrokenProcessPool as error:
            self._pool = None
            raise ValueError(
                "a worker process was killed, perhaps for lack of memory; what is finished is "
                "kept: run the same command again, with fewer --workers"
            ) from error
        finally:
            for future in running:
                future.cancel()

    def rest(self) -> None:
        """End the processes, and with them their caches; the next items start new ones."""
        self.__exit__(None)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """End the processes; after an error without waiting for what is queued."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
            self._pool = None


def _start(workers: int) -> ProcessPoolExecutor:
    """Start processes with one thread each: a fresh Python, since a fork of threads may hang."""
    missing = [name for name in ONE_THREAD if name not in os.environ]
    os.environ.update(dict.fromkeys(missing, "1"))
    try:
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
        for future in [pool.submit(os.getpid) for _ in range(workers)]:
            future.result()  # all have started, with this environment
        return pool
    finally:
        for name in missing:
            del os.environ[name]


def _begin_worker() -> None:
    """Leave Ctrl-C to the parent, and end with it: else a kill of the parent leaves orphans."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@dataclass(frozen=True)
class SlurmCluster:
    """Dask workers as Slurm jobs; conf/dask_slurm.yaml says it as YAML."""

    jobs: int = 1
    """Slurm jobs to submit."""
    cores: int = 8
    """Processors of a job; each gets a worker process."""
    memory: str = "16GB"
    """Memory of a job."""
    walltime: str = "04:00:00"
    """Time limit of a job."""
    queue: str | None = None
    """Partition; null: the cluster's default."""
    account: str | None = None
    """Account to charge; null: the user's default."""
    interface: str | None = None
    """Network interface between scheduler and workers, such as `ib0`; null: the default route."""
    local_directory: str | None = None
    """Where workers put scratch files, on a disk of the node; null: Dask's choice."""
    log_directory: str = "exp/logs/dask"
    """Where the jobs' logs go."""
    python: str | None = None
    """Python on the nodes; null: the path of this one."""
    job_script_prologue: tuple[str, ...] = ()
    """Shell lines of the job before the worker starts, such as `module load`."""
    job_extra_directives: tuple[str, ...] = ()
    """More `#SBATCH` options, such as `--constraint=...`."""

    def start(self) -> Any:
        """Submit the jobs and return the `dask_jobqueue.SLURMCluster`.

        Raises:
            ValueError: If dask-jobqueue is not installed.
        """
        try:
            from dask_jobqueue import SLURMCluster
        except ImportError:
            raise ValueError(
                "--cluster needs dask-jobqueue: pip install 'espnet-asyncswitch[text]'"
            ) from None
        cluster = SLURMCluster(n_workers=0, **self.options())
        cluster.scale(jobs=self.jobs)
        return cluster

    def options(self) -> dict[str, Any]:
        """Return the settings as dask-jobqueue names them; those that are null are left out."""
        names = [name for name in self.__dataclass_fields__ if name != "jobs"]
        options = {name: getattr(self, name) for name in names}
        prologue = [*(f"export {name}=1" for name in ONE_THREAD), *self.job_script_prologue]
        options |= {"processes": self.cores, "job_script_prologue": prologue}
        options["job_extra_directives"] = list(self.job_extra_directives)
        return {name: value for name, value in options.items() if value is not None}


class DaskExecutor(Executor):
    """Workers of a Dask cluster; all must see the same files under the same paths.

    They are asked for with the first item: where everything is finished, nobody waits for Slurm.
    """

    def __init__(self, scheduler: str | None = None, cluster: SlurmCluster | None = None) -> None:
        """Choose the workers.

        Args:
            scheduler: Address such as `tcp://host:8786`, or the path of a scheduler file.
            cluster: Workers to start as Slurm jobs instead.

        Raises:
            ValueError: If not exactly one is given, or Dask is not installed.
        """
        if (scheduler is None) == (cluster is None):
            raise ValueError("--executor dask needs either --scheduler ADDRESS or --cluster YAML")
        if importlib.util.find_spec("distributed") is None:
            raise ValueError("--executor dask needs Dask: pip install 'espnet-asyncswitch[text]'")
        self._scheduler, self._settings = scheduler, cluster
        self._cluster: Any = None
        self._client: Any = None

    def _connect(self) -> Any:
        """Return the client, and at the first call find the scheduler or start the cluster.

        Raises:
            ValueError: If no scheduler answers, or dask-jobqueue is not installed.
        """
        if self._client is not None:
            return self._client
        from distributed import Client

        scheduler = self._scheduler
        self._cluster = self._settings.start() if self._settings else None
        try:
            if scheduler is not None and Path(scheduler).is_file():
                self._client = Client(scheduler_file=scheduler)
            else:
                self._client = Client(self._cluster or scheduler)
        except (OSError, ValueError) as error:  # OSError: the time to answer is over
            raise ValueError(
                f"--scheduler {scheduler}: no Dask scheduler answers: {error}"
            ) from error
        print(f"waiting for the workers of {self._client}", flush=True)
        self._client.wait_for_workers(1)
        return self._client

    @property
    def workers(self) -> int:  # type: ignore[override]
        """Threads of the workers that are there now: more may come."""
        return sum(self._connect().nthreads().values())

    def ordered_map[A, B](self, fn: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
        """Yield `fn(item)` for each item, in order.

        Raises:
            ValueError: If workers died several times over the same item; as `_connect`.
        """
        from distributed import KilledWorker

        running: deque[Any] = deque()
        try:
            for item in items:
                running.append(self._connect().submit(fn, item, pure=False))
                del item
                if len(running) >= IN_FLIGHT * self.workers:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except KilledWorker as error:
            raise ValueError(
                f"Dask workers died over and over ({error}), perhaps for lack of memory; what is "
                "finished is kept: run the same command again, with more memory a worker"
            ) from error
        finally:
            if running:
                self._client.cancel(list(running))

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        """Leave the cluster; one that was started here ends."""
        if self._client is not None:
            self._client.close()
        if self._cluster is not None:
            self._cluster.close()


def make_executor(
    name: str = "local",
    workers: int | None = None,
    scheduler: str | None = None,
    cluster: str | Path | None = None,
) -> Executor:
    """Make an executor from the options of the command line.

    Args:
        name: `local` or `dask`.
        workers: Local processes; None is one a processor.
        scheduler: Address of a Dask scheduler.
        cluster: YAML of a `SlurmCluster`.

    Raises:
        ValueError: If options are wrong or do not go together.
    """
    from espnet_plugin.cli import nearest
    from espnet_plugin.text.corpus.config import read_settings

    if name == "dask":
        if workers is not None:
            raise ValueError("--workers is for --executor local; a Dask cluster has its own")
        settings = read_settings(SlurmCluster, cluster) if cluster is not None else None
        return DaskExecutor(scheduler, settings)
    if name != "local":
        raise ValueError(f"--executor: '{name}'{nearest(name, EXECUTORS)}; local or dask")
    if scheduler is not None or cluster is not None:
        raise ValueError("--scheduler and --cluster are for --executor dask")
    return LocalExecutor((os.cpu_count() or 1) if workers is None else workers)
