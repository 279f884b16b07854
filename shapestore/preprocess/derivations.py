"""Arrays that follow from other arrays of the same row: computed with a record, or later for a whole store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import UsageError
from shapestore.preprocess.geometry.distance import cloud_distance
from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.preprocess.geometry.trilinear import trilinear
from shapestore.schemas.families import QueryPool
from shapestore.schemas.specs import distance_spec, order_family
from shapestore.schemas.store_schema import StoreSchema

Arrays = Mapping[str, NDArray[Any]]

ORDER_LENGTH = 2048
"""Length of a derived order; shorter where its pool is."""


@dataclass(frozen=True)
class Derivation:
    """How one array follows from others."""

    needs: tuple[str, ...]
    """Arrays that it is computed from."""
    declare: Callable[[StoreSchema], StoreSchema]
    """The schema with the array added."""
    compute: Callable[[Arrays, int], NDArray[Any]]
    """The array of one row, from the arrays that it needs and its declared length."""


def _order_over(name: str, pool: str) -> Derivation:
    def declare(schema: StoreSchema) -> StoreSchema:
        size = schema.by_name[pool].shape[0]
        return StoreSchema(families=(*schema.families, order_family(name, pool, size, min(ORDER_LENGTH, size))))

    return Derivation((pool,), declare, lambda arrays, length: farthest_point_order(arrays[pool], length))


def _distance(name: str, text: str, needs: str, compute: Callable[[NDArray[Any], NDArray[Any]], Any]) -> Derivation:
    def declare(schema: StoreSchema) -> StoreSchema:
        families = []
        for family in schema.families:
            if isinstance(family, QueryPool) and family.points.name == "pt_xyz_pool":
                added = distance_spec(name, family.points.shape[0], text)
                family = family.model_copy(update={"distances": (*family.distances, added)})
            families.append(family)
        return StoreSchema(families=tuple(families))

    def row(arrays: Arrays, length: int) -> NDArray[Any]:
        del length
        return np.asarray(compute(arrays[needs], arrays["pt_xyz_pool"]))

    return Derivation((needs, "pt_xyz_pool"), declare, row)


DERIVATIONS: Mapping[str, Derivation] = {
    "pc_fps_order": _order_over("pc_fps_order", "pc_xyz"),
    "pt_fps_order": _order_over("pt_fps_order", "pt_xyz_pool"),
    "pt_dist_pc_pool": _distance("pt_dist_pc_pool", "distance to the nearest of pc_xyz", "pc_xyz", cloud_distance),
    "pt_dist_udf_pool": _distance("pt_dist_udf_pool", "distance read from udf_grid, trilinear", "udf_grid", trilinear),
}
"""Every array that can be derived."""


def declare(schema: StoreSchema, name: str) -> StoreSchema:
    """The schema with the derived array `name` added.

    Raises
    ------
    UsageError
        It is there already, cannot be derived, or needs arrays that the schema does not have.
    """
    if name in schema.by_name:
        raise UsageError(f"{name} is in the store already.")
    if name not in DERIVATIONS:
        raise UsageError(f"{name} cannot be derived. What can: {', '.join(DERIVATIONS)}.")
    missing = [needed for needed in DERIVATIONS[name].needs if needed not in schema.by_name]
    if missing:
        raise UsageError(f"{name} is computed from {', '.join(missing)}, which the store does not have.")
    return DERIVATIONS[name].declare(schema)


def complete(arrays: Arrays, schema: StoreSchema) -> dict[str, NDArray[Any]]:
    """`arrays` with those of the schema added that were derived later, so that new rows have them too."""
    whole = dict(arrays)
    for name, spec in schema.by_name.items():
        if name not in whole and name in DERIVATIONS:
            whole[name] = DERIVATIONS[name].compute(whole, spec.shape[0])
    return whole
