"""rays: hits lie on the surface, misses hold nothing, normals are those of the surface."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy.spatial import cKDTree

from shapestore.preprocess.geometry.trilinear import trilinear
from shapestore.quality.check import Array, Batch, Check, Measure, Settings, chosen, families, needs
from shapestore.quality.finding import Severity
from shapestore.schemas.families import OccupancyGrid, Points, RayPool, RayReturns, UdfGrid

REMEDY = "Trace the rays again, through the shape of this row and in its normalised frame."

NEIGHBOURS = 16
"""Surface points beside a hit that may be on its face."""

WITNESSES = 4
"""Surface points on the face of a hit that it takes to call its normal wrong: of a face that is stored in both
windings, each has either normal, and one such hit in 2^4 meets four of the other."""

TANGENT = 0.1
"""A surface point is on the face of a hit where the way between them rises at most this much from its plane."""

SAME_NORMAL = 0.5
"""Cosine of normals that are taken for the same: within 60 degrees."""


FEWEST = 64
"""Hits that it takes to speak of a share: of a sound shape one in twenty may have another face's normal, and of ten
hits then two."""


class _Settings(Settings):
    """Bounds of what rays return.

    Figures: 66 sound meshes, 29 of them real; 60 of ten solids, clean, doubled, wound at random or inside out, and with
    holes; 8 rows of a cache of exact surfaces.
    """

    hits: PositiveInt = 256
    """Hits of a row that are compared with the surface; rays of another shape are seen by a tenth of them."""
    off_grid: float = Field(1.0, gt=0)
    """Largest `udf_grid`, in cells, at a hit on the mesh. A distance grows no faster than one moves away, so that the
    eight cells around a point of the surface average to at most sqrt(3) / 2 = 0.87; measured: 0.60."""
    spacings: float = Field(2.0, gt=1)
    """Where no exact grid is stored: the 0.9 quantile of the distance from hits to the nearest surface point, as a
    multiple of that from surface points to one another, which is 1 if both lie anywhere on one surface. Measured: 0.88
    to 1.23."""
    same_normal: float = Field(0.9, ge=0, le=1)
    """Least share of hits whose normal is that of a surface point on the same face. Measured: 0.94 to 1, half of all
    above 0.998. With one axis flipped 0.07 to 1, half of all below 0.8: what a shape has no faces across is no loss."""
    facing: float = Field(0.05, ge=0, le=1)
    """Least share of hits whose normal faces the ray, as a warning. Measured: 1 on closed, outward meshes, 0.44 on a
    single sheet, 0.11 where one of two solids is inverted; 0 on a mesh that is wound inside out."""


@dataclass(frozen=True)
class _Hits:
    """Some hits of one row, and the surface points of that row."""

    row: int
    """Position in the batch."""
    points: NDArray[np.float64]
    """(k, 3) where rays hit, k >= 1."""
    normals: Array | None
    """(k, 3) at the hits."""
    surface: NDArray[np.float64]
    """(m, 3) surface points."""
    surface_normals: Array | None
    """(m, 3) at the surface points."""
    tree: cKDTree
    """Of the surface points."""


@dataclass(frozen=True)
class _Gap:
    """How far hits are from the surface, by the most exact of what the store knows of it."""

    name: str
    of: Callable[[_Hits], float]
    high: float
    unit: str


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    for pool in families(batch.schema, RayPool):
        for part in pool.returns:
            yield from _plain(batch, pool, part, settings)
            for surface in families(batch.schema, Points)[:1]:
                yield from _on_surface(batch, pool, part, surface, settings)


def _plain(batch: Batch, pool: RayPool, part: RayReturns, settings: _Settings) -> Iterator[Measure]:
    """What can be said of the rays alone, of all of them."""
    name, arrays = part.hit.name, tuple(spec.name for spec in part.arrays())
    hit = np.asarray(batch.arrays[name]) != 0
    least = 0.5 / hit.shape[1]  # one ray, whatever their number
    yield Measure(f"share of {name} that hits", hit.mean(axis=1), least, 1 - least, arrays=arrays, remedy=REMEDY)
    held = np.asarray(batch.arrays[part.depth.name]) != 0
    if part.normals is not None:
        normals = np.asarray(batch.arrays[part.normals.name])
        held |= normals.any(axis=2)
        facing = np.einsum("nki,nki->nk", normals, np.asarray(batch.arrays[pool.directions.name])) < 0
        yield Measure(
            name=f"share of hits in {part.normals.name} with a normal that faces the ray",
            values=_share(facing & hit, hit),
            # A cell has the normal of a point near it, which may be one of the far side.
            low=-math.inf if _is_of_cells(part) else settings.facing,
            arrays=(part.normals.name,),
            remedy="The mesh is wound inside out: turn its faces, or use the normals without their sign.",
            severity="warning",
        )
    yield Measure(
        name=f"share of misses of {name} with a depth or a normal",
        values=_share(held & ~hit, ~hit),
        high=0,
        arrays=arrays,
        remedy="Write zeros where a ray misses.",
        severity=_severity(batch),
    )


def _on_surface(
    batch: Batch, pool: RayPool, part: RayReturns, surface: Points, settings: _Settings
) -> Iterator[Measure]:
    """Where hits lie, and what their normals are, by what is stored of the surface."""
    gap = _gap(batch, part, settings)
    neighbours = 1 if _is_of_cells(part) else NEIGHBOURS
    distance, same = np.full((2, len(batch)), np.nan)
    for hits in _some_hits(batch, pool, part, surface, settings.hits):
        if gap is not None:
            distance[hits.row] = gap.of(hits)
        if hits.normals is not None and hits.surface_normals is not None:
            same[hits.row] = _share_of_same_normal(hits.normals, hits.surface_normals, hits, neighbours)
    if gap is not None:
        arrays = (part.depth.name, part.hit.name, pool.origins.name, pool.directions.name, surface.points.name)
        yield Measure(
            gap.name, distance, high=gap.high, unit=gap.unit, arrays=arrays, remedy=REMEDY, severity=_severity(batch)
        )
    if part.normals is not None and surface.normals is not None:
        yield Measure(
            name=f"share of hits in {part.normals.name} with a normal of the surface",
            values=same,
            low=settings.same_normal,
            arrays=(part.normals.name, surface.normals.name),
            remedy=REMEDY,
            severity=_severity(batch),
        )


def _some_hits(batch: Batch, pool: RayPool, part: RayReturns, surface: Points, count: int) -> Iterator[_Hits]:
    """Hits of every row that has some, all its numbers finite; the schema's rules tell of the others."""
    origins, directions = (np.asarray(batch.arrays[spec.name]) for spec in (pool.origins, pool.directions))
    hit, depth = (np.asarray(batch.arrays[spec.name]) for spec in (part.hit, part.depth))
    normals = None if part.normals is None else np.asarray(batch.arrays[part.normals.name])
    clouds = np.asarray(batch.arrays[surface.points.name], np.float64)
    cloud_normals = None if surface.normals is None else np.asarray(batch.arrays[surface.normals.name])
    for row in range(len(batch)):
        rays = np.flatnonzero(hit[row])
        rays = rays[chosen(batch.index["seed"][row : row + 1], len(rays), count)[0]]
        with np.errstate(invalid="ignore"):
            points = origins[row, rays] + depth[row, rays, None].astype(np.float64) * directions[row, rays]
        if len(rays) and np.isfinite(points).all() and np.isfinite(clouds[row]).all():
            yield _Hits(
                row,
                points,
                None if normals is None else normals[row, rays],
                clouds[row],
                None if cloud_normals is None else cloud_normals[row],
                cKDTree(clouds[row]),
            )


