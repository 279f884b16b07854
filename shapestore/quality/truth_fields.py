"""Which stored values a raw file can confirm, and a sample of them from every row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shapestore.quality.check import Array, Batch, chosen, families, filled
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import LabelGrid, Points, QueryPool, RayPool, SdfGrid, SdfSamples, UdfGrid

Floats = NDArray[np.float64]

PROBES: Final = 1000
"""Positions of an array and row that are looked at: of a fault in 1 % of them, 10 are among these."""


@dataclass(frozen=True)
class Probes:
    """What is stored at k positions of every row of a batch."""

    arrays: tuple[str, ...]
    """The array that is judged first, then what belongs to it."""
    points: Floats
    """(n, k, 3) normalised positions; NaN where a row has fewer."""
    values: Floats | None = None
    """(n, k) distances, normalised units; None where only labels are stored."""
    signed: bool = False
    """Whether distances are negative inside."""
    labels: Array | None = None
    """(n, k) class codes."""
    on_surface: bool = False
    """Whether the positions lie on the surface (of the class that the label names)."""
    cloud: Array | None = None
    """(n, m, 3) points to which distances are; None: to the raw surface."""

    @property
    def name(self) -> str:
        """The array that is judged."""
        return self.arrays[0]

    def of(self, row: int) -> Probed:
        """The positions of one row that hold something, and finite numbers: of others, `schema` tells."""
        points = self.points[row]
        values = np.zeros(len(points)) if self.values is None else self.values[row]
        held = np.isfinite(points).all(axis=1) & np.isfinite(values)
        return Probed(points[held], values[held], None if self.labels is None else self.labels[row][held])


class Probed(NamedTuple):
    """What is stored at some positions of one row."""

    points: Floats
    """(k, 3) normalised positions."""
    values: Floats
    """(k,) distances; 0 where only labels are stored."""
    labels: Array | None
    """(k,) class codes."""


def probes(batch: Batch) -> Iterator[Probes]:
    """A sample of everything that the raw files can confirm.

    Left out are distances to samples of a surface and to occupied cells, and those read from a grid; and all of an
    adopted cache, whose raw files hold the same arrays.
    """
    schema, recipe = batch.schema, batch.recipe
    if recipe.cache is not None:
        return
    for points in families(schema, Points):
        yield _on_surface(batch, points.points)
    for rays in families(schema, RayPool):
        if recipe.rays is not None and recipe.rays.mesh:
            yield _hits(batch, rays)
    for pool in families(schema, QueryPool):
        yield from _queries(batch, pool)
    for udf in families(schema, UdfGrid):
        if recipe.grid is not None and recipe.grid.udf == "surface":
            centres, values = _cells(batch, udf.grid)
            yield Probes((udf.grid.name,), centres, values.astype(np.float64))
    for sdf in families(schema, SdfGrid):
        centres, values = _cells(batch, sdf.grid)
        yield Probes((sdf.grid.name,), centres, values.astype(np.float64), signed=True)
    for grid in families(schema, LabelGrid):
        centres, codes = _cells(batch, grid.grid)
        yield Probes((grid.grid.name,), centres, labels=codes)
    for samples in families(schema, SdfSamples):
        if samples.sdf is not None:
            yield _samples(batch, samples, samples.sdf)
    yield from surface_probes(batch, PROBES)


def surface_probes(batch: Batch, most: int) -> Iterator[Probes]:
    """At most that many points of every array of points on class surfaces."""
    for samples in families(batch.schema, SdfSamples):
        if samples.sdf is None:
            yield _on_surface(batch, samples.points, samples.labels, samples.count, most)


def _on_surface(
    batch: Batch, points: ArraySpec, labels: ArraySpec | None = None, count: ArraySpec | None = None, most: int = PROBES
) -> Probes:
    at = chosen(batch.index["seed"], points.shape[0], most)
    found = _points(batch, points, count, at)
    codes = _taken(batch, labels.name, at) if labels is not None else None
    names = tuple(spec.name for spec in (points, labels) if spec is not None)
    return Probes(names, found, np.zeros(found.shape[:2]), labels=codes, on_surface=True)


def _hits(batch: Batch, rays: RayPool) -> Probes:
    """Where rays hit the mesh, which is what they are asked first."""
    returns = rays.returns[0]
    at = chosen(batch.index["seed"], rays.origins.shape[0], PROBES)
    names = (returns.depth.name, rays.origins.name, rays.directions.name, returns.hit.name)
    depth, origins, directions, hit = (_taken(batch, name, at).astype(np.float64) for name in names)
    points = origins + depth[..., None] * directions
    points[hit == 0] = np.nan
    return Probes(names, points, np.zeros(depth.shape), on_surface=True)


def _queries(batch: Batch, pool: QueryPool) -> Iterator[Probes]:
    part = batch.recipe.queries
    if part is None or part.distance == "sampled" or not pool.distances:
        return
    exact = pool.distances[0]
    at = chosen(batch.index["seed"], pool.points.shape[0], PROBES)
    points = _points(batch, pool.points, None, at)
    of_cloud = part.distance == "cloud"
    cloud = batch.arrays[families(batch.schema, Points)[0].points.name] if of_cloud else None
    yield Probes((exact.name, pool.points.name), points, _taken(batch, exact.name, at).astype(np.float64), cloud=cloud)
    if pool.signed is not None:
        values = _taken(batch, pool.signed.name, at).astype(np.float64)
        yield Probes((pool.signed.name, pool.points.name), points, values, signed=True)


def _samples(batch: Batch, samples: SdfSamples, sdf: ArraySpec) -> Probes:
    at = chosen(batch.index["seed"], samples.points.shape[0], PROBES)
    points = _points(batch, samples.points, samples.count, at)
    codes = _taken(batch, samples.labels.name, at) if samples.labels is not None else None
    names = (sdf.name, samples.points.name, *([samples.labels.name] if samples.labels is not None else []))
    return Probes(names, points, _taken(batch, sdf.name, at).astype(np.float64), signed=True, labels=codes)


def _cells(batch: Batch, grid: ArraySpec) -> tuple[Floats, Array]:
    """Positions of some cells, whose centres are at -1 + (i + 0.5) * 2 / G, and their values."""
    shape = grid.shape
    at = chosen(batch.index["seed"], int(np.prod(shape)), PROBES)
    cells = np.stack(np.unravel_index(at, shape), axis=-1)
    values = np.asarray(batch.arrays[grid.name]).reshape(len(batch), -1)
    return -1 + (cells + 0.5) * (2 / np.array(shape)), np.take_along_axis(values, at, axis=1)


def _points(batch: Batch, points: ArraySpec, count: ArraySpec | None, at: NDArray[np.int64]) -> Floats:
    """(n, k, 3) positions, NaN where the row has fewer."""
    found = _taken(batch, points.name, at).astype(np.float64)
    found[~np.take_along_axis(filled(points, count, batch), at, axis=1)] = np.nan
    return found


def _taken(batch: Batch, name: str, at: NDArray[np.int64]) -> Array:
    """Entries of each row at its own positions."""
    values = np.asarray(batch.arrays[name])
    return values[np.arange(len(values))[:, None], at]
