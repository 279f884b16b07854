"""Records, batches and small stores that the tests of checks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.raw import Raw, RawMesh
from shapestore.preprocess.records.build import build_record
from shapestore.preprocess.source import SourceItem
from shapestore.quality.check import Batch, Check, Fact, Measure
from shapestore.quality.gates import record_batch
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.recipe_schema import schema_of
from shapestore.schemas.record import ShapeRecord


def record_of(raw: Raw, recipe: Recipe, shape_id: str = "shape", **item: Any) -> ShapeRecord:
    """The record that ingest makes of a raw item."""
    about = SourceItem(shape_id, f"{shape_id}.raw", item.pop("group", shape_id), **item)
    return build_record(raw, about, "0" * 64, recipe, schema_of(recipe))


def mesh_record(mesh: Mesh, recipe: Recipe, shape_id: str = "shape", **item: Any) -> ShapeRecord:
    """The record of a mesh."""
    return record_of(RawMesh(mesh), recipe, shape_id, **item)


def batch_of(records: Sequence[ShapeRecord], recipe: Recipe, kind: str = "meshes") -> Batch:
    """Records as one batch of rows 0, 1, ..."""
    schema = schema_of(recipe)
    batches = [record_batch(record, schema, recipe, kind) for record in records]
    return Batch(
        schema,
        recipe,
        np.arange(len(records)),
        {name: np.concatenate([batch.index[name] for batch in batches]) for name in batches[0].index},
        {name: np.concatenate([batch.arrays[name] for batch in batches]) for name in batches[0].arrays},
        kind,
    )


def spoilt(batch: Batch, **arrays: Callable[[np.ndarray], np.ndarray]) -> Batch:
    """The batch with some arrays changed."""
    changed = {name: change(np.array(batch.arrays[name])) for name, change in arrays.items()}
    return replace(batch, arrays={**batch.arrays, **changed})


def measures(check: Check, batch: Batch, **settings: Any) -> dict[str, Measure]:
    """Every measure of a check by name."""
    found = check.measure(batch, check.settings.model_validate(settings))
    return {each.name: each for each in found if isinstance(each, Measure)}


def facts(check: Check, batch: Batch, **settings: Any) -> dict[str, np.ndarray]:
    """Every fact of a check by name."""
    found = check.measure(batch, check.settings.model_validate(settings))
    return {each.name: np.asarray(each.values) for each in found if isinstance(each, Fact)}


def broken(check: Check, batch: Batch, **settings: Any) -> dict[str, list[int]]:
    """Measures that are out of bounds, each with the rows."""
    found = measures(check, batch, **settings)
    return {name: np.flatnonzero(each.broken).tolist() for name, each in found.items() if each.broken.any()}