def _gap(batch: Batch, part: RayReturns, settings: _Settings) -> _Gap | None:
    """What to measure of hits; None for those on cells where no cells are known."""
    name, grid = part.depth.name, batch.recipe.grid
    if _is_of_cells(part):
        return _gap_to_cells(batch, name)
    if grid is None or grid.udf != "surface":
        what = f"distance of hits by {name} from the surface points"
        return _Gap(what, _in_spacings, settings.spacings, "times that of those points from one another")
    udf = families(batch.schema, UdfGrid)[0].grid.name
    fields, cells = np.asarray(batch.arrays[udf]), grid.size / 2

    def read(hits: _Hits) -> float:
        return float(trilinear(fields[hits.row], hits.points).max()) * cells

    return _Gap(f"largest {udf} at hits by {name}", read, settings.off_grid, "cells")


def _gap_to_cells(batch: Batch, name: str) -> _Gap | None:
    """Rays enter cells that are at most `dilate` steps from one with a point: two corners of such a pair are farthest.

    Of steps along different axes none makes the pair as long as all along one.
    """
    grid = batch.recipe.grid
    sizes = [family.grid.shape[0] for family in families(batch.schema, OccupancyGrid)]
    if grid is None and not sizes:
        return None
    cells = (sizes[0] if grid is None else grid.size) / 2
    dilate = 1 if grid is None else grid.dilate  # of the NEPA-3D caches

    def farthest(hits: _Hits) -> float:
        return float(np.max(hits.tree.query(hits.points)[0])) * cells

    high = math.sqrt((dilate + 1) ** 2 + 2) + 1e-3  # float32
    return _Gap(f"largest distance of hits by {name} from the nearest surface point", farthest, high, "cells")


