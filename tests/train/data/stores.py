"""Small stores to train from: clouds with an order, signed samples with labels, and a pool that is filled in part."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shapestore.schemas.array import ArraySpec, Code
from shapestore.schemas.families import Points, SdfSamples
from shapestore.schemas.recipe_file import load_recipe
from shapestore.schemas.specs import distance_spec, order_family, points_spec
from shapestore.schemas.store_schema import StoreSchema
from shapestore.store.entries import Failure, GroupCommit, RowEntry
from shapestore.store.layout import work_folder
from shapestore.store.lock import WriterLock
from shapestore.store.part import Part, PartWriter, SealTask, seal
from shapestore.store.root import Root
from shapestore.store.writer import StoreWriter

CLOUD, ORDER, VOLUME, NEAR = 40, 20, 60, 30
ROWS, FAILED = 30, (4,)
ROWS_PER_SHARD = 8
ALL_OUTSIDE = 7
"""Row of a shape without a point inside."""
CODES = (Code(value=0, name="outside"), Code(value=1, name="left atrium"), Code(value=2, name="aorta"))
SPLITS, CATEGORIES = ("train", "test"), ("chair", "lamp")


def labels_spec(pool: str, size: int) -> ArraySpec:
    """(size,) int8 class codes of `pool`."""
    prefix = pool.split("_")[0]
    return ArraySpec(
        name=f"{prefix}_labels",
        dims=(f"{prefix}_point",),
        shape=(size,),
        dtype="int8",
        long_name="class",
        role="sdf_samples",
        pool=pool,
        codes=CODES,
    )


def schema(cloud: int = CLOUD) -> StoreSchema:
    """A cloud with normals and an order, volume samples, and near samples of which a count is filled."""
    count = ArraySpec(
        name="near_count", dims=(), shape=(), dtype="int32", kind="index", long_name="filled", role="sdf_samples"
    )
    return StoreSchema(
        families=(
            Points(
                points=points_spec("pc_xyz", cloud, "points", "surface points"),
                normals=points_spec("pc_n", cloud, "points", "unit normals"),
            ),
            order_family("pc_fps_order", "pc_xyz", cloud, ORDER),
            SdfSamples(
                where="volume",
                points=points_spec("vol_points", VOLUME, "sdf_samples", "volume samples"),
                sdf=distance_spec("vol_sdf", VOLUME, "signed distance", "sdf_samples"),
                labels=labels_spec("vol_points", VOLUME),
            ),
            SdfSamples(
                where="near",
                points=points_spec("near_points", NEAR, "sdf_samples", "near samples"),
                sdf=distance_spec("near_sdf", NEAR, "signed distance", "sdf_samples"),
                count=count,
            ),
        )
    )


def filled_near(row: int) -> int:
    """Entries of the near pool that a row has filled."""
    return 10 + row % 5


def row_arrays(row: int, salt: int = 0, cloud: int = CLOUD) -> dict[str, NDArray[Any]]:
    """What one row holds: a function of its number and the store's salt."""
    rng = np.random.default_rng([row, salt])
    sdf = rng.uniform(-0.5, 0.5, VOLUME).astype(np.float32)
    if row == ALL_OUTSIDE:
        sdf = abs(sdf) + np.float32(0.01)
    near = rng.uniform(-0.1, 0.1, (NEAR, 4)).astype(np.float32)
    near[filled_near(row) :] = 0
    return {
        "pc_xyz": rng.uniform(-1, 1, (cloud, 3)).astype(np.float32),
        "pc_n": rng.uniform(-1, 1, (cloud, 3)).astype(np.float32),
        "pc_fps_order": rng.permutation(cloud)[:ORDER].astype(np.int32),
        "vol_points": rng.uniform(-1, 1, (VOLUME, 3)).astype(np.float32),
        "vol_sdf": sdf,
        "vol_labels": np.where(sdf < 0, rng.integers(1, 3, VOLUME), 0).astype(np.int8),
        "near_points": near[:, :3].copy(),
        "near_sdf": near[:, 3].copy(),
    }


def row_entry(row: int, prefix: str, failed: bool = False, nameless: bool = False) -> RowEntry:
    """All that is kept of one row beside its arrays: every fifth is a lamp, every fourth a test."""
    return RowEntry(
        row=row,
        shape_id=f"{prefix}/{row:03d}-ü",
        split=SPLITS[row % 4 == 0],
        category="" if nameless else CATEGORIES[row % 5 == 0],
        group=str(row),
        source=f"{row}.obj",
        seed=row,
        declared={} if failed else {"near_count": filled_near(row)},
        failure=Failure(reason="no faces", message="nothing") if failed else None,
    )


def write_store(
    path: Path,
    rows: int = ROWS,
    failed: Collection[int] = FAILED,
    salt: int = 0,
    prefix: str = "shapes",
    cloud: int = CLOUD,
    nameless: Collection[int] = (),
) -> Path:
    """Write a store of `rows` rows in one commit; rows `nameless` have no category."""
    recipe = load_recipe("points")
    path.mkdir()
    root = Root(
        schema=schema(cloud),
        recipe=recipe,
        recipe_digest=recipe.digest,
        source_kind="meshes",
        rows_per_shard=ROWS_PER_SHARD,
        codes={"split": SPLITS, "category": CATEGORIES},
    )
    work = work_folder(path)
    with WriterLock(path), pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # whether a disk keeps it is not to be seen here
        writer = StoreWriter(path, root)
        writer.commit(root, [])
        work.mkdir(exist_ok=True)
        groups = []
        for first in range(0, rows, ROWS_PER_SHARD):
            entries = tuple(
                row_entry(row, prefix, row in failed, row in nameless)
                for row in range(first, min(rows, first + ROWS_PER_SHARD))
            )
            with PartWriter(work / "0.part", root.content) as part:
                for entry in entries:
                    if entry.failure is None:
                        part.append(entry.row, row_arrays(entry.row, salt, cloud))
            task = SealTask(
                group=first // ROWS_PER_SHARD,
                first_row=first,
                rows=len(entries),
                parts=(Part(file="0.part", entries=entries, sizes=part.sizes),),
            )
            shards = seal(path, work, root.content, ROWS_PER_SHARD, task)
            groups.append(GroupCommit(task.group, {entry.row: entry for entry in entries}, shards))
        writer.commit(root, groups)
    return path
