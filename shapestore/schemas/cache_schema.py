"""From what lies in an existing npz cache to the families that it is adopted as."""

from __future__ import annotations

from collections.abc import Iterator

from shapestore.schemas.families import AnyFamily, OccupancyGrid, Points, QueryPool, RayPool, UdfGrid
from shapestore.schemas.recipe import HEART_10, CachePart
from shapestore.schemas.specs import (
    distance_spec,
    grid_spec,
    label_codes,
    occupancy_spec,
    order_family,
    points_spec,
    ray_returns,
    sample_family,
)

QUERY_DISTANCES = {
    "pt_dist_pool": "unsigned distance to the surface, or to the scan",
    "pt_dist_pc_pool": "distance to the nearest of pc_xyz",
    "pt_dist_udf_pool": "distance read from udf_grid, trilinear",
}
"""Distance arrays of NEPA-3D caches: name to meaning."""


def cache_families(part: CachePart) -> Iterator[AnyFamily]:
    """All families of the arrays that the cache holds."""
    return _vecsetx(part) if part.layout == "vecsetx" else _nepa(part)


def _nepa(part: CachePart) -> Iterator[AnyFamily]:
    shapes = part.shapes
    cloud = shapes["pc_xyz"][0]
    normals = points_spec("pc_n", cloud, "points", "unit normals of pc_xyz") if "pc_n" in shapes else None
    yield Points(points=points_spec("pc_xyz", cloud, "points", "surface points"), normals=normals)
    for order, pool in (("pc_fps_order", "pc_xyz"), ("pt_fps_order", "pt_xyz_pool")):
        if order in shapes:
            yield order_family(order, pool, shapes[pool][0], shapes[order][0])
    if "pt_xyz_pool" in shapes:
        count = shapes["pt_xyz_pool"][0]
        distances = tuple(distance_spec(name, count, text) for name, text in QUERY_DISTANCES.items() if name in shapes)
        points = points_spec("pt_xyz_pool", count, "query_pool", "query positions")
        yield QueryPool(points=points, distances=distances)
    if "udf_grid" in shapes:
        packed = part.half_grids == "packed"
        yield UdfGrid(grid=grid_spec("udf_grid", shapes["udf_grid"][0], "float16" if packed else "float32"))
    if "occ_grid" in shapes:
        yield OccupancyGrid(grid=occupancy_spec("occ_grid", shapes["occ_grid"][0], "cells that pc_xyz occupies"))
    if "ray_o_pool" in shapes:
        yield _nepa_rays(part)


def _nepa_rays(part: CachePart) -> RayPool:
    count = part.shapes["ray_o_pool"][0]
    tags = {"": "the mesh", "_pc": "the cells that pc_xyz occupies"}
    return RayPool(
        origins=points_spec("ray_o_pool", count, "ray_pool", "ray origins, outside the cube"),
        directions=points_spec("ray_d_pool", count, "ray_pool", "unit ray directions"),
        returns=tuple(
            ray_returns(tag, count, what, normals=f"ray_n{tag}_pool" in part.shapes)
            for tag, what in tags.items()
            if f"ray_hit{tag}_pool" in part.shapes
        ),
    )


def _vecsetx(part: CachePart) -> Iterator[AnyFamily]:
    codes = label_codes(tuple(HEART_10))
    for where, tag in (("surface", "surface"), ("volume", "vol"), ("near", "near")):
        if f"{tag}_points" in part.shapes:
            yield sample_family(where, part.shapes[f"{tag}_points"][0], codes, counted=where != "volume")
