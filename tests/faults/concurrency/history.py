"""A store whose every commit is known beforehand: what commit number k holds is a function of k alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from ctypes import Array, c_longlong
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shapestore.store.catalogue import NO_CODE
from shapestore.store.entries import GroupCommit, RowEntry
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal, sealed_path
from shapestore.store.writer import StoreWriter
from tests.store.conftest import CATEGORIES, ROWS_PER_SHARD, SPLITS, row_arrays, row_entry, tidy

MOST_ROWS = 48
"""Where the store stops growing; its rows go on changing."""

VERSIONS = 3
"""Contents that a row may have. Few, so that rows and whole commits come back to what they were."""

SETS = ("fold_a", "fold_b", "fold_c")
PARTS = ("fit", "held_out")

BURST = 20
"""Commits after which the writer lets go of the store and rests, until every reader has got through a round."""

LONGEST_REST = 300.0
"""Seconds. A reader that does not get through a round of a store that nobody writes is blocked."""


class Row(NamedTuple):
    """What one row holds in one commit."""

    version: int
    failed: bool


@dataclass(frozen=True)
class Commit:
    """What the store holds after one commit, and what that commit wrote."""

    rows: tuple[Row, ...] = ()
    sets: Mapping[str, tuple[int, ...]] | None = None
    """Split set to the code of every row."""
    written: tuple[int, ...] = ()
    """Rows that the commit wrote."""
    assigned: str = ""
    """Split set that the commit wrote instead."""

    @property
    def valid(self) -> list[int]:
        """Rows that hold data."""
        return [row for row, held in enumerate(self.rows) if not held.failed]


@cache
def commit_of(number: int) -> Commit:
    """Commit `number`; 0 is the empty store."""
    if number == 0:
        return Commit(sets={})
    return _after(commit_of(number - 1), number)


def _after(last: Commit, number: int) -> Commit:
    """The commit that follows: rows appended, tried again or computed anew, or a split set."""
    rng = np.random.default_rng(number)
    held, sets = len(last.rows), dict(last.sets or {})
    kind = rng.choice(["append", "retry", "rewrite", "assign"], p=[0.3, 0.25, 0.3, 0.15]) if held else "append"
    if kind == "assign":
        name = str(rng.choice(SETS))
        sets[name] = tuple(rng.integers(NO_CODE, len(PARTS), held).tolist())
        return Commit(last.rows, sets, assigned=name)
    failed = [row for row in range(held) if last.rows[row].failed]
    if kind == "append" and held < MOST_ROWS:
        to_end = ROWS_PER_SHARD - held % ROWS_PER_SHARD  # whole row groups are appended without a redo log
        written = range(held, held + int(rng.choice([to_end, to_end, int(rng.integers(1, to_end + 9))])))
    elif kind == "retry" and failed:
        written = rng.choice(failed, min(2, len(failed)), replace=False).tolist()
    else:
        first = int(rng.integers(max(1, held - 4)))
        written = range(first, min(held, first + int(rng.integers(1, 5))))
    rows = dict(enumerate(last.rows))
    for row in written:
        rows[row] = Row(int(rng.integers(VERSIONS)), bool(rng.random() < 0.15))
    unassigned = (NO_CODE,) * (len(rows) - held)
    return Commit(
        tuple(rows.values()), {name: codes + unassigned for name, codes in sets.items()}, tuple(sorted(written))
    )


@cache
def arrays_of(row: int, version: int) -> dict[str, NDArray[Any]]:
    """The data arrays of one row."""
    return row_arrays(row + 1000 * version)


@cache
def entry_of(row: int, held: Row) -> RowEntry:
    """All that is kept of one row beside its arrays; id and split are the row's own, the rest is of its version."""
    own, entry = row_entry(row), row_entry(row + 1000 * held.version, held.failed)
    return entry.model_copy(
        update={
            "row": row,
            "shape_id": own.shape_id,
            "split": own.split,
            "notes": (f"row {row} of version {held.version}",),
        }
    )


