"""Batches of a loader, whose workers may die: of a signal to all, or of themselves. Real ones die in test_resume.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from shapestore.errors import UsageError
from shapestore.train.batches import Batches
from shapestore.train.data.batched import Batch


def batch(number: int) -> Batch:
    return {"x": torch.tensor([number])}


def take_all(batches: Batches) -> Iterator[int]:
    while (taken := batches.take()) is not None:
        yield int(taken["x"])


class Epochs:
    """A loader of which every iteration is another epoch."""

    def __init__(self, *epochs: list[int]) -> None:
        self._epochs = iter(epochs)

    def __iter__(self) -> Iterator[Batch]:
        return map(batch, next(self._epochs))


def test_one_epoch_follows_the_other() -> None:
    batches = Batches(Epochs([0, 1], [2], [3]), lambda: False)
    taken = take_all(batches)
    assert [next(taken) for _ in range(4)] == [0, 1, 2, 3]
    count, waited = batches.pace()
    assert count == 4
    assert waited > 0
    assert batches.pace() == (0, 0.0)


def test_a_loader_that_runs_dry_is_an_error() -> None:
    taken = take_all(Batches(map(batch, [0, 1]), lambda: False))
    assert [next(taken), next(taken)] == [0, 1]
    with pytest.raises(UsageError, match="a generator has only one"):
        next(taken)


def test_nothing_comes_after_a_signal() -> None:
    asked = iter([False, False, True])
    assert list(take_all(Batches(Epochs([4], [5], [6]), lambda: next(asked, True)))) == [4, 5]


@pytest.mark.parametrize("stopping", [False, True])
def test_a_dead_worker_is_an_error_unless_all_are_to_stop(stopping: bool) -> None:
    """The signal comes while a batch is waited for."""
    signalled = False

    def dying() -> Iterator[Batch]:
        nonlocal signalled
        yield batch(0)
        signalled = stopping
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Terminated.")

    batches = Batches(dying(), lambda: signalled)
    assert batches.take() == batch(0)
    if stopping:
        assert batches.take() is None
    else:
        with pytest.raises(RuntimeError, match="killed by signal"):
            batches.take()


@pytest.mark.parametrize("stopping", [False, True])
def test_deaths_of_workers_raise_nowhere_else(stopping: bool) -> None:
    def raising(number: int, frame: Any) -> None:
        raise AssertionError

    asked = iter([False, stopping])
    before = signal.signal(signal.SIGCHLD, raising)
    try:
        batches = Batches(Epochs([0, 1]), lambda: next(asked, True))
        batches.take()
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        batches.close()
        assert signal.getsignal(signal.SIGCHLD) == (signal.SIG_DFL if stopping else raising)
    finally:
        signal.signal(signal.SIGCHLD, before)
