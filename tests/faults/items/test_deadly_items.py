"""Items that kill, hang or bloat the process that reads them: each costs its own row, and no other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shapestore import api
from shapestore.errors import Reason
from shapestore.preprocess import plan
from shapestore.store.layout import work_folder
from shapestore.store.reader import Store
from tests.integration.conftest import SMALL, Program, tree_digest

SOURCE = """
import ctypes
import os
import time
import numpy as np
from shapestore.preprocess.raw import RawCloud
from shapestore.preprocess.source import Discovery, Source, SourceItem

def segfault():
    ctypes.string_at(0)

def abort():
    os.abort()

def leave():
    os._exit(0)

def hang_in_native_code():
    ctypes.PyDLL(None).sleep(1000)  # holds the interpreter's lock

def hang_in_python():
    while True:
        pass

def eat_at_once():
    np.ones(2**40)

def eat_bit_by_bit():
    held = []
    while True:
        held.append(bytearray(2**24))

def linger():
    time.sleep(float(os.environ["LINGER"]))

class Deadly(Source):
    recipe = "points"
    def inputs(self, root):
        return frozenset({"cloud"})
    def discover(self, root, recipe):
        return Discovery(tuple(SourceItem(f.name, f.name, f.name) for f in root.iterdir()))
    def read(self, root, item, recipe):
        if item.path in globals():
            globals()[item.path]()
        points = np.random.default_rng(len(item.path)).normal(size=(300, 3))
        return RawCloud(points, points)
"""

EXPECTED = {
    "segfault": Reason.WORKER_DIED,
    "abort": Reason.WORKER_DIED,
    "leave": Reason.WORKER_DIED,
    "hang_in_native_code": Reason.TIME_LIMIT,
    "hang_in_python": Reason.TIME_LIMIT,
    "eat_at_once": Reason.MEMORY_LIMIT,
    "eat_bit_by_bit": Reason.MEMORY_LIMIT,
}

LIMIT = "limits.seconds=15"
"""Far more than a sound item needs, once its kernels are compiled: what nothing limits is computed first."""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which the source `deadly` is installed, for this process and those that it starts."""
    site = tmp_path_factory.mktemp("site")
    info = site / "deadly-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "deadly.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[shapestore.sources]\ndeadly = deadly:Deadly\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield site


def ingest(raw: Path, store: Path, *settings: str, workers: int = 0, retry: bool = False) -> api.IngestResult:
    return api.ingest("deadly", raw, store, settings=(*SMALL, *settings), workers=workers, retry=retry)


def raw_folder(path: Path, names: list[str]) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(name)
    return path


SOUND = [f"{'abcdefghij'[number]}{number:03d}" for number in range(10)]


@pytest.fixture(scope="module")
def alone(plugin: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """The store of the sound items alone."""
    folder = tmp_path_factory.mktemp("alone")
    ingest(raw_folder(folder / "raw", SOUND), folder / "s.zarr")
    return api.open(folder / "s.zarr")


def assert_cost_themselves_alone(names: list[str], count: int, alone: Store, tmp_path: Path) -> None:
    """The rows of one row group are all there but those of the given items, whose reasons are the expected ones."""
    store = tmp_path / "s.zarr"
    raw = raw_folder(tmp_path / "raw", SOUND[:count] + names)
    assert ingest(raw, store, LIMIT, "limits.memory_gib=0.5", workers=2).valid == count
    opened = api.open(store)
    assert {item["shape_id"]: item["reason"] for item in opened.quarantine()} == {n: EXPECTED[n] for n in names}
    assert all(item["source_sha256"] for item in opened.quarantine())
    for item in opened.quarantine():
        if item["shape_id"] != "leave":
            assert str(item["shape_id"]) in str(item["traceback"]), "it says where it was"
    assert opened.root.row_groups == 1
    assert not work_folder(store).exists()
    for shape_id in SOUND[:count]:
        for name in ("pc_xyz", "pc_fps_order"):
            mine, theirs = opened[name], alone[name]
            assert mine[opened.row_of(shape_id)].tobytes() == theirs[alone.row_of(shape_id)].tobytes()


def test_a_native_crash_and_a_bloated_item_cost_only_themselves(alone: Store, tmp_path: Path) -> None:
    assert_cost_themselves_alone(["segfault", "eat_bit_by_bit"], 6, alone, tmp_path)


@pytest.mark.slow
def test_many_deadly_items_in_the_same_parts_cost_only_themselves(
    alone: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["abort", "leave", "hang_in_native_code", "hang_in_python", "eat_at_once"]
    monkeypatch.setattr(plan, "MOST_PARTS", 3)  # some part holds two of them
    assert_cost_themselves_alone(names, 10, alone, tmp_path)


@pytest.mark.slow
def test_limits_are_no_part_of_the_recipe_so_a_retry_may_raise_them(
    plugin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_folder(tmp_path / "raw", ["a", "linger"])
    store, whole = tmp_path / "s.zarr", tmp_path / "whole.zarr"
    monkeypatch.setenv("LINGER", "0")
    ingest(raw, whole, LIMIT)
    monkeypatch.setenv("LINGER", "1000")
    ingest(raw, store, LIMIT, workers=1)
    (item,) = api.open(store).quarantine()
    assert (item["reason"], item["message"]) == (Reason.TIME_LIMIT, f"took longer than {LIMIT}")
    monkeypatch.setenv("LINGER", "0")
    ingest(raw, store, "limits.seconds=60", workers=1, retry=True)
    assert tree_digest(store) == tree_digest(whole)


def test_memory_is_limited_in_this_process_too_and_free_again_afterwards(
    plugin: Path, program: Program, tmp_path: Path
) -> None:
    raw = raw_folder(tmp_path / "raw", ["b", "eat_at_once", "eat_bit_by_bit", "z"])
    store = tmp_path / "s.zarr"
    settings = [part for setting in (*SMALL, "limits.memory_gib=0.5") for part in ("--set", setting)]
    program("ingest", "deadly", raw, store, *settings, "--workers", 0, env={"PYTHONPATH": str(plugin)}, code=4)
    assert {item["reason"] for item in api.open(store).quarantine()} == {Reason.MEMORY_LIMIT}
    assert len(api.open(store)) == 2
