"""`Batches`: what the loader gives, epoch after epoch, until a signal asks to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

from shapestore.errors import UsageError
from shapestore.train.data.batched import Batch


class Batches:
    """The batches of a loader of which each iteration is one epoch, or what is left of it.

    Clusters and terminals signal all processes at once, so the loader's workers may die while this one still has a
    checkpoint to write. That is no error, then.
    """

    def __init__(self, loader: Iterable[Batch], stopped: Callable[[], bool]) -> None:
        self._batches = _endless(loader, stopped)
        self._stopped = stopped
        self._taken = 0
        self._waited = 0.0

    def take(self) -> Batch | None:
        """The next batch; None where a signal asked to stop."""
        if self._stopped():
            return None
        began = time.perf_counter()
        try:
            batch = next(self._batches)
        except RuntimeError:  # torch has no other name for a dead worker
            if self._stopped():
                return None
            raise
        self._waited += time.perf_counter() - began
        self._taken += 1
        return batch

    def pace(self) -> tuple[int, float]:
        """Batches since the last call, and the seconds of waiting for them."""
        pace = self._taken, self._waited
        self._taken, self._waited = 0, 0.0
        return pace

    def close(self) -> None:
        """Leave the loader."""
        self._batches.close()


def _endless(loader: Iterable[Batch], stopped: Callable[[], bool]) -> Generator[Batch]:
    while True:
        epoch = iter(loader)
        with _deaths_told_to_who_waits(stopped):
            first = next(epoch, None)
            if first is None:
                raise UsageError("the loader gave no batch. Each iteration is an epoch; a generator has only one.")
            yield first
            yield from epoch


@contextmanager
def _deaths_told_to_who_waits(stopped: Callable[[], bool]) -> Iterator[None]:
    """Take torch's handler of SIGCHLD away, which raises wherever the main thread is: in the middle of an update, too.

    Who waits for a batch of a dead worker is told all the same. A process that was asked to stop does not get it back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        if not stopped():
            signal.signal(signal.SIGCHLD, before)
