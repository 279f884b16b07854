"""From a mesh or a cloud to the arrays of a recipe: points, queries, grids, rays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.distance import cloud_distance, sampled_surface_distance, surface_distance
from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.preprocess.geometry.grid import (
    cloud_udf_grid,
    edt_udf_grid,
    occupancy_grid,
    surface_udf_grid,
)
from shapestore.preprocess.geometry.hygiene import MeshReport, clean
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame, box_frame, mean_frame
from shapestore.preprocess.geometry.queries import query_pool
from shapestore.preprocess.geometry.rays import RayHits, camera_rays, cloud_hits, mesh_hits
from shapestore.preprocess.geometry.sample import sample_surface
from shapestore.preprocess.geometry.sign import Inside
from shapestore.preprocess.geometry.trilinear import trilinear
from shapestore.preprocess.raw import RawCloud, RawMesh
from shapestore.preprocess.records.computed import Computed
from shapestore.schemas.recipe import GridPart, PointsPart, QueriesPart, RaysPart, Recipe
from shapestore.schemas.seeding import generator, row_seed
from shapestore.schemas.specs import SIGN_METHODS

Arrays = dict[str, NDArray[Any]]

_METHOD_CODES = {code.name: code.value for code in SIGN_METHODS}


def from_mesh(raw: RawMesh, recipe: Recipe, seed: int) -> Computed:
    """Clean, normalise (box centre, unit sphere) and sample a mesh, then compute what the recipe asks for."""
    cleaned, report = clean(raw.mesh)
    frame = box_frame(cleaned.vertices)
    mesh = Mesh(frame.apply(cleaned.vertices), cleaned.faces)
    part = _points_part(recipe)
    samples = sample_surface(mesh, part.count, generator(seed, "points"), part.blue_noise)
    arrays: Arrays = {"pc_xyz": samples.points.astype(np.float32)}
    if part.normals:
        arrays["pc_n"] = samples.normals.astype(np.float32)
    _Shape(arrays, seed, samples.normals, mesh).compute(recipe)
    if recipe.mesh_only:
        return Computed(arrays | _facts(report), frame, raw.notes)
    return Computed(arrays, frame, (*raw.notes, _remark(report)))


def from_cloud(raw: RawCloud, recipe: Recipe, seed: int) -> Computed:
    """Normalise (mean, unit sphere) a cloud and draw from it, then compute what the recipe asks for."""
    part = _points_part(recipe)
    if not np.isfinite(raw.points).all():
        raise InputRefused(Reason.NOT_FINITE, f"{np.count_nonzero(~np.isfinite(raw.points))} coordinates")
    if len(raw.points) < part.count:
        raise InputRefused(Reason.TOO_FEW_POINTS, f"{len(raw.points)} points where the recipe takes {part.count}")
    chosen = np.arange(len(raw.points))
    if len(chosen) > part.count:
        chosen = np.sort(generator(seed, "points").permutation(len(chosen))[: part.count])
    frame = mean_frame(raw.points)
    arrays: Arrays = {"pc_xyz": frame.apply(raw.points[chosen]).astype(np.float32)}
    normals = None
    if part.normals:
        normals = _unit_normals(raw, chosen)
        arrays["pc_n"] = normals.astype(np.float32)
    if part.mask:
        if raw.mask is None:
            raise InputRefused(Reason.MALFORMED, "the recipe keeps the background mask, and the file has none")
        arrays["pc_mask"] = raw.mask[chosen]
    _Shape(arrays, seed, normals, None).compute(recipe)
    return Computed(arrays, frame, raw.notes)


@dataclass
class _Shape:
    """The arrays of one shape while they are computed; every random draw has a stream of its own."""

    arrays: Arrays
    seed: int
    normals: NDArray[np.float64] | None
    mesh_or_none: Mesh | None

    def compute(self, recipe: Recipe) -> None:
        """Add everything but the points themselves."""
        part = _points_part(recipe)
        if part.fps_order:
            self.arrays["pc_fps_order"] = farthest_point_order(self.cloud, part.fps_order)
        if recipe.grid is not None:
            self._grid(recipe.grid)
        if recipe.queries is not None:
            self._queries(recipe.queries)
        if recipe.rays is not None:
            self._rays(recipe.rays, recipe.grid)
        if recipe.needs_sign:
            self.arrays["sign_method"] = np.array(_METHOD_CODES[self.inside.method], np.uint8)
            self.arrays["sign_confidence"] = np.array(self.inside.confidence, np.float32)

    @property
    def cloud(self) -> NDArray[np.float32]:
        return self.arrays["pc_xyz"]

    @cached_property
    def mesh(self) -> Mesh:
        assert self.mesh_or_none is not None, "the recipe was checked to need no mesh"  # noqa: S101
        return self.mesh_or_none

    @cached_property
    def inside(self) -> Inside:
        return Inside(self.mesh, row_seed(self.seed, "sign"))

    def _grid(self, part: GridPart) -> None:
        if part.udf == "surface":
            self.arrays["udf_grid"] = surface_udf_grid(self.mesh, part.size)
        elif part.udf == "cloud":
            self.arrays["udf_grid"] = cloud_udf_grid(self.cloud, part.size)
        else:
            self.arrays["udf_grid"] = edt_udf_grid(self.cloud, part.size, part.dilate)
        if part.occupancy:
            self.arrays["occ_grid"] = occupancy_grid(self.cloud, part.size, part.dilate)
        if part.signed or part.solid:
            inside = self.inside.grid(part.size)
            if part.signed:
                udf = self.arrays["udf_grid"] if part.udf == "surface" else surface_udf_grid(self.mesh, part.size)
                self.arrays["sdf_grid"] = np.where(inside, -udf, udf)
            if part.solid:
                self.arrays["solid_grid"] = inside.astype(np.uint8)

    def _queries(self, part: QueriesPart) -> None:
        rng = generator(self.seed, "queries")
        pool = query_pool(self.cloud, part.count, part.near_ratio, part.sigma, rng, part.order == "shuffled")
        self.arrays["pt_xyz_pool"] = pool
        if part.distance == "surface":
            distance = surface_distance(self.mesh, pool)
        elif part.distance == "cloud":
            distance = cloud_distance(self.cloud, pool)
        else:
            rng = generator(self.seed, "reference points")
            distance = sampled_surface_distance(self.mesh, pool, max(part.reference_points, len(self.cloud)), rng)
        self.arrays["pt_dist_pool"] = distance
        if part.signed:
            self.arrays["pt_sdf_pool"] = np.where(self.inside.contains(pool), -distance, distance)
        if part.cloud_distance:
            self.arrays["pt_dist_pc_pool"] = cloud_distance(self.cloud, pool)
        if part.grid_distance:
            self.arrays["pt_dist_udf_pool"] = trilinear(self.arrays["udf_grid"], pool)
        if part.fps_order:
            self.arrays["pt_fps_order"] = farthest_point_order(pool, part.fps_order)

    def _rays(self, part: RaysPart, grid: GridPart | None) -> None:
        rng = generator(self.seed, "rays")
        elevation = float(np.deg2rad(part.elevation))
        origins, directions = camera_rays(
            part.views, part.rays_per_view, part.count, part.radius, elevation, part.field_of_view, rng
        )
        self.arrays |= {"ray_o_pool": origins, "ray_d_pool": directions}
        if part.mesh:
            self._hits("", mesh_hits(self.mesh, origins, directions))
        if part.cloud and grid is not None:
            cells = occupancy_grid(self.cloud, grid.size, grid.dilate)
            self._hits("_pc", cloud_hits(self.cloud, self.normals, cells, origins, directions))

    def _hits(self, tag: str, hits: RayHits) -> None:
        self.arrays |= {f"ray_hit{tag}_pool": hits.hit, f"ray_t{tag}_pool": hits.t, f"ray_n{tag}_pool": hits.normal}


def _facts(report: MeshReport) -> Arrays:
    """What the mesh is like, as arrays."""
    counts = {
        "mesh_vertices": report.vertices,
        "mesh_faces": report.faces,
        "mesh_components": report.components,
        "mesh_dropped_faces": report.dropped_faces,
        "mesh_duplicate_faces": report.duplicate_faces,
    }
    flags = {"mesh_watertight": report.watertight, "mesh_winding_consistent": report.winding_consistent}
    return {
        **{name: np.array(value, np.int32) for name, value in counts.items()},
        **{name: np.array(value, np.uint8) for name, value in flags.items()},
        "mesh_volume": np.array(report.volume, np.float64),
    }


def _remark(report: MeshReport) -> str:
    """What the mesh is like, on one line: for stores that hold clouds too, which have no such arrays."""
    closed = "watertight" if report.watertight else "not watertight"
    winding = "consistent" if report.winding_consistent else "inconsistent"
    return (
        f"mesh: {report.faces} faces in {report.components} components, {closed}, winding {winding}, "
        f"volume {report.volume:.6g}, {report.duplicate_faces} repeated and {report.dropped_faces} empty faces"
    )


def _points_part(recipe: Recipe) -> PointsPart:
    assert recipe.points is not None, "recipes for meshes and clouds have points"  # noqa: S101
    return recipe.points


def _unit_normals(raw: RawCloud, chosen: NDArray[np.int64]) -> NDArray[np.float64]:
    if raw.normals is None:
        raise InputRefused(Reason.MALFORMED, "no normals in the file; leave them out with --set points.normals=false")
    normals = raw.normals[chosen]
    with np.errstate(over="ignore"):  # an infinite length is refused
        lengths = np.linalg.norm(normals, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and lengths.min() > 0):
        raise InputRefused(Reason.NOT_FINITE, "a normal is zero or not finite")
    return np.asarray(normals / lengths)


def frame_values(frame: Frame) -> tuple[tuple[float, float, float], float]:
    """Shift and scale as plain numbers."""
    x, y, z = (float(value) for value in frame.shift)
    return (x, y, z), float(frame.scale)
