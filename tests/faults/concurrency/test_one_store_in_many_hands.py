"""What a `Store` keeps, gives back and says when threads share it and writers go on beside it."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import shapestore
from shapestore.errors import StoreChanged
from shapestore.store import gather
from shapestore.store.lock import WriterLock
from shapestore.store.reader import Store
from shapestore.store.shard_cache import COPIES_AT_ONCE
from shapestore.store.shard_map import ShardMap
from shapestore.store.writer import StoreWriter
from tests.faults.concurrency.history import Commit, Row, entry_of, make
from tests.store.conftest import ROWS_PER_SHARD, new_writer

PATIENCE = 30.0
"""Seconds after which a thread or process counts as blocked."""

GROUPS = 6
FAILED = (1, 9)
"""Rows that are quarantined."""


def write(path: Path, rows: dict[int, Row]) -> None:
    """Commit rows, whatever they held before."""
    with WriterLock(path):
        writer = StoreWriter.open(path)
        held = {**dict.fromkeys(range(max(writer.root.rows, *rows) + 1), Row(0, False)), **rows}
        make(writer, Commit(tuple(held.values()), {}, tuple(rows)))


@pytest.fixture
def path(in_memory: Path) -> Path:
    """A store of whole row groups, with two quarantined rows."""
    path = in_memory / "s.zarr"
    with WriterLock(path):
        new_writer(path)
    write(path, {row: Row(0, row in FAILED) for row in range(GROUPS * ROWS_PER_SHARD)})
    return path


def open_files() -> int:
    """Open files of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


# Provenance has no digests: what a later commit wrote over must not pass for what was there


def tracebacks(store: Store) -> list[Any]:
    return [(item["row"], item["traceback"]) for item in store.quarantine()]


def test_provenance_of_rows_that_were_written_over_is_not_taken_for_that_of_the_commit(path: Path) -> None:
    store = shapestore.open(path)
    store.index("valid")
    write(path, {FAILED[0]: Row(1, True), FAILED[1]: Row(0, True)})  # as many items as before
    for read in (tracebacks, lambda store: store.index("provenance/notes")):
        with pytest.raises(StoreChanged, match="Open it again"):
            read(store)
    again = shapestore.open(path)
    assert tracebacks(again)[0] == (FAILED[0], entry_of(FAILED[0], Row(1, True)).failure.traceback)  # type: ignore[union-attr]


def test_provenance_stays_readable_while_new_row_groups_are_appended(path: Path) -> None:
    before = tracebacks(shapestore.open(path))
    notes = shapestore.open(path).index("provenance/notes").tolist()
    store = shapestore.open(path)
    first = GROUPS * ROWS_PER_SHARD
    write(path, {row: Row(0, row == first) for row in range(first, first + ROWS_PER_SHARD)})
    assert len(tracebacks(shapestore.open(path))) == len(before) + 1
    assert tracebacks(store) == before
    assert store.index("provenance/notes").tolist() == notes


def test_the_log_is_read_although_rows_were_written_over(path: Path) -> None:
    """It tells of all commits so far, whichever of them a reader looks at."""
    store = shapestore.open(path)
    write(path, {3: Row(1, False)})
    assert store.index("provenance/commit")[0] == 3


# Open files


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def test_a_store_that_nobody_uses_any_more_gives_back_its_open_files(path: Path) -> None:
    """A reader that opens anew whenever the store changes must not run out of them until garbage is collected."""

    def use() -> int:
        store = shapestore.open(path)
        store.read(store.rows(), store.root.content.by_name.keys() - {"near_count"})
        return open_files()

    with no_garbage_collection():
        before = open_files()  # what earlier tests left to be collected is closed by now
        most = [use() for _ in range(3)]
        assert open_files() == before
    assert most == [before + 8 * GROUPS] * 3


def test_threads_that_copy_at_once_keep_few_more_maps_than_one(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps that one thread gives up stay open while another one copies from them."""
    store, threads = shapestore.open(path), 4
    limit = store._rows.shards.limit = 2 * COPIES_AT_ONCE
    rows, names = store.rows(), ("pc_xyz", "pc_n", "near_points", "near_sdf")
    together, seen, before, copy_rows = threading.Barrier(threads), [], open_files(), gather.copy_rows

    def all_at_once(*arguments: Any) -> None:
        together.wait(PATIENCE)
        seen.append(open_files())
        together.wait(PATIENCE)
        copy_rows(*arguments)

    monkeypatch.setattr(gather, "copy_rows", all_at_once)
    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(lambda name: store.read(rows, [name])[name], names))
    for name, values in zip(names, found, strict=True):
        assert values.tobytes() == b"".join(store[name][row].tobytes() for row in rows.tolist())
    assert max(seen) <= before + limit + threads * limit // COPIES_AT_ONCE


def test_a_shard_that_threads_want_at_the_same_moment_is_mapped_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, threads = shapestore.open(path), 4
    together, mapped, map_shard = threading.Barrier(threads), [], store._rows._open_shard

    def slowly(array: str, group: int, known: Any) -> ShardMap:
        mapped.append((array, group))
        time.sleep(0.05)  # the others are at the lock by now
        return map_shard(array, group, known)

    def want(_: int) -> ShardMap:
        together.wait(PATIENCE)
        return store._rows.shard("pc_xyz", 2)

    monkeypatch.setattr(store._rows, "_open_shard", slowly)
    with ThreadPoolExecutor(threads) as pool:
        found = set(map(id, pool.map(want, range(threads))))
    assert (len(found), mapped) == (1, [("pc_xyz", 2)])


# Forks


def test_a_child_forked_while_threads_read_can_read(path: Path) -> None:
    """A lock that another thread held at that moment is held by nobody in the child, and must not be waited for."""
    store, over = shapestore.open(path), threading.Event()
    store._rows.shards.limit = 4
    rows = store.rows()

    def read() -> None:
        rng = np.random.default_rng()
        while not over.is_set():
            store.read(rng.choice(rows, 8), ["pc_xyz"])

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            assert _forked(store, rows)
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _forked(store: Store, rows: NDArray[np.int64]) -> bool:
    """Whether a forked child came to the end of its read."""
    pid = os.fork()
    if pid == 0:
        store.read(rows, ["pc_xyz"])
        os._exit(0)
    waiting = threading.Timer(PATIENCE / 2, os.kill, (pid, 9))
    waiting.start()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    waiting.cancel()
    return code == 0
