"""A disk that is full or broken: a clear message, the store at a commit, and the same command goes on afterwards."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from demo.raw import write_shapenet
from shapestore import api
from shapestore.errors import NotAStore, StoreChanged, StoreDamaged
from shapestore.store.layout import work_folder
from shapestore.store.transaction import is_pending
from tests.integration.conftest import tree_digest

FOLDER = Path(__file__).parent

FAULTS = [
    ("write", errno.ENOSPC, True),
    ("write", errno.EIO, False),
    ("fsync", errno.EIO, False),
    ("rename", errno.EIO, False),
    ("rename", errno.ENOSPC, True),
    ("mkdir", errno.ENOSPC, True),
]
"""Call, error, and whether the fault stays until somebody mends it."""

Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Runs an operation on a failing disk."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs a C compiler on Linux, to make calls of the system fail")
    library = tmp_path_factory.mktemp("faulty") / "faulty.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, FOLDER / "faulty.c", "-ldl"], check=True)
    environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": str(FOLDER.parents[2])}
    command = [sys.executable, str(FOLDER / "driver.py")]
    with subprocess.Popen(command, env=environment, stdin=-1, stdout=-1, text=True) as driver:

        def answer(**request: Any) -> dict[str, Any]:
            assert driver.stdin is not None
            assert driver.stdout is not None
            nothing = {"call": "", "below": "/", "at": -1, "errno": 0, "stays": False}
            driver.stdin.write(
                json.dumps(nothing | {k: str(v) if isinstance(v, Path) else v for k, v in request.items()})
            )
            driver.stdin.write("\n")
            driver.stdin.flush()
            found: dict[str, Any] = json.loads(driver.stdout.readline())
            return found

        yield answer
        assert driver.stdin is not None
        driver.stdin.close()


@dataclass(frozen=True)
class Scenario:
    """An operation, what it starts from, and what it makes when nothing fails."""

    operation: str
    raw: Path
    start: Path
    """Store to start from; it may not exist."""
    end: dict[str, str]
    """Digests of what it makes."""
    counts: tuple[tuple[int, int], ...]
    """Valid and quarantined rows, at the start if there is a store and at the end."""


@pytest.fixture(scope="module", params=["ingest", "append", "retry", "split", "derive", "repair"])
def scenario(request: pytest.FixtureRequest, ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Every operation that writes rows, arrays or index arrays."""
    folder = tmp_path_factory.mktemp(request.param)
    raw = write_shapenet(folder, models_per_class=2)
    start = folder / "start" / "s.zarr"
    start.parent.mkdir()
    if request.param == "append":
        held = folder / "held"
        shutil.move(min(raw.glob("*/*")), held)
        assert ask(operation="ingest", raw=raw, store=start)["code"] == 0
        shutil.move(held, raw / "02876657" / "late")
    elif request.param == "retry":
        mesh = min(raw.rglob("*.obj"))
        good = mesh.read_bytes()
        mesh.write_bytes(b"")
        assert ask(operation="ingest", raw=raw, store=start)["code"] == 0
        mesh.write_bytes(good)
    elif request.param != "ingest":
        assert ask(operation="ingest", raw=raw, store=start)["code"] == 0
    if request.param == "repair":
        spoil(start)
    end = copy_of(start, folder / "end")
    assert ask(operation=request.param, raw=raw, store=end)["code"] == 0
    counts = tuple(rows_of(store) for store in (start, end) if store.exists())
    return Scenario(request.param, raw, start, tree_digest(end), counts)


def spoil(store: Path) -> None:
    """Lose a shard, and damage an index array."""
    min(path for path in store.glob("pc_xyz/c/**/*") if path.is_file()).unlink()
    scale = store / "scale" / "c" / "0"
    scale.write_bytes(b"?" + scale.read_bytes()[1:])


def copy_of(store: Path, folder: Path) -> Path:
    """A copy of a store, if there is one, under the same name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    if store.exists():
        shutil.copytree(store, folder / store.name)
    return folder / store.name


def assert_is_a_commit(store: Path, scenario: Scenario) -> None:
    """The store opens as one of its commits; or a change of it is still to be finished."""
    try:
        opened = api.open(store, checksums="always")
        for name in opened.arrays:
            opened.read(opened.rows(), [name])
    except StoreChanged:
        assert is_pending(store)
        return
    except StoreDamaged:
        assert scenario.operation == "repair", "it was whole before"
        return
    except NotAStore:
        assert scenario.operation == "ingest", "there was a store before"
        return
    first_commit = scenario.operation == "ingest" and opened.root.rows == 0
    assert first_commit or rows_of(store) in scenario.counts


def rows_of(store: Path) -> tuple[int, int]:
    """How many rows are valid, and how many quarantined."""
    opened = api.open(store)
    return len(opened), opened.root.quarantined


def chosen(total: int, most: int) -> set[int]:
    """The first of `total` calls, the last, and some evenly between them."""
    return set(np.linspace(0, total - 1, min(most, total)).astype(int).tolist())


CHOSEN: dict[str, Callable[[int], set[int]]] = {
    "ends": lambda total: chosen(total, 2),
    "between": lambda total: chosen(total, 6) - chosen(total, 2),
}
"""Which of all calls fail, each alone."""


@pytest.fixture(scope="module")
def calls_of(scenario: Scenario, ask: Ask, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], int]:
    """How many calls of a kind the operation makes when none fails."""

    @cache
    def counted(call: str) -> int:
        folder = tmp_path_factory.mktemp("counted") / "at"
        store = copy_of(scenario.start, folder)
        return int(ask(operation=scenario.operation, raw=scenario.raw, store=store, call=call, below=folder)["calls"])

    return counted


@pytest.mark.parametrize(("call", "error", "stays"), FAULTS, ids=lambda value: str(value))
@pytest.mark.parametrize("which", ["ends", pytest.param("between", marks=pytest.mark.slow)])
def test_a_fault_at_any_call_stops_with_a_message_and_a_rerun_ends_at_the_same_bytes(
    scenario: Scenario,
    ask: Ask,
    calls_of: Callable[[str], int],
    tmp_path: Path,
    call: str,
    error: int,
    stays: bool,
    which: str,
) -> None:
    where = {"operation": scenario.operation, "raw": scenario.raw, "store": tmp_path / "at" / "s.zarr"}
    fault = {"call": call, "below": tmp_path / "at", "errno": error, "stays": stays}
    total = calls_of(call)
    assert total > 0
    for at in sorted(CHOSEN[which](total)):
        store = copy_of(scenario.start, tmp_path / "at")
        said = ask(**where, **fault, at=at)
        assert said["code"] in (0, 5), said
        if said["code"]:
            assert os.strerror(error) in said["message"], said
            assert str(store) in said["message"], said
            assert "run the same command again" in said["message"], said
            assert_is_a_commit(store, scenario)
            done = ask(**where)
            # A fault after the root has its new name comes too late: what was asked for is there already.
            there = any(text in done["message"] for text in ("write over it with --replace", "is in the store already"))
            assert done["code"] == 0 or there, (at, done)
        assert tree_digest(store) == scenario.end, (at, said)
        assert not work_folder(store).exists(), at
