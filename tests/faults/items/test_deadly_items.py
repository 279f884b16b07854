"""Items that kill, hang or bloat the process that reads them: each costs its own row, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shapestore import api
from shapestore.errors import Reason
from shapestore.store.layout import work_folder
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

SETTINGS = [part for setting in SMALL for part in ("--set", setting)]


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """The environment in which the source `deadly` is installed."""
    site = tmp_path / "site"
    info = site / "deadly-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "deadly.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: deadly\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[shapestore.sources]\ndeadly = deadly:Deadly\n")
    return {"PYTHONPATH": str(site)}


def raw_folder(path: Path, names: list[str]) -> Path:
    path.mkdir()
    for name in names:
        (path / name).write_text(name)
    return path


def sound(count: int) -> list[str]:
    return [f"{'abcdefghijklmnopqrstuvwxyz'[number % 26]}{number:03d}" for number in range(count)]


def assert_costs_itself_alone(
    names: list[str], count: int, plugin: dict[str, str], program: Program, tmp_path: Path
) -> None:
    """The rows of one row group are all there but those of the given items, whose reasons are the expected ones."""
    store = tmp_path / "s.zarr"
    raw = raw_folder(tmp_path / "raw", sound(count) + names)
    limits = ("--set", "limits.seconds=15", "--set", "limits.memory_gib=0.5")
    done = program("ingest", "deadly", raw, store, *SETTINGS, *limits, "--workers", 2, "--json", env=plugin, code=4)
    assert json.loads(done.stdout)["valid"] == count
    opened = api.open(store)
    assert {item["shape_id"]: item["reason"] for item in opened.quarantine()} == {n: EXPECTED[n] for n in names}
    assert all(item["source_sha256"] for item in opened.quarantine())
    for item in opened.quarantine():
        if item["shape_id"] != "leave":
            assert str(item["shape_id"]) in str(item["traceback"]), "it says where it was"
    assert opened.root.row_groups == 1
    assert not work_folder(store).exists()

    alone = tmp_path / "alone.zarr"
    raw_folder(tmp_path / "sound", sound(count))
    program("ingest", "deadly", tmp_path / "sound", alone, *SETTINGS, "--workers", 0, env=plugin)
    for shape_id in sound(count):
        for name in ("pc_xyz", "pc_fps_order"):
            mine, theirs = opened[name], api.open(alone)[name]
            assert mine[opened.row_of(shape_id)].tobytes() == theirs[api.open(alone).row_of(shape_id)].tobytes()


def test_a_native_crash_and_a_bloated_item_cost_only_themselves(
    plugin: dict[str, str], program: Program, tmp_path: Path
) -> None:
    assert_costs_itself_alone(["segfault", "eat_bit_by_bit"], 6, plugin, program, tmp_path)


@pytest.mark.slow
def test_many_deadly_items_in_the_same_parts_cost_only_themselves(
    plugin: dict[str, str], program: Program, tmp_path: Path
) -> None:
    assert_costs_itself_alone(list(EXPECTED), 60, plugin, program, tmp_path)


@pytest.mark.slow
def test_limits_are_no_part_of_the_recipe_so_a_retry_may_raise_them(
    plugin: dict[str, str], program: Program, tmp_path: Path
) -> None:
    raw = raw_folder(tmp_path / "raw", ["a", "linger"])
    store, whole = tmp_path / "s.zarr", tmp_path / "whole.zarr"
    command = ("ingest", "deadly", raw, store, *SETTINGS, "--workers", 1)
    limits = ("--set", "limits.seconds=15")
    program(*command, *limits, env=plugin | {"LINGER": "1000"}, code=4)
    (item,) = api.open(store).quarantine()
    assert (item["reason"], item["message"]) == (Reason.TIME_LIMIT, "took longer than limits.seconds=15")
    plugin = plugin | {"LINGER": "0"}
    program(*command, "--set", "limits.seconds=60", "--retry", env=plugin)
    program("ingest", "deadly", raw, whole, *SETTINGS, *limits, "--workers", 0, env=plugin)
    assert tree_digest(store) == tree_digest(whole)


def test_memory_is_limited_in_this_process_too_and_free_again_afterwards(
    plugin: dict[str, str], program: Program, tmp_path: Path
) -> None:
    raw = raw_folder(tmp_path / "raw", ["b", "eat_at_once", "eat_bit_by_bit", "z"])
    store = tmp_path / "s.zarr"
    limits = ("--set", "limits.memory_gib=0.5")
    program("ingest", "deadly", raw, store, *SETTINGS, *limits, "--workers", 0, env=plugin, code=4)
    assert {item["reason"] for item in api.open(store).quarantine()} == {Reason.MEMORY_LIMIT}
    assert len(api.open(store)) == 2
