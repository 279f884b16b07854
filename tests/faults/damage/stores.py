"""Small real stores with a history, so that there are older versions and other stores to swap files with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np

from shapestore.errors import StoppedEarly
from shapestore.preprocess.compute import no_gate
from shapestore.preprocess.ingest import Request, prepare, run
from shapestore.preprocess.job import Progress
from shapestore.preprocess.repair import repair
from shapestore.preprocess.repair_run import Mended
from shapestore.preprocess.workers import InProcess
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.columns import Column

ROWS_PER_SHARD = 4

CHUNK_ROWS = 1024
"""Rows of a chunk of an index array, within `small_index_chunks`."""

RECIPE = """
name: damage
input: [mesh]
seed: 1
points: {count: 64, normals: true, fps_order: 16}
grid: {size: 4, udf: surface, dilate: 1, occupancy: true}
"""
"""Mapped arrays of points and a packed grid."""


FILES_MOVED = 5
"""Files that are in place when a commit is killed."""


@dataclass(frozen=True)
class History:
    """A store, its raw files, and what it was before."""

    folder: Path
    kind: str

    @property
    def raw(self) -> Path:
        """Raw files of the last commit."""
        return self.folder / "raw"

    @property
    def first(self) -> Path:
        """Four rows, one of them quarantined."""
        return self.folder / "first.zarr"

    @property
    def second(self) -> Path:
        """Four rows, after that one was mended and retried."""
        return self.folder / "second.zarr"

    @property
    def last(self) -> Path:
        """Eleven rows in three row groups, the last of three rows; row 6 is quarantined."""
        return self.folder / "last.zarr"

    @property
    def unfinished(self) -> Path:
        """`second`, with an ingest towards `last` that was interrupted."""
        return self.folder / "unfinished.zarr"

    @property
    def killed(self) -> Path:
        """`first` on its way to `second`, killed when half of the commit's files were in place."""
        return self.folder / "killed.zarr"

    def copy(self, store: Path, to: Path) -> Path:
        """A copy of one of the stores, with its work folder, to be damaged."""
        for source, target in ((store, to), (work(store), work(to))):
            shutil.rmtree(target, ignore_errors=True)
            if source.exists():
                shutil.copytree(source, target)
        return to


def work(store: Path) -> Path:
    """The work folder of a store."""
    return store.with_name(f"{store.name}.ingest")


@contextmanager
def no_waiting_for_disks() -> Iterator[None]:
    """Whether a disk keeps what was synced is not to be seen here."""
    with patch.object(os, "fsync", lambda descriptor: None):
        yield


@contextmanager
def small_index_chunks() -> Iterator[None]:
    """Chunks of index arrays have room for few rows: no store here has many, and all that is done costs by the room."""

    def room(column: Column) -> int:
        return min(vars(column)["chunk_rows"], CHUNK_ROWS)

    def declare(column: Column, rows: int) -> None:
        vars(column)["chunk_rows"] = rows

    with patch.object(Column, "chunk_rows", property(room, declare)):
        yield


def make_history(folder: Path, kind: str = "one", seed: int = 0) -> History:
    """Ingest four meshes, whose names begin with `kind`, retry the one that failed, and add seven."""
    history = History(folder, kind)
    history.raw.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(RECIPE)
    for number in range(4):
        _write_mesh(history.raw / f"{kind}{number:02d}.obj", seed + number)
    (history.raw / f"{kind}01.obj").write_text("# nothing\n")
    with patch.object(StoreSchema, "rows_per_shard", lambda schema: ROWS_PER_SHARD):
        ingest(history, history.last)
    history.copy(history.last, history.first)
    _write_mesh(history.raw / f"{kind}01.obj", seed + 1)
    history.copy(history.last, history.killed)
    _kill_in_commit(history)
    ingest(history, history.last, retry=True)
    history.copy(history.last, history.second)
    for number in range(4, 11):
        _write_mesh(history.raw / f"{kind}{number:02d}.obj", seed + number)
    (history.raw / f"{kind}06.obj").write_text("# nothing\n")
    history.copy(history.last, history.unfinished)
    with suppress(StoppedEarly):
        ingest(history, history.unfinished, stop_after=6)
    ingest(history, history.last)
    return history


def _kill_in_commit(history: History) -> None:
    moved = 0

    def reached(step: str) -> None:
        nonlocal moved
        moved += step == "file moved"
        if moved == FILES_MOVED:
            raise SystemExit

    with patch("shapestore.store.transaction.reached", reached), suppress(SystemExit):
        ingest(history, history.killed, retry=True)


def ingest(history: History, store: Path, *, retry: bool = False, stop_after: float = np.inf) -> None:
    """Run the same ingest command again."""

    def report(progress: Progress) -> None:
        if progress.done >= stop_after:
            raise StoppedEarly("interrupted")

    request = Request("meshes", history.raw, store, str(history.folder / "recipe.yaml"), retry=retry)
    run(request, prepare(request), InProcess, report)


def mend(store: Path, raw: Path | None = None, **options: bool) -> list[Mended]:
    """Repair in this process."""
    return repair(store, raw, InProcess, lambda *_: None, lambda _: no_gate, **options)


def _write_mesh(path: Path, seed: int) -> None:
    """A tetrahedron that no other seed gives."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]) + np.random.default_rng(seed).uniform(
        0, 0.2, (4, 3)
    )
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in corners]
    path.write_text("\n".join([*lines, "f 1 3 2", "f 1 2 4", "f 1 4 3", "f 2 3 4", ""]))
