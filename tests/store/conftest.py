"""Real stores for the tests of the store: small rows, several row groups, every kind of array, quarantined rows."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shapestore.schemas.array import ArraySpec, Code
from shapestore.schemas.families import Labels, Points, SdfSamples, UdfGrid
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.specs import distance_spec, grid_spec, order_family, points_spec
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.entries import Failure, GroupCommit, RowEntry
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal, sealed_path
from shapestore.store.root import Root
from shapestore.store.shard import ShardEntry
from shapestore.store.writer import StoreWriter

POINTS, ORDER, GRID, NEAR = 12, 5, 3, 6
CODES = (Code(value=0, name="outside"), Code(value=1, name="left atrium"), Code(value=2, name="aorta"))
SPLITS = ("test", "train", "val")
CATEGORIES = ("airplane", "bed side table", "chair")
ROWS_PER_SHARD = 8


def tiny_schema() -> StoreSchema:
    """Mapped arrays of 1 and 4 bytes a value, a packed float16 grid, and a count in an index array."""
    labels = ArraySpec(
        name="near_labels",
        dims=("near_point",),
        shape=(NEAR,),
        dtype="int8",
        long_name="class",
        role="sdf_samples",
        pool="near_points",
        codes=CODES,
    )
    mask = ArraySpec(
        name="pc_mask",
        dims=("pc_point",),
        shape=(POINTS,),
        dtype="int8",
        long_name="object or background",
        role="labels",
        pool="pc_xyz",
        codes=(Code(value=-1, name="background"), Code(value=1, name="object")),
        fill=-1,
    )
    count = ArraySpec(
        name="near_count",
        dims=(),
        shape=(),
        dtype="int32",
        kind="index",
        long_name="filled entries of near_points",
        role="sdf_samples",
    )
    return StoreSchema(
        families=(
            Points(
                points=points_spec("pc_xyz", POINTS, "points", "surface points"),
                normals=points_spec("pc_n", POINTS, "points", "unit normals of pc_xyz"),
            ),
            order_family("pc_fps_order", "pc_xyz", POINTS, ORDER),
            Labels(labels=mask),
            UdfGrid(grid=grid_spec("udf_grid", GRID, "float16")),
            SdfSamples(
                where="near",
                points=points_spec("near_points", NEAR, "sdf_samples", "near samples"),
                sdf=distance_spec("near_sdf", NEAR, "signed distance", "sdf_samples"),
                labels=labels,
                count=count,
            ),
        )
    )


def row_arrays(row: int) -> dict[str, NDArray[Any]]:
    """The data arrays of one row: a function of its number alone, and valid by the rules of `tiny_schema`."""
    rng = np.random.default_rng(row)
    normals = rng.normal(size=(POINTS, 3))
    sdf = rng.uniform(-0.1, 0.1, NEAR).astype(np.float32)
    return {
        "pc_xyz": rng.uniform(-1, 1, (POINTS, 3)).astype(np.float32),
        "pc_n": (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        "pc_fps_order": rng.permutation(POINTS)[:ORDER].astype(np.int32),
        "pc_mask": rng.choice([-1, 1], POINTS).astype(np.int8),
        "udf_grid": rng.uniform(0, 1, (GRID, GRID, GRID)).astype(np.float16),
        "near_points": rng.uniform(-1, 1, (NEAR, 3)).astype(np.float32),
        "near_sdf": sdf,
        "near_labels": np.where(sdf < 0, rng.integers(1, 3, NEAR), 0).astype(np.int8),
    }


def row_entry(row: int, failed: bool = False) -> RowEntry:
    """All that is kept of one row beside its arrays."""
    rng = np.random.default_rng(1000 + row)
    failure = Failure(reason="no faces", message=f"item {row} holds no face", traceback=f"line {row}")
    return RowEntry(
        row=row,
        shape_id=f"shapes/{row:03d}-ü",
        split=(*SPLITS, "")[row % 4],
        category=(*CATEGORIES, "")[row // 2 % 4],
        group=f"object {row // 3}",
        source=f"raw/{row}.obj",
        source_sha256=hashlib.sha256(str(row).encode()).hexdigest(),
        shift=(float(rng.normal()), 0.1 * row, -1.0),
        scale=1.0 + row / 7,
        seed=row * 2**40,
        declared={} if failed else {"near_count": row % (NEAR + 1)},
        source_size=row,
        source_mtime_ns=row,
        notes=("first", "second") if row == 1 else (),
        failure=failure if failed else None,
    )


def new_writer(path: Path, schema: StoreSchema | None = None, rows_per_shard: int = ROWS_PER_SHARD) -> StoreWriter:
    """Commit an empty store whose row groups are small."""
    recipe = load_recipe("points")
    path.mkdir(exist_ok=True)
    root = Root(
        schema=schema or tiny_schema(),
        recipe=recipe,
        recipe_digest=recipe.digest,
        source_kind="meshes",
        rows_per_shard=rows_per_shard,
        codes={"split": SPLITS, "category": CATEGORIES},
    )
    writer = StoreWriter(path, root)
    writer.commit(root, [])
    return writer


def committed_shards(writer: StoreWriter, group: int) -> dict[str, ShardEntry]:
    """What the last commit says of the shards of one row group."""
    size, sha256 = writer.column("integrity/size")[group], writer.column("integrity/sha256")[group]
    names = writer.root.integrity_columns[0].attributes["arrays"]
    return {name: ShardEntry(size=int(size[i]), sha256=bytes(sha256[i].tolist()).hex()) for i, name in enumerate(names)}


def seal_group(writer: StoreWriter, group: int, rows: Sequence[int], failed: Collection[int] = ()) -> GroupCommit:
    """Write `rows` of one row group as two parts and seal them, over what the group has already."""
    work = work_folder(writer.path)
    work.mkdir(exist_ok=True)
    root = writer.root
    first_row = group * root.rows_per_shard
    held = min(root.rows_per_shard, max(0, root.rows - first_row))
    entries = {row: row_entry(row, row in failed) for row in rows}
    parts = []
    for number, chosen in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
        name = f"{group}.{number}.part"
        with PartWriter(work / name, root.content) as part:
            for row in chosen:
                if row not in failed:
                    part.append(row, row_arrays(row))
        parts.append(Part(file=name, entries=tuple(entries[row] for row in chosen), sizes=part.sizes))
    task = SealTask(
        group=group,
        first_row=first_row,
        rows=max(held, rows[-1] + 1 - first_row),
        parts=tuple(parts),
        committed=committed_shards(writer, group) if held else {},
        rows_committed=held,
    )
    shards = seal(writer.path, work, root.content, root.rows_per_shard, task)
    staged = {name: sealed_path(work, group, name) for name in shards} if held else {}
    return GroupCommit(group, entries, shards, staged)


def tidy(writer: StoreWriter) -> None:
    """Remove the parts and the empty folders of sealing, as an ingest does when it is complete."""
    work = work_folder(writer.path)
    for part in work.glob("*.part"):
        part.unlink()
    for name in ("sealing", "sealed"):
        shutil.rmtree(work / name, ignore_errors=True)


def write_rows(writer: StoreWriter, rows: Sequence[int], failed: Collection[int] = ()) -> None:
    """Seal the row groups of `rows` and commit them at once."""
    groups = sorted({row // writer.root.rows_per_shard for row in rows})
    commits = [
        seal_group(writer, group, [row for row in rows if row // writer.root.rows_per_shard == group], failed)
        for group in groups
    ]
    writer.commit(writer.root, commits)
    tidy(writer)


@dataclass(frozen=True)
class Built:
    """A store on disk, and what was put into it."""

    path: Path
    rows: int
    failed: frozenset[int]
    schema: StoreSchema = field(default_factory=tiny_schema)

    @property
    def valid(self) -> list[int]:
        """Rows that hold data."""
        return [row for row in range(self.rows) if row not in self.failed]

    def arrays(self, row: int) -> dict[str, NDArray[Any]]:
        """What was written into one row."""
        return row_arrays(row)

    def entry(self, row: int) -> RowEntry:
        """What was kept of one row."""
        return row_entry(row, row in self.failed)


MakeStore = Callable[..., Built]


def build(path: Path, rows: int = 21, failed: Collection[int] = (3, 9), cuts: Sequence[int] = ()) -> Built:
    """Write a store of `rows` rows, with one commit up to each of `cuts` and one for the rest."""
    with WriterLock(path):
        writer = new_writer(path)
        for start, end in zip([0, *cuts], [*cuts, rows], strict=True):
            if end > start:
                write_rows(writer, range(start, end), failed)
    return Built(path, rows, frozenset(failed))


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Whether a disk keeps what was synced is not to be seen here; `test_commit_order` checks what is synced when."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def make_store(tmp_path: Path) -> MakeStore:
    """`make_store(rows, failed, cuts, name)`: write a new store."""

    def make(rows: int = 21, failed: Collection[int] = (3, 9), cuts: Sequence[int] = (), name: str = "s.zarr") -> Built:
        return build(tmp_path / name, rows, failed, cuts)

    return make


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A store that many tests read and none changes: 21 rows in three row groups, rows 3 and 9 quarantined."""
    return build(tmp_path_factory.mktemp("built") / "built.zarr")


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Built:
    """A copy of `built` to damage."""
    path = tmp_path / "copied.zarr"
    shutil.copytree(built.path, path)
    return Built(path, built.rows, built.failed)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those of `provenance`, by its relative path."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.relative_to(folder).parts[0] != "provenance"
    }
