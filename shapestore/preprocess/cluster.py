"""A Dask cluster to run tasks on: its life, and the rehearsal that keeps its first minute short."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from itertools import count
from multiprocessing import resource_tracker
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from shapestore.errors import UsageError
from shapestore.preprocess.workers import MOST_DEATHS, POLL_SECONDS, Task, TaskDied, Workers

PINNED = dict.fromkeys(
    (
        "BLOSC_NTHREADS",
        "MKL_NUM_THREADS",
        "NUMBA_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
"""One native thread a worker, so that N workers use N cores."""

REHEARSAL_SECONDS = 120.0
"""Longest time to wait for a machine's first task; all kernels together compile in less than half of it."""

RESTART_SECONDS = 15.0
"""Time in which a nanny starts a dead worker anew; on an idle machine that takes 2."""

SCRATCH = "shapestore-workers-"
"""How the names of temporary folders begin."""


class DaskWorkers(Workers):
    """Runs tasks on a Dask cluster: a local one of `workers` processes, or the one at `scheduler`."""

    isolated = True

    def __init__(self, workers: int | None = None, scheduler: str | None = None) -> None:
        self._workers = workers or available_cores()
        self._scheduler = scheduler
        self._stack = ExitStack()
        self._cluster: Any = None
        self._missing: dict[Any, float] = {}
        self._running: dict[str, tuple[Task, Any]] = {}
        self._done: SimpleQueue[str] = SimpleQueue()

    def __enter__(self) -> Self:
        import dask
        from distributed import Client

        settings = {
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.scheduler.allowed-failures": 0,  # who gave the task knows better what to do next
            "distributed.worker.memory.terminate": False,
            "distributed.nanny.pre-spawn-environ": PINNED,
            "distributed.admin.system-monitor.gil.enabled": False,
            # Nobody looks at what these sample, many times a second: together 4 % of the time of two workers.
            "distributed.admin.tick.interval": "1s",
            "distributed.worker.profile.enabled": False,
        }
        self._stack.enter_context(dask.config.set(settings))
        target: Any = self._scheduler
        if self._scheduler is None:
            scratch = self._stack.enter_context(_scratch_folder())
            self._stack.enter_context(dask.config.set({"temporary-directory": scratch}))
            with _leaving_interrupts_to_us():
                target = self._cluster = self._stack.enter_context(_local_cluster(self._workers, scratch))
        try:
            self._client = self._stack.enter_context(Client(target, set_as_default=False))
        except OSError:
            self._stack.close()
            raise UsageError(f"no Dask scheduler answers at {target}. Start one with: dask scheduler.") from None
        if self._scheduler is None:
            self.slots = self._workers  # not those that live now: one that was killed is started anew
            return self
        self._client.wait_for_workers(1)
        threads = self._client.nthreads().values()
        if max(threads, default=1) > 1:
            raise UsageError(
                "limits of time and memory are those of a process, so each must run one task at a time. Start the "
                "workers with: dask worker ADDRESS --nthreads 1 --nworkers N"
            )
        self.slots = max(1, sum(threads))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, future in self._running.values():
            future.cancel()
        self._stack.__exit__(kind, error, trace)

    def rehearse(self, interrupted: Callable[[], bool], function: Callable[..., Any], *arguments: Any) -> None:
        """Run the task on one worker of each machine that has several; the others import what it needs meanwhile."""
        machines = defaultdict(list)
        for address, worker in self._client.scheduler_info(n_workers=-1)["workers"].items():
            machines[worker["host"]].append(address)
        running = []
        for chosen, *others in filter(lambda workers: len(workers) > 1, machines.values()):
            running.append(self._client.submit(function, *arguments, pure=False, **_preferring(chosen)))
            running += [
                self._client.submit(import_module, function.__module__, pure=False, **_preferring(other))
                for other in others
            ]
        # What goes wrong here goes wrong again where it counts, and so does what takes too long.
        latest = time.monotonic() + REHEARSAL_SECONDS
        while not all(future.done() for future in running) and not interrupted() and time.monotonic() < latest:
            time.sleep(POLL_SECONDS / 10)
        for future in running:
            future.cancel()

    def submit(self, key: Task, function: Callable[..., Any], *arguments: Any) -> None:
        """Send the task to the cluster."""
        future = self._client.submit(function, *arguments, pure=False)
        self._running[future.key] = (key, future)
        future.add_done_callback(lambda done: self._done.put(done.key))

    def next_done(self, timeout: float) -> tuple[Task, Callable[[], Any]] | None:
        """Wait for a task."""
        try:
            key, future = self._running.pop(self._done.get(timeout=timeout))
        except Empty:
            self._replace_lost()
            return None
        return key, lambda: _result(future)

    def _replace_lost(self) -> None:
        """Start workers in the place of those that are gone for good.

        A nanny starts a dead worker anew, but gives up where that one dies before it has reported back, as
        happens when its first task kills it.
        """
        if self._cluster is None:
            return
        alive = {worker["name"] for worker in self._client.scheduler_info(n_workers=-1)["workers"].values()}
        now = time.monotonic()
        self._missing = {name: self._missing.get(name, now) for name in self._cluster.worker_spec if name not in alive}
        gone = [name for name, since in self._missing.items() if now - since > RESTART_SECONDS]
        for name in gone:
            del self._cluster.worker_spec[name]
        if gone:
            self._cluster.scale(self._workers)


def _local_cluster(workers: int, scratch: str) -> Any:
    """A cluster of `workers` processes, begun anew where one of them dies while it starts."""
    from distributed import LocalCluster

    for deaths in count(1):
        try:
            return LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # None would take the one port that every cluster wants
                local_directory=scratch,
                silence_logs=logging.CRITICAL,
            )
        except RuntimeError as error:  # the cluster has closed itself
            if deaths == MOST_DEATHS:
                raise TaskDied(
                    f"worker processes die when they start: {str(error).rstrip('.')}. Use fewer --workers if memory is "
                    "short; in a script of your own, call this under `if __name__ == '__main__':`."
                ) from None
    raise AssertionError


def sweep_scratch() -> None:
    """Remove the temporary folders of processes that were killed: a living one holds a lock on its own."""
    for folder in Path(tempfile.gettempdir()).glob(f"{SCRATCH}*"):
        with suppress(OSError), _locked(folder):
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _scratch_folder() -> Iterator[str]:
    """A temporary folder that goes with the `with` block; if this process is killed, `sweep_scratch` removes it."""
    with tempfile.TemporaryDirectory(prefix=SCRATCH) as folder, _locked(Path(folder)):
        yield folder


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _preferring(address: str) -> dict[str, Any]:
    """Where a task should run, but need not: its worker may die."""
    return {"workers": [address], "allow_other_workers": True}


def _result(future: Any) -> Any:
    from distributed.scheduler import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise TaskDied(
            f"a worker process died while it ran a task ({error.task}). See the worker's log; if memory was short, use "
            "fewer --workers."
        ) from None


@contextmanager
def _leaving_interrupts_to_us() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal: those that are started here never see it.

    They inherit the mask of the thread that starts them, and so does each worker that takes the place of a dead one. A
    signal that comes meanwhile reaches this process afterwards.
    """
    resource_tracker.ensure_running()  # it would lift the mask itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
