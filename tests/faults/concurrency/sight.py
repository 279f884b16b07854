"""The law of concurrent reading: whatever is read through one `Store` is of one and the same commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import shapestore
from shapestore.store.reader import Store
from shapestore.store.shard_map import Checksums
from tests.faults.concurrency.history import Clock, arrays_of, column_of, commit_of, quarantine_of

ARRAYS = tuple(arrays_of(0, 0))

COLUMNS = (
    "shape_id",
    "valid",
    "split",
    "category",
    "group",
    "source",
    "source_sha256",
    "shift",
    "scale",
    "seed",
    "near_count",
    "provenance/notes",
    "provenance/source_size",
)


class MixedCommitsError(AssertionError):
    """What was read is of no single commit that was there."""


class Sight:
    """The commits that one reader may be looking at: those that agree with all that it has read so far."""

    def __init__(self, first: int, last: int) -> None:
        self.commits = list(range(first, last + 1))

    def narrow(self, what: str, agrees: Callable[[int], bool]) -> None:
        """Keep the commits that agree with one more observation.

        Raises
        ------
        MixedCommitsError
            There is none.
        """
        kept = [number for number in self.commits if agrees(number)]
        if not kept:
            raise MixedCommitsError(f"{what} is of none of the commits {self.commits}, which agree with all before it")
        self.commits = kept

    def row(self, array: str, row: int, values: NDArray[Any]) -> None:
        """One row of a data array was read."""
        data = values.tobytes()
        self.narrow(f"{array}, row {row},", lambda number: data == _row(number, array, row))

    def batch(self, array: str, rows: Sequence[int], values: NDArray[Any]) -> None:
        """Several rows of a data array were read at once."""
        data = values.tobytes()
        self.narrow(f"{array}, rows {rows},", lambda number: data == b"".join(_row(number, array, row) for row in rows))

    def column(self, name: str, values: NDArray[Any]) -> None:
        """An index array was read."""
        seen = values.tolist()
        self.narrow(name, lambda number: seen == column_of(number, name))


def _row(number: int, array: str, row: int) -> bytes:
    held = commit_of(number).rows[row]
    return b"of a row that is empty" if held.failed else arrays_of(row, held.version)[array].tobytes()


def open_seen(path: Path, clock: Clock, checksums: Checksums) -> tuple[Store, Sight]:
    """Open a store: its commit is none before the last finished one, and none that is not begun."""
    first = clock.done.value
    store = shapestore.open(path, checksums)
    sight = Sight(first, clock.begun.value)
    root = store.root
    counts = (root.rows, root.valid, root.quarantined, sorted(root.codes))
    sight.narrow("the root", lambda number: counts == _counts(number))
    return store, sight


def _counts(number: int) -> tuple[int, int, int, list[str]]:
    commit = commit_of(number)
    valid = len(commit.valid)
    return len(commit.rows), valid, len(commit.rows) - valid, sorted(["category", "split", *(commit.sets or {})])


def see_all(store: Store, sight: Sight, rng: np.random.Generator) -> None:
    """Read everything, in an order that is another one each time."""
    sets = [name for name in store.root.codes if name not in COLUMNS]
    steps: list[Callable[[], None]] = [lambda: _see_quarantine(store, sight)]
    steps += [lambda name=name: sight.column(name, store.index(name)) for name in (*COLUMNS, *sets)]  # type: ignore[misc]
    steps += [lambda name=name: _see_rows(store, sight, name) for name in ARRAYS]  # type: ignore[misc]
    for step in rng.permutation(len(steps)):
        steps[step]()


def _see_quarantine(store: Store, sight: Sight) -> None:
    items = list(store.quarantine())
    sight.narrow("the quarantine", lambda number: items == quarantine_of(number))


def _see_rows(store: Store, sight: Sight, array: str) -> None:
    for row in store.rows().tolist():
        sight.row(array, row, store[array][row])


def see_batches(store: Store, sight: Sight, rng: np.random.Generator, buffers: dict[str, NDArray[Any]]) -> None:
    """Gather rows of several arrays at once, into buffers that are used again, and some as tensors."""
    valid = store.rows()
    if not len(valid):
        return
    size = len(next(iter(buffers.values())))
    for _ in range(4):
        rows = rng.choice(valid, size)
        found = store.read(rows, [*ARRAYS, "scale"], out=buffers)
        for name in ARRAYS:
            sight.batch(name, rows.tolist(), found[name])
        scale = found["scale"].tolist()
        sight.narrow(
            "scale", lambda number, rows=rows, scale=scale: scale == [column_of(number, "scale")[row] for row in rows]
        )
        for row in rows[:4].tolist():
            sight.row("near_points", row, store.tensor("near_points", row).numpy())
