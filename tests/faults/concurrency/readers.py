"""Processes that read a store over and over while another one writes it."""

from __future__ import annotations

import pickle
import queue
import resource
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from shapestore.errors import StoreChanged
from shapestore.store.reader import Store
from shapestore.store.shard_map import Checksums
from tests.faults.concurrency import foreign
from tests.faults.concurrency.history import Clock, arrays_of
from tests.faults.concurrency.sight import Sight, open_seen, see_all, see_batches

FEW_FILES = 88
"""Open files that a reader may have where its maps are to come and go: the store has more shards than it may map."""

THREADS = 4
BATCH = 24

PATIENCE = 0.2
"""Seconds that one process waits for a store from another before it looks whether all is over."""


@dataclass
class Tally:
    """What became of the rounds of one reader."""

    kind: str
    whole: int = 0
    """Rounds in which everything was read."""
    changed: int = 0
    """Rounds that ended with `StoreChanged`."""
    commits: int = 0
    """Different commits that were read whole."""
    fault: str = ""
    """Traceback of what must not happen; the reader ends with it."""


@dataclass
class Reading:
    """What a reader is given."""

    path: Path
    clock: Clock
    over: Event
    """Set when the writer has ended."""
    carried: Queue[bytes]
    """Pickled stores on their way from one reader to another."""

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng()


Round = Callable[[], Sight | None]
"""One round of reading; returns what was seen, or None where there was nothing to read."""


def read_on(kind: str, place: int, reading: Reading, tallies: Queue[Tally]) -> None:
    """Read until the writer has ended, and once more after that, and tell what became of it.

    Parameters
    ----------
    place
        Number of this reader among all.
    """
    tally, seen = Tally(kind), set()
    try:
        one_round = KINDS[kind](reading)
        ending = False
        while not ending:
            ending, rest = reading.over.is_set(), reading.clock.rest.value
            try:
                sight = one_round()
            except StoreChanged:
                tally.changed += 1
            else:
                if sight is not None:
                    tally.whole += 1
                    seen.add(sight.commits[0])
                    reading.clock.rested[place] = rest
        tally.commits = len(seen)
    except BaseException:
        tally.fault = traceback.format_exc()
        reading.clock.rested[place] = sys.maxsize  # the writer need not wait for it any more
    tallies.put(tally)


def short_lived(reading: Reading) -> Round:
    """Opens the store anew for every round."""

    def one_round() -> Sight:
        checksums: Checksums = reading.rng.choice(["off", "first", "always"])
        store, sight = open_seen(reading.path, reading.clock, checksums)
        see_all(store, sight, reading.rng)
        return sight

    return one_round


def long_lived(reading: Reading) -> Round:
    """Keeps one store for many rounds, in which its maps come and go."""
    _limit_files()
    kept: tuple[Store, Sight] | None = None

    def one_round() -> Sight:
        nonlocal kept
        kept = kept or open_seen(reading.path, reading.clock, reading.rng.choice(["first", "always"]))
        store, sight = kept
        kept = None  # in case it has changed
        see_all(store, sight, reading.rng)
        kept = (store, sight) if reading.rng.random() < 0.9 else None
        return sight

    return one_round


def in_batches(reading: Reading) -> Round:
    """Gathers batches into buffers that are used again, and takes tensors."""
    _limit_files()
    buffers = {name: np.empty((BATCH, *values.shape), values.dtype) for name, values in arrays_of(0, 0).items()}

    def one_round() -> Sight:
        store, sight = open_seen(reading.path, reading.clock, reading.rng.choice(["off", "first", "always"]))
        see_batches(store, sight, reading.rng, buffers)
        return sight

    return one_round


def in_threads(reading: Reading) -> Round:
    """Reads one store from several threads at once: all of them see one commit."""
    _limit_files()
    buffers = [
        {name: np.empty((BATCH, *values.shape), values.dtype) for name, values in arrays_of(0, 0).items()}
        for _ in range(THREADS)
    ]
    pool = ThreadPoolExecutor(THREADS)

    def one_round() -> Sight:
        store, sight = open_seen(reading.path, reading.clock, "first")

        def see(thread: int) -> list[int]:
            own, rng = Sight(sight.commits[0], sight.commits[-1]), np.random.default_rng()
            try:
                see_batches(store, own, rng, buffers[thread])
                see_all(store, own, rng)
            except StoreChanged:
                return []
            return own.commits

        seen = list(pool.map(see, range(THREADS)))
        if not all(seen):
            raise StoreChanged
        sight.narrow("what all threads read", lambda number: all(number in commits for commits in seen))
        return sight

    return one_round


def sender(reading: Reading) -> Round:
    """Opens stores, reads some of each, and sends them to another process."""

    def one_round() -> Sight:
        store, sight = open_seen(reading.path, reading.clock, "first")
        see_all(store, sight, reading.rng)
        with suppress(queue.Full):
            reading.carried.put(pickle.dumps((store, sight)), timeout=PATIENCE)
        return sight

    return one_round


def receiver(reading: Reading) -> Round:
    """Reads stores that another process has opened: they are of the commit that they were opened at."""

    def one_round() -> Sight | None:
        try:
            data = reading.carried.get(timeout=PATIENCE)
        except queue.Empty:
            return None
        carried: tuple[Store, Sight] = pickle.loads(data)
        see_all(*carried, reading.rng)
        return carried[1]

    return one_round


def _limit_files() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, hard))


def by_zarr(reading: Reading) -> Round:
    """Reads with zarr-python, which knows nothing of this package."""

    def one_round() -> Sight:
        return foreign.see_zarr(reading.path, reading.clock, reading.rng)

    return one_round


def by_xarray(reading: Reading) -> Round:
    """Reads with xarray, which knows nothing of this package."""

    def one_round() -> Sight:
        return foreign.see_xarray(reading.path, reading.clock, reading.rng)

    return one_round


KINDS: dict[str, Callable[[Reading], Round]] = {
    "short-lived": short_lived,
    "long-lived": long_lived,
    "batches": in_batches,
    "threads": in_threads,
    "sender": sender,
    "receiver": receiver,
    "zarr": by_zarr,
    "xarray": by_xarray,
}