def _in_spacings(hits: _Hits) -> float:
    """How far hits are from the surface points, as a multiple of how far those are from one another."""
    apart = np.quantile(hits.tree.query(hits.surface[: len(hits.points)], k=[2])[0], 0.9)  # the first is itself
    return float(np.quantile(hits.tree.query(hits.points)[0], 0.9) / apart) if apart > 0 else math.nan


def _share_of_same_normal(normals: Array, surface_normals: Array, hits: _Hits, neighbours: int) -> float:
    """Share of hits with the normal of one of the nearest surface points, of those that lie on the hit's own face.

    Hits without such a point are left out, and few hits say nothing. A face that is stored in both windings has points
    of both.
    """
    distance, nearest = hits.tree.query(hits.points, k=np.arange(1, min(neighbours, len(hits.surface)) + 1))
    there = surface_normals[nearest]
    rise = np.abs(np.einsum("kmi,kmi->km", hits.points[:, None] - hits.surface[nearest], there))
    own = (rise <= TANGENT * distance) | (neighbours == 1)
    cosine = np.where(own, np.einsum("kmi,ki->km", there, normals), -np.inf).max(axis=1)
    known = np.count_nonzero(own, axis=1) >= min(WITNESSES, neighbours)
    return float(np.mean(cosine[known] > SAME_NORMAL)) if np.count_nonzero(known) >= FEWEST else math.nan


def _is_of_cells(part: RayReturns) -> bool:
    """Whether rays enter the cells of the cloud: by the names of the NEPA-3D caches, which recipes keep."""
    return "_pc_" in part.hit.name


def _severity(batch: Batch) -> Severity | None:
    """Other programs may have traced caches by other conventions."""
    return None if batch.recipe.cache is None else "warning"


def _share(some: Array, of: Array) -> NDArray[np.float64]:
    """(n,) how much of `of` is in `some`, NaN where it is nothing."""
    total = np.count_nonzero(of, axis=1)
    return np.where(total > 0, np.count_nonzero(some, axis=1) / np.maximum(total, 1), np.nan)


CHECK = Check(
    name="rays",
    about=(
        "Rays hit some of the time, hits lie on the surface and have its normals, misses hold zeros: rays of another "
        "shape or frame, depths in raw units, flipped axes."
    ),
    severity="error",
    settings=_Settings,
    applies=needs(RayPool),
    measure=_measure,
)
