"""`StoreSchema`: which families fit together, and the size of a row group."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import (
    AnyFamily,
    FpsOrder,
    LabelCounts,
    Labels,
    MeshFacts,
    OccupancyGrid,
    Points,
    QueryPool,
    RayPool,
    SdfGrid,
    SdfSamples,
    SignFacts,
    UdfGrid,
)
from shapestore.schemas.specs import (
    distance_spec,
    grid_spec,
    label_codes,
    mesh_facts,
    occupancy_spec,
    order_family,
    points_spec,
    ray_returns,
    sample_family,
    sign_facts,
)
from shapestore.schemas.store_schema import MAX_SHARD_BYTES, StoreSchema

CLOUD = points_spec("pc_xyz", 8, "points", "points")
DISTANCE = distance_spec("pt_dist_pool", 8, "distance")
CODES = label_codes(("a", "b"))


def order(**changes: Any) -> ArraySpec:
    return order_family("pc_fps_order", "pc_xyz", 8, 4).order.model_copy(update=changes)


def mask(**changes: Any) -> ArraySpec:
    values = {"name": "pc_mask", "dims": ("pc_point",), "shape": (8,), "dtype": "int8", "long_name": "mask"}
    return ArraySpec.model_validate(values | {"role": "labels", "pool": "pc_xyz", "codes": CODES} | changes)


def samples(**changes: Any) -> dict[str, Any]:
    family = sample_family("near", 8, CODES, counted=True)
    return {name: getattr(family, name) for name in ("where", "points", "sdf", "labels", "count")} | changes


FLAT = points_spec("p", 8, "points", "points").model_copy(update={"dims": ("p_point", "xy"), "shape": (8, 2)})
MISFITS = {
    "points of two coordinates": lambda: Points(points=FLAT),
    "fewer normals than points": lambda: Points(points=CLOUD, normals=points_spec("pc_n", 7, "points", "n")),
    "integer points": lambda: Points(points=CLOUD.model_copy(update={"dtype": "int32"})),
    "an order without a pool": lambda: FpsOrder(order=order(pool=None), pool_size=8),
    "an order longer than its pool": lambda: FpsOrder(order=order(), pool_size=3),
    "an order of floats": lambda: FpsOrder(order=order(dtype="float32"), pool_size=8),
    "distances of other points": lambda: QueryPool(points=CLOUD, distances=(distance_spec("d", 7, "d"),)),
    "signed distances of other points": lambda: QueryPool(
        points=CLOUD, distances=(DISTANCE,), signed=distance_spec("s", 7, "s")
    ),
    "signed distances alone": lambda: QueryPool(points=CLOUD, signed=DISTANCE),
    "a mesh's volume as a count": lambda: MeshFacts(
        counts=(mesh_facts().volume,), flags=(), volume=mesh_facts().volume
    ),
    "a sign's method without codes": lambda: SignFacts(
        method=sign_facts().method.model_copy(update={"codes": ()}), confidence=sign_facts().confidence
    ),
    "a sign's method for a confidence": lambda: SignFacts(method=sign_facts().method, confidence=sign_facts().method),
    "a flat grid": lambda: UdfGrid(grid=DISTANCE),
    "a grid of integers": lambda: SdfGrid(grid=occupancy_spec("g", 2, "cells")),
    "occupancy of floats": lambda: OccupancyGrid(grid=grid_spec("g", 2)),
    "labels without codes": lambda: Labels(labels=mask(codes=())),
    "labels without points": lambda: Labels(labels=mask(pool=None)),
    "labels of 4 bytes": lambda: Labels(labels=mask(dtype="int32")),
    "counts of 1 byte": lambda: LabelCounts(counts=mask()),
    "near samples without sdf": lambda: SdfSamples(**samples(sdf=None)),
    "surface samples with sdf": lambda: SdfSamples(**samples(where="surface")),
    "samples with labels without codes": lambda: SdfSamples(**samples(labels=mask(codes=()))),
    "samples with labels of other points": lambda: SdfSamples(**samples(labels=mask(pool="nowhere"))),
    "samples with a count for each point": lambda: SdfSamples(**samples(count=mask(dtype="int32"))),
    "samples whose sdf is too short": lambda: SdfSamples(**samples(sdf=distance_spec("s", 7, "s"))),
    "rays without as many directions": lambda: RayPool(
        origins=CLOUD, directions=points_spec("d", 7, "ray_pool", "d"), returns=()
    ),
    "rays without as many hits": lambda: RayPool(
        origins=CLOUD, directions=points_spec("d", 8, "ray_pool", "d"), returns=(ray_returns("", 7, "mesh"),)
    ),
}


@pytest.mark.parametrize("make", MISFITS.values(), ids=MISFITS)
def test_family_refuses_arrays_that_do_not_fit_it(make: Any) -> None:
    with pytest.raises(ValidationError):
        make()


def test_all_misfits_of_a_family_are_in_one_message() -> None:
    with pytest.raises(ValidationError, match=r"must name the pool.*must repeat") as caught:
        FpsOrder(order=order(pool=None), pool_size=3)
    assert len(caught.value.errors()) == 1


POINTS = Points(points=CLOUD)
REFUSED: dict[str, tuple[AnyFamily, ...]] = {
    "a name twice": (POINTS, POINTS),
    "an order without its pool": (order_family("pc_fps_order", "pc_xyz", 8, 4),),
    "an order over a pool of another size": (POINTS, order_family("pc_fps_order", "pc_xyz", 9, 4)),
    "labels without their points": (Labels(labels=mask()),),
    "labels of other points": (POINTS, Labels(labels=mask(shape=(7,), dims=("other",)))),
    "labels of a count": (SdfSamples(**samples()), Labels(labels=mask(pool="near_count"))),
    "one dimension name for two sizes": (UdfGrid(grid=grid_spec("udf_grid", 2)), SdfGrid(grid=grid_spec("sdf", 3))),
    **{
        f"the built-in name {name}": (Points(points=CLOUD.model_copy(update={"name": name})),)
        for name in ("shape_id", "valid", "split", "category", "shift", "seed", "quarantine", "integrity", "provenance")
    },
}


@pytest.mark.parametrize("families", REFUSED.values(), ids=REFUSED)
def test_schema_refuses_families_that_do_not_fit_together(families: tuple[AnyFamily, ...]) -> None:
    with pytest.raises(ValidationError):
        StoreSchema(families=families)


def test_arrays_are_those_of_the_families_in_order() -> None:
    near = sample_family("near", 8, CODES, counted=True)
    schema = StoreSchema(families=(POINTS, near))
    assert [spec.name for spec in schema.arrays] == ["pc_xyz", "near_points", "near_sdf", "near_labels", "near_count"]
    assert [spec.name for spec in schema.index_arrays] == ["near_count"]
    assert [spec.name for spec in schema.data_arrays] == ["pc_xyz", "near_points", "near_sdf", "near_labels"]
    assert schema.rules == tuple(schema.rules)
    assert len(schema.rules) == len(POINTS.rules()) + len(near.rules())


@given(counts=st.lists(st.integers(1, 10**8), min_size=1, max_size=3))
def test_rows_per_shard_is_the_largest_power_of_two_that_fits(counts: list[int]) -> None:
    families = tuple(Points(points=points_spec(f"p{i}", count, "points", "p")) for i, count in enumerate(counts))
    renamed = tuple(
        Points(points=family.points.model_copy(update={"dims": (f"n{i}", "xyz")})) for i, family in enumerate(families)
    )
    found = StoreSchema(families=renamed).rows_per_shard()
    largest = max(counts) * 12
    candidates = [1 << k for k in range(13) if (1 << k) * largest <= MAX_SHARD_BYTES]
    assert found == max(candidates, default=1)
