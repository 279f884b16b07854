"""From a recipe to the schema of its store. Array names are those of the caches that the recipes stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shapestore.errors import Problem, RecipeInvalid
from shapestore.schemas.array import ArraySpec, Code
from shapestore.schemas.cache_schema import cache_families
from shapestore.schemas.families import (
    AnyFamily,
    LabelCounts,
    LabelGrid,
    Labels,
    OccupancyGrid,
    Points,
    QueryPool,
    RayPool,
    SdfGrid,
    UdfGrid,
)
from shapestore.schemas.recipe import LabelsPart, PointsPart, QueriesPart, RaysPart, Recipe
from shapestore.schemas.specs import (
    distance_spec,
    grid_spec,
    label_codes,
    label_grid_spec,
    mesh_facts,
    occupancy_spec,
    order_family,
    points_spec,
    ray_returns,
    sample_family,
    sign_facts,
)
from shapestore.schemas.store_schema import StoreSchema

MASK_CODES = (Code(value=-1, name="background"), Code(value=1, name="object"))
"""Background is -1, as in the ScanObjectNN files."""


def schema_of(recipe: Recipe) -> StoreSchema:
    """All arrays that `recipe` makes.

    Raises
    ------
    RecipeInvalid
        `storage` names an array that the recipe does not make.
    """
    families = _families(recipe) if recipe.cache is None else cache_families(recipe.cache)
    schema = StoreSchema(families=tuple(families))
    unknown = sorted(recipe.storage.keys() - schema.by_name.keys())
    if unknown:
        known = ", ".join(schema.by_name)
        raise RecipeInvalid(
            "recipe", [Problem(f"storage.{name}", f"one of {known}", "an unknown name") for name in unknown]
        )
    return _stored_as(schema, recipe)


def _stored_as(schema: StoreSchema, recipe: Recipe) -> StoreSchema:
    """The schema with the kinds that `storage` asks for."""
    if not recipe.storage:
        return schema

    def change(node: Any) -> Any:
        if isinstance(node, dict):
            changed = {key: change(value) for key, value in node.items()}
            if "long_name" in changed and changed["name"] in recipe.storage:
                changed["kind"] = recipe.storage[changed["name"]]
            return changed
        return [change(item) for item in node] if isinstance(node, list) else node

    return StoreSchema.model_validate(change(schema.model_dump(mode="json")))


def _families(recipe: Recipe) -> Iterator[AnyFamily]:
    if recipe.points is not None:
        yield from _points(recipe.points)
    if recipe.queries is not None:
        yield from _queries(recipe.queries)
    if recipe.grid is not None:
        yield UdfGrid(grid=grid_spec("udf_grid", recipe.grid.size))
        if recipe.grid.signed:
            yield SdfGrid(grid=grid_spec("sdf_grid", recipe.grid.size, signed=True))
        if recipe.grid.occupancy:
            yield OccupancyGrid(grid=occupancy_spec("occ_grid", recipe.grid.size, "cells that pc_xyz occupies"))
        if recipe.grid.solid:
            what = "cells whose centre is inside the shape"
            yield OccupancyGrid(grid=occupancy_spec("solid_grid", recipe.grid.size, what))
    if recipe.rays is not None:
        yield _rays(recipe.rays)
    if recipe.labels is not None:
        yield from _label_samples(recipe, recipe.labels)
    if recipe.mesh_only:
        yield mesh_facts()
    if recipe.needs_sign:
        yield sign_facts()


def _points(part: PointsPart) -> Iterator[AnyFamily]:
    normals = points_spec("pc_n", part.count, "points", "unit normals of pc_xyz") if part.normals else None
    yield Points(points=points_spec("pc_xyz", part.count, "points", "surface points"), normals=normals)
    if part.mask:
        yield Labels(
            labels=ArraySpec(
                name="pc_mask",
                dims=("pc_point",),
                shape=(part.count,),
                dtype="int8",
                long_name="object or background",
                role="labels",
                pool="pc_xyz",
                codes=MASK_CODES,
            )
        )
    if part.fps_order:
        yield order_family("pc_fps_order", "pc_xyz", part.count, part.fps_order)


def _queries(part: QueriesPart) -> Iterator[AnyFamily]:
    measured = {"surface": "the surface", "sampled": f"{part.reference_points} surface samples", "cloud": "the cloud"}
    distances = [distance_spec("pt_dist_pool", part.count, f"unsigned distance to {measured[part.distance]}")]
    if part.cloud_distance:
        distances.append(distance_spec("pt_dist_pc_pool", part.count, "distance to the nearest of pc_xyz"))
    if part.grid_distance:
        distances.append(distance_spec("pt_dist_udf_pool", part.count, "distance read from udf_grid, trilinear"))
    signed = distance_spec("pt_sdf_pool", part.count, "signed distance to the surface, negative inside")
    yield QueryPool(
        points=points_spec("pt_xyz_pool", part.count, "query_pool", "query positions"),
        distances=tuple(distances),
        signed=signed if part.signed else None,
    )
    if part.fps_order:
        yield order_family("pt_fps_order", "pt_xyz_pool", part.count, part.fps_order)


def _rays(part: RaysPart) -> RayPool:
    returns = [ray_returns("", part.count, "the mesh")] if part.mesh else []
    if part.cloud:
        returns.append(ray_returns("_pc", part.count, "the cells that pc_xyz occupies"))
    return RayPool(
        origins=points_spec("ray_o_pool", part.count, "ray_pool", "ray origins, outside the cube"),
        directions=points_spec("ray_d_pool", part.count, "ray_pool", "unit ray directions"),
        returns=tuple(returns),
    )


def _label_samples(recipe: Recipe, labels: LabelsPart) -> Iterator[AnyFamily]:
    codes = label_codes(labels.names)
    yield LabelCounts(
        counts=ArraySpec(
            name="class_voxels",
            dims=("class",),
            shape=(len(labels.names),),
            dtype="int32",
            long_name="voxels of each class in the raw label map",
            role="label_counts",
            comment="classes in order: " + ", ".join(labels.names),
        )
    )
    if labels.grid:
        yield LabelGrid(grid=label_grid_spec("label_grid", labels.grid, codes))
    if recipe.surface is not None:
        yield sample_family("surface", recipe.surface.count, codes)
    if recipe.volume is not None:
        yield sample_family("volume", recipe.volume.count, codes)
    if recipe.near is not None:
        yield sample_family("near", recipe.near.count, codes)
