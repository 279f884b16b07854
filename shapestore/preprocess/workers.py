"""Where tasks run: a Dask cluster, or this process for debugging. Both hand back results as they come."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from shapestore.errors import StoppedEarly, UsageError

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

TASKS_PER_SLOT = 2
"""Tasks that wait at the cluster for each one that runs, so that no worker idles and no results pile up."""

POLL_SECONDS = 0.5
"""How long a coordinator waits for a result before it looks at anything else, such as an interrupt."""

Task = tuple[Any, ...]


class TaskDied(Exception):
    """The process that ran a task died with it, again and again."""


class Workers(ABC):
    """Runs tasks; each is named by a key of the caller's."""

    slots: int
    """Tasks that can run at once."""

    @abstractmethod
    def rehearse(self, interrupted: Callable[[], bool], function: Callable[..., Any], *arguments: Any) -> None:
        """Run a task once on every machine, and throw away what comes of it.

        It leaves the kernels that it compiled in the machine's cache: else each of the machine's workers would compile
        them all when it starts.
        """

    @abstractmethod
    def submit(self, key: Task, function: Callable[..., Any], *arguments: Any) -> None:
        """Start a task."""

    @abstractmethod
    def next_done(self, timeout: float) -> tuple[Task, Callable[[], Any]] | None:
        """A finished task's key, and a function that returns its result or raises its error; None after `timeout` s."""

    @abstractmethod
    def __enter__(self) -> Self: ...

    @abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InProcess(Workers):
    """Runs every task in this process, when its result is asked for."""

    slots = 1

    def __init__(self) -> None:
        self._waiting: list[tuple[Task, Callable[..., Any], tuple[Any, ...]]] = []

    def rehearse(self, interrupted: Callable[[], bool], function: Callable[..., Any], *arguments: Any) -> None:
        """Nothing: this process has nobody to share with."""

    def submit(self, key: Task, function: Callable[..., Any], *arguments: Any) -> None:
        """Remember the task."""
        self._waiting.append((key, function, arguments))

    def next_done(self, timeout: float) -> tuple[Task, Callable[[], Any]] | None:
        """Run the oldest task."""
        del timeout
        key, function, arguments = self._waiting.pop(0)
        return key, lambda: function(*arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._waiting.clear()


class DaskWorkers(Workers):
    """Runs tasks on a Dask cluster: a local one of `workers` processes, or the one at `scheduler`."""

    def __init__(self, workers: int | None = None, scheduler: str | None = None) -> None:
        self._workers = workers or available_cores()
        self._scheduler = scheduler
        self._stack = ExitStack()
        self._running: dict[str, tuple[Task, Any]] = {}
        self._done: SimpleQueue[str] = SimpleQueue()

    def __enter__(self) -> Self:
        import dask
        from distributed import Client, LocalCluster

        settings = {
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.scheduler.allowed-failures": 2,
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
            scratch = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="shapestore-"))
            with _leaving_interrupts_to_us():
                target = self._stack.enter_context(
                    LocalCluster(
                        n_workers=self._workers,
                        threads_per_worker=1,
                        processes=True,
                        memory_limit=0,
                        dashboard_address="127.0.0.1:0",  # None would take the one port that every cluster wants
                        local_directory=scratch,
                        silence_logs=logging.CRITICAL,
                    )
                )
        try:
            self._client = self._stack.enter_context(Client(target, set_as_default=False))
        except OSError:
            self._stack.close()
            raise UsageError(f"no Dask scheduler answers at {target}. Start one with: dask scheduler.") from None
        if self._scheduler is not None:
            self._client.wait_for_workers(1)
        self.slots = sum(self._client.nthreads().values())
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
        # What goes wrong here goes wrong again where it counts.
        while not all(future.done() for future in running) and not interrupted():
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
            return None
        return key, lambda: _result(future)


def run_all(
    workers: Workers,
    tasks: Iterable[tuple[Task, Callable[..., Any], tuple[Any, ...]]],
    interrupted: Callable[[], bool],
) -> Iterator[tuple[Task, Any]]:
    """Run independent tasks, a few ahead of the workers at a time; yields keys and results as they come.

    Raises
    ------
    StoppedEarly
        `interrupted` says so.
    """
    waiting = iter(tasks)
    running = 0
    while True:
        if interrupted():
            raise StoppedEarly("interrupted. Run the same command again.")
        while running < TASKS_PER_SLOT * workers.slots and (task := next(waiting, None)) is not None:
            key, function, arguments = task
            workers.submit(key, function, *arguments)
            running += 1
        if not running:
            return
        finished = workers.next_done(timeout=POLL_SECONDS)
        if finished is not None:
            key, result = finished
            yield key, result()
            running -= 1


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
        raise TaskDied(str(error)) from None


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
