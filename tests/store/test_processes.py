"""One store in many processes, and readers beside a writer."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import pickle
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import shapestore
from shapestore.errors import StoreChanged
from shapestore.store.lock import WriterLock
from shapestore.store.writer import StoreWriter
from tests.store.conftest import ROWS_PER_SHARD, Built, MakeStore, write_rows

DATA = ("pc_xyz", "udf_grid", "near_labels")


def everything(store: Any) -> str:
    """A digest of all that a reader can see."""
    rows = store.rows()
    hashed = hashlib.sha256(repr(rows.tolist()).encode())
    for name in DATA:
        hashed.update(store.read(rows, [name])[name].tobytes())
    hashed.update(repr([store.index(name).tolist() for name in ("shape_id", "split", "shift")]).encode())
    return hashed.hexdigest()


def in_another_process(store: Any) -> tuple[int, str]:
    return os.getpid(), everything(store)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_a_store_reads_the_same_in_another_process(built: Built, method: str, used: bool) -> None:
    store = shapestore.open(built.path)
    if used:
        everything(store)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method)) as pool:
        pid, found = pool.submit(in_another_process, store).result()
    assert pid != os.getpid()
    assert found == everything(store)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_processes_share_no_map(built: Built) -> None:
    """What one process does to its memory is not seen by the other."""
    store = shapestore.open(built.path)
    store.tensor("pc_xyz", 0)
    pid = os.fork()
    if pid == 0:
        store.tensor("pc_xyz", 0).fill_(9)
        os._exit(0 if (store["pc_xyz"][0] == 9).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert store["pc_xyz"][0].tobytes() == built.arrays(0)["pc_xyz"].tobytes()


def test_pickle_carries_no_map_and_no_rows(built: Built) -> None:
    store = shapestore.open(built.path, checksums="always")
    fresh = pickle.dumps(store)
    digest = everything(store)
    used = pickle.dumps(store)
    assert len(used) == len(fresh)
    again = pickle.loads(used)
    assert len(again._rows.shards) == 0
    assert everything(again) == digest
    assert again.root == store.root


def grow(path: Path, start: int, end: int) -> None:
    with WriterLock(path):
        write_rows(StoreWriter.open(path), range(start, end), failed=(3, 9))


def test_a_reader_keeps_its_commit_while_whole_row_groups_are_appended(make_store: MakeStore) -> None:
    made = make_store(2 * ROWS_PER_SHARD)
    used, fresh = shapestore.open(made.path), shapestore.open(made.path)
    before = everything(used)
    for start in (16, 24, 32):
        grow(made.path, start, start + 8)
        assert everything(used) == before
    assert everything(fresh) == before, "nothing of what it had not read yet has changed"
    assert len(shapestore.open(made.path).rows()) == 38


def test_a_reader_of_a_filled_tail_reads_its_rows_or_says_that_the_store_changed(make_store: MakeStore) -> None:
    made = make_store(ROWS_PER_SHARD + 4)
    used, fresh = shapestore.open(made.path), shapestore.open(made.path)
    before = everything(used)
    grow(made.path, 12, 20)
    assert everything(used) == before, "its maps are those of the old files"
    for name in DATA:
        with pytest.raises(StoreChanged, match="Open it again"):
            fresh[name][10]
    assert everything(shapestore.open(made.path)) != before


def test_a_store_pickled_before_a_change_says_so(make_store: MakeStore) -> None:
    made = make_store(ROWS_PER_SHARD + 4)
    carried = pickle.dumps(shapestore.open(made.path))
    grow(made.path, 12, 20)
    again = pickle.loads(carried)
    assert len(again) == 10
    with pytest.raises(StoreChanged):
        again["pc_xyz"][10]