@lru_cache(maxsize=64)
def column_of(number: int, name: str) -> list[Any]:
    """All values of one index array in commit `number`."""
    commit = commit_of(number)
    if commit.sets and name in commit.sets:
        return list(commit.sets[name])
    entries = [entry_of(row, held) for row, held in enumerate(commit.rows)]
    if name == "valid":
        return [entry.failure is None for entry in entries]
    if name == "near_count":
        return [entry.declared.get(name, 0) for entry in entries]
    if name == "provenance/notes":
        return ["\n".join(entry.notes) for entry in entries]
    names = {"split": SPLITS, "category": CATEGORIES}.get(name)
    values = [getattr(entry, name.rpartition("/")[2]) for entry in entries]
    if names is not None:
        return [names.index(value) if value else NO_CODE for value in values]
    return [list(value) if isinstance(value, tuple) else value for value in values]


@lru_cache(maxsize=64)
def quarantine_of(number: int) -> list[dict[str, Any]]:
    """Every quarantined item of commit `number`."""
    entries = [entry_of(row, held) for row, held in enumerate(commit_of(number).rows) if held.failed]
    own, failure = ("row", "shape_id", "source", "source_sha256"), ("reason", "message", "traceback")
    return [
        {name: getattr(entry, name) for name in own} | {name: getattr(entry.failure, name) for name in failure}
        for entry in entries
    ]


class Clock(NamedTuple):
    """How far the writer and its readers are, in memory that all processes share."""

    begun: c_longlong
    """Number of the commit that the writer began last; noted before it touches the store."""
    done: c_longlong
    """Number of the commit that is visible for sure."""
    rest: c_longlong
    """Number of the writer's last rest."""
    rested: Array[c_longlong]
    """For every reader, the last rest at or after whose beginning it began a round that it got through."""


def write_history(path: Path, last: int, clock: Clock, pause: float) -> None:
    """Make commits 1 to `last`, one after the other, each by the way that an ingest takes.

    Parameters
    ----------
    path
        A store at commit 0.
    pause
        Longest time between two commits of a burst, in seconds.
    """
    rng = np.random.default_rng()
    for first in range(1, last + 1, BURST):
        with WriterLock(path):
            writer = StoreWriter.open(path)
            for number in range(first, min(last + 1, first + BURST)):
                clock.begun.value = number
                make(writer, commit_of(number))
                clock.done.value = number
                time.sleep(rng.uniform(0, pause))
        _rest(clock)


def _rest(clock: Clock) -> None:
    clock.rest.value += 1
    started = time.monotonic()
    while min(clock.rested) < clock.rest.value:
        if time.monotonic() - started > LONGEST_REST:
            raise TimeoutError(f"readers are blocked: they got through rounds of the rests {list(clock.rested)}")
        time.sleep(0.001)


def make(writer: StoreWriter, commit: Commit) -> None:
    """Commit what `commit` says."""
    if commit.assigned:
        root = writer.root.model_copy(update={"codes": {**writer.root.codes, commit.assigned: PARTS}})
        codes = np.array((commit.sets or {})[commit.assigned], np.int8)
        writer.commit(root, [], columns={commit.assigned: codes})
        return
    groups = sorted({row // ROWS_PER_SHARD for row in commit.written})
    chosen = [[row for row in commit.written if row // ROWS_PER_SHARD == group] for group in groups]
    writer.commit(
        writer.root, [_sealed(writer, group, rows, commit) for group, rows in zip(groups, chosen, strict=True)]
    )
    tidy(writer)


def _sealed(writer: StoreWriter, group: int, rows: Sequence[int], commit: Commit) -> GroupCommit:
    """Write rows of one row group as a part, and seal it over what the group has already."""
    work, content = work_folder(writer.path), writer.root.content
    entries = {row: entry_of(row, commit.rows[row]) for row in rows}
    with PartWriter(work / f"{group}.part", content) as writing:
        for row in rows:
            if not commit.rows[row].failed:
                writing.append(row, arrays_of(row, commit.rows[row].version))
    first = group * ROWS_PER_SHARD
    held = max(0, min(ROWS_PER_SHARD, writer.root.rows - first))
    task = SealTask(
        group=group,
        first_row=first,
        rows=max(held, rows[-1] + 1 - first),
        parts=(Part(file=f"{group}.part", entries=tuple(entries.values()), sizes=writing.sizes),),
        committed=writer.shards(group) if held else {},
        rows_committed=held,
    )
    shards = seal(writer.path, work, content, ROWS_PER_SHARD, task)
    return GroupCommit(
        group, entries, shards, {name: sealed_path(work, group, name) for name in shards} if held else {}
    )
