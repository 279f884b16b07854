"""A million rows: opening, selecting and committing cost what they cost for a thousand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from shapestore.schemas.recipe_file import load_recipe
from shapestore.store.entries import GroupCommit, RowEntry
from shapestore.store.layout import INDEX_CHUNK_ROWS
from shapestore.store.lock import WriterLock
from shapestore.store.shard import ShardEntry
from shapestore.store.writer import StoreWriter

ROWS = 1_000_000

OPEN_AND_SELECT = """
import resource, statistics, sys, time
import shapestore
shapestore.open  # import is not part of what is measured

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

path, seconds = sys.argv[1], []
before = resident()
for _ in range(5):
    began = time.perf_counter()
    store = shapestore.open(path)
    rows = store.rows(split="test", category="00000003")
    seconds.append(time.perf_counter() - began)
print(len(rows), statistics.median(seconds), resident() - before)
"""


TEMPLATE = RowEntry(
    row=0,
    shape_id="",
    group="",
    source="",
    source_sha256="ab" * 32,
    seed=0,
    notes=("mesh: 2000 faces in 3 components, watertight, winding consistent",),
)
"""What all rows have in common: to copy it costs a fraction of what it costs to make an entry of its fields."""


def entry(row: int) -> RowEntry:
    model = f"{row % 55:08d}/{row:032x}"
    own = {
        "row": row,
        "shape_id": model,
        "split": "test" if row % 10 == 0 else "train",
        "category": f"{row % 55:08d}",
        "group": f"{row:032x}",
        "source": f"{model}/models/model_normalized.obj",
        "seed": row,
    }
    return TEMPLATE.model_copy(update=own)


def groups(rows_per_shard: int, first: int, last: int) -> Iterator[GroupCommit]:
    for group in range(first, last):
        start = group * rows_per_shard
        rows = {row: entry(row) for row in range(start, min(start + rows_per_shard, ROWS))}
        yield GroupCommit(group, rows, {"pc_xyz": ShardEntry(size=1, sha256="ab" * 32)})


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[int, int, int]]]:
    """A store of a million rows (its shards left out: they are not read), and (rows, bytes, files) of its commits."""
    path = tmp_path_factory.mktemp("scale") / "million.zarr"
    recipe = load_recipe("points", ["points.count=1", "points.fps_order=0", "points.normals=false"])
    commits: list[tuple[int, int, int]] = []
    with WriterLock(path):
        writer = StoreWriter.create(path, recipe, "meshes")
        root = writer.with_codes({"split": ["train", "test"], "category": [f"{i:08d}" for i in range(55)]})
        size = root.rows_per_shard
        per_chunk = INDEX_CHUNK_ROWS // size
        last = -(-ROWS // size)
        for first in range(0, last, per_chunk):
            before = {p: p.stat().st_mtime_ns for p in path.rglob("*") if p.is_file()}
            root = writer.commit(root, list(groups(size, first, min(first + per_chunk, last))))
            written = [p for p in path.rglob("*") if p.is_file() and before.get(p) != p.stat().st_mtime_ns]
            commits.append((root.rows, sum(p.stat().st_size for p in written), len(written)))
    return path, commits


@pytest.mark.slow
def test_open_and_select_in_50_mb(million: tuple[Path, list[tuple[int, int, int]]]) -> None:
    path, _ = million
    command = [sys.executable, "-c", OPEN_AND_SELECT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    count, seconds, grown = done.stdout.split()
    assert int(count) == len([row for row in range(3, ROWS, 55) if row % 10 == 0])
    assert int(grown) <= 50e6, f"{int(grown) / 1e6:.0f} MB"
    sys.stdout.write(f"opened and selected in {float(seconds) * 1e3:.1f} ms, grew by {int(grown) / 1e6:.1f} MB\n")


@pytest.mark.slow
def test_a_commit_does_not_cost_more_in_a_larger_store(
    million: tuple[Path, list[tuple[int, int, int]]],
) -> None:
    _, commits = million
    _, first_bytes, first_files = commits[0]
    for rows, written, files in commits[1:]:
        assert files <= first_files, f"{files} files at {rows} rows"
        assert written <= first_bytes * 1.05 + 100_000, f"{written} bytes at {rows} rows, {first_bytes} at first"
