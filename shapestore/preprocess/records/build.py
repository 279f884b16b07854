"""The one way from a raw item to a validated record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.derivations import complete
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.raw import Raw, RawArrays, RawCloud, RawMesh
from shapestore.preprocess.records.computed import Computed
from shapestore.preprocess.records.label_map import from_label_map
from shapestore.preprocess.records.surface import frame_values, from_cloud, from_mesh
from shapestore.preprocess.source import SourceItem
from shapestore.schemas.provenance import Provenance
from shapestore.schemas.recipe import Recipe
from shapestore.schemas.record import ShapeRecord
from shapestore.schemas.seeding import row_seed
from shapestore.schemas.store_schema import StoreSchema


def build_record(raw: Raw, item: SourceItem, sha256: str, recipe: Recipe, schema: StoreSchema) -> ShapeRecord:
    """Compute all arrays of `recipe` from a raw item, and check them against every rule.

    Raises
    ------
    InputRefused
        The raw data cannot give the arrays.
    RecordInvalid
        The arrays break a rule.
    """
    seed = row_seed(recipe.seed, item.shape_id)
    computed = _compute(raw, recipe, seed)
    shift, scale = frame_values(computed.frame)
    record = ShapeRecord(
        shape_id=item.shape_id,
        category=item.category,
        split=item.split,
        group=item.group,
        provenance=Provenance(source=item.path, source_sha256=sha256, shift=shift, scale=scale, seed=seed),
        arrays=_contiguous(complete(computed.arrays, schema)),
        notes=computed.notes,
    )
    schema.require(record)
    return record


def _compute(raw: Raw, recipe: Recipe, seed: int) -> Computed:
    if isinstance(raw, RawMesh):
        return from_mesh(raw, recipe, seed)
    if isinstance(raw, RawCloud):
        return from_cloud(raw, recipe, seed)
    if isinstance(raw, RawArrays):
        return Computed(raw.arrays, Frame(np.array(raw.shift), raw.scale), raw.notes)
    return from_label_map(raw, recipe, seed)


def _contiguous(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: np.ascontiguousarray(value) if value.ndim else value for name, value in arrays.items()}
