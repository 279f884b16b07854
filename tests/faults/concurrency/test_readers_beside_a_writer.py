"""Readers at full speed beside a writer: every read is of one commit, or the store says that it has changed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from multiprocessing.queues import Queue
from pathlib import Path

import pytest

from shapestore.store.lock import WriterLock
from tests.faults.concurrency.history import BURST, Clock, write_history
from tests.faults.concurrency.readers import Reading, Tally, read_on
from tests.store.conftest import new_writer

PATIENCE = 900.0
"""Seconds after which a process counts as blocked."""

TOGETHER = {
    "own": (("short-lived", "long-lived", "threads"), 0.0),
    "batches and carried": (("batches", "sender", "receiver"), 0.02),
    "foreign": (("zarr", "xarray"), 0.0),
}
"""Readers that read at once, few enough to see commit after commit, and how long the writer pauses at most."""

COMMITS = 40
"""400 take many minutes."""


def beside_a_writer(path: Path, kinds: Sequence[str], last: int, pause: float) -> list[Tally]:
    """Run one reader of each kind until a writer has made commits 1 to `last`; returns what became of each."""
    with WriterLock(path):
        new_writer(path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.concurrency.readers", "torch", "xarray", "zarr"])
    begun, done, rest = (context.Value("q", 0, lock=False) for _ in range(3))
    clock = Clock(begun, done, rest, context.Array("q", len(kinds), lock=False))
    reading = Reading(path, clock, context.Event(), context.Queue(2))
    tallies: Queue[Tally] = context.Queue()
    readers = [
        context.Process(target=read_on, args=(kind, place, reading, tallies)) for place, kind in enumerate(kinds)
    ]
    writer = context.Process(target=write_history, args=(path, last, clock, pause))
    started = [*readers, writer]
    try:
        for process in started:
            process.start()
        writer.join(PATIENCE)
        reading.over.set()
        found = [tallies.get(timeout=PATIENCE) for _ in readers]
        ended = writer.exitcode
    finally:
        for process in started:
            process.kill()
            process.join()
    assert ended == 0 or any(tally.fault for tally in found), f"the writer ended at commit {clock.done.value}"
    return found


def judge(tallies: Sequence[Tally], last: int) -> None:
    """Every reader read only what it may, and came to read commit after commit.

    That each got through a round in every rest of the writer is seen by the writer itself.
    """
    for tally in tallies:
        assert not tally.fault, f"{tally.kind}:\n{tally.fault}"
        assert tally.commits > last // BURST // 2, f"starved: {tally}"


@pytest.mark.parametrize(("kinds", "pause"), TOGETHER.values(), ids=TOGETHER)
def test_every_read_beside_a_writer_is_of_one_commit(in_memory: Path, kinds: Sequence[str], pause: float) -> None:
    judge(beside_a_writer(in_memory / "s.zarr", kinds, COMMITS, pause), COMMITS)
