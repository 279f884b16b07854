"""Where tasks run, and how many are sent ahead; `cluster` runs them in other processes, `InProcess` in this one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self

from shapestore.errors import ShapestoreError, StoppedEarly

TASKS_PER_SLOT = 2
"""Tasks that wait at the cluster for each one that runs, so that no worker idles and no results pile up."""

POLL_SECONDS = 0.5
"""How long a coordinator waits for a result before it looks at anything else, such as an interrupt."""

MOST_DEATHS = 3
"""Workers that may die at one task before it is given up: one may have been killed by somebody else."""

Task = tuple[Any, ...]


class TaskDied(ShapestoreError):
    """The process that ran a task died with it."""


class Workers(ABC):
    """Runs tasks; each is named by a key of the caller's."""

    slots: int
    """Tasks that can run at once."""
    isolated: bool
    """Whether tasks run in processes of their own, whose death this one survives."""

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
    isolated = False

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
    TaskDied
        Worker after worker dies at one task.
    """
    waiting = iter(tasks)
    running: dict[Task, tuple[Callable[..., Any], tuple[Any, ...]]] = {}
    deaths: Counter[Task] = Counter()
    while True:
        if interrupted():
            raise StoppedEarly("interrupted. Run the same command again.")
        while len(running) < TASKS_PER_SLOT * workers.slots and (task := next(waiting, None)) is not None:
            key, function, arguments = task
            running[key] = function, arguments
            workers.submit(key, function, *arguments)
        if not running:
            return
        if (finished := workers.next_done(timeout=POLL_SECONDS)) is None:
            continue
        key, result = finished
        try:
            value = result()
        except TaskDied:
            deaths[key] += 1
            if deaths[key] == MOST_DEATHS:
                raise
            function, arguments = running[key]
            workers.submit(key, function, *arguments)
            continue
        yield key, value
        del running[key]
