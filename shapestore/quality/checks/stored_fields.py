"""The distance fields that a store holds and the surface that they belong to, as `field-laws` looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from shapestore.preprocess.geometry.trilinear import trilinear
from shapestore.quality.check import Array, Batch, chosen, families, filled
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import Points, QueryPool, SdfSamples

Floats = NDArray[np.float64]

PROBED: Final = 1 / 40
"""Share of the positions of a row that are looked at, and at least `PROBES`: 500 of a pool of 20 000."""
PROBES: Final = 500
CROWD: Final = 4
"""Times as many positions among which inside and outside are held against each other."""
EDT_SLOPE: Final = 2.0
"""Slope at the surface of distances between voxel centres, which a recipe may ask for."""


@dataclass(frozen=True)
class Surface:
    """Stored points of the surface, of n rows."""

    name: str
    trees: tuple[cKDTree, ...]
    """Of each row."""
    spacings: tuple[float, ...]
    """Root mean square distance to the nearest other point, of each row."""


@dataclass(frozen=True)
class Samples:
    """A distance field at positions."""

    names: tuple[str, ...]
    """Its arrays; the first is the one to blame."""
    points: Array
    """(n, k, 3)."""
    values: Array
    """(n, k)."""
    held: NDArray[np.bool_]
    """(n, k) which of them are there."""
    signed: bool
    closed: bool = True
    """Whether the sign changes at the surface only."""
    steepest: float = 1.0
    """Slope that the recipe asks for."""
    blur: float = 0.0
    """Spacings by which the surface that was measured may be off the stored one."""


def sampled_fields(batch: Batch, spacing: float) -> Iterator[Samples]:
    """Every field that is sampled at positions; volume and near samples are of one, which `distance` defines.

    Parameters
    ----------
    batch
        The rows.
    spacing
        Spacings of surface points by which fields that are not exact may be off the stored surface.
    """
    recipe = batch.recipe
    parts = [(each, each.sdf) for each in families(batch.schema, SdfSamples) if each.sdf is not None]
    if parts:
        yield Samples(
            tuple(sdf.name for _, sdf in parts),
            np.concatenate([batch.arrays[each.points.name] for each, _ in parts], axis=1),
            np.concatenate([batch.arrays[sdf.name] for _, sdf in parts], axis=1),
            np.concatenate([filled(each.points, each.count, batch) for each, _ in parts], axis=1),
            signed=True,
            steepest=EDT_SLOPE if recipe.labels is not None and recipe.labels.distance == "edt" else 1.0,
        )
    for pool in families(batch.schema, QueryPool):
        if not pool.distances or is_to_cloud(pool.distances[0], ""):
            continue
        spec = pool.signed or pool.distances[0]  # of one magnitude, by a rule of the schema
        exact = recipe.queries is not None and recipe.queries.distance == "surface"
        yield Samples(
            (spec.name, pool.points.name),
            np.asarray(batch.arrays[pool.points.name]),
            np.asarray(batch.arrays[spec.name]),
            np.ones((len(batch), *spec.shape), bool),
            signed=pool.signed is not None,
            closed=pool.signed is None,
            blur=0.0 if exact else spacing,
        )


def is_to_cloud(spec: ArraySpec, cloud: str) -> bool:
    """Whether distances are those to the stored points, as their description says."""
    return spec.long_name.endswith(("to the cloud", f"nearest of {cloud}"))


def stored_surface(batch: Batch) -> Surface | None:
    """The stored points of the surface: a cloud, or surface samples."""
    clouds = [(each.points, None) for each in families(batch.schema, Points)]
    samples = [(each.points, each.count) for each in families(batch.schema, SdfSamples) if each.where == "surface"]
    for spec, count in [*clouds, *samples][:1]:
        trees, spacings, probes = [], [], places(batch, spec.shape[0])
        for row, held in enumerate(filled(spec, count, batch)):
            points = batch.arrays[spec.name][row].astype(np.float64)
            held &= np.isfinite(points[held]).all()  # the nearest point may be the one that is lost
            tree = cKDTree(points[held], balanced_tree=False, compact_nodes=False)
            some = points[probes[row][held[probes[row]]]]
            trees.append(tree)
            spacings.append(float(np.sqrt(np.mean(tree.query(some, [2])[0] ** 2))) if len(some) else np.inf)
        return Surface(spec.name, tuple(trees), tuple(spacings))
    return None


def to_points(surface: Surface, points: Floats) -> Floats:
    """(n, k) distance of each row's positions to its stored points; NaN at a NaN, and where there are no points."""
    away = [tree.query(at)[0] for tree, at in zip(surface.trees, np.nan_to_num(points), strict=True)]
    return finite(np.where(np.isnan(points).any(axis=-1), np.nan, np.array(away)))


def values_at(spec: ArraySpec, batch: Batch, points: Floats) -> Floats:
    """(n, k) values of each row's grid at (n, k, 3) positions; NaN at a NaN."""
    grids = batch.arrays[spec.name]
    read = [trilinear(grid, at) for grid, at in zip(grids, np.nan_to_num(points), strict=True)]
    return finite(np.where(np.isnan(points).any(axis=-1), np.nan, read))


def entries(batch: Batch, spec: ArraySpec, probes: NDArray[np.int64]) -> Floats:
    """(n, q, ...) those entries of an array."""
    return finite(np.asarray(batch.arrays[spec.name])[np.arange(len(batch))[:, None], probes])


def places(batch: Batch, size: int, times: int = 1) -> NDArray[np.int64]:
    """(n, q) positions to look at, of `size`."""
    return chosen(batch.index["seed"], size, times * max(PROBES, round(PROBED * size)))


def finite(values: Array) -> Floats:
    """The values in float64, NaN for what is infinite: such rows have no measure, and break a rule of the schema."""
    wide = values.astype(np.float64)
    return np.where(np.isfinite(wide), wide, np.nan)
