"""field-laws: what every distance field keeps, and how the fields of one shape go together.

A distance changes by no more than the way between two positions (it is 1-Lipschitz), and so does a signed one, whose
magnitudes add up across the surface. Near the surface its gradient has length 1. Points of the surface are at
distance 0, so no distance exceeds the one to a stored surface point, nor falls short of it by more than their spacing
explains. A grid, read trilinearly, differs from its field by no more than the way to the cells that are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from pydantic import Field
from scipy.spatial import cKDTree

from shapestore.quality.check import Array, Batch, Check, Measure, Settings, chosen, families, needs
from shapestore.quality.checks.stored_fields import (
    CROWD,
    PROBES,
    Floats,
    Samples,
    Surface,
    entries,
    finite,
    is_to_cloud,
    places,
    sampled_fields,
    stored_surface,
    to_points,
    values_at,
)
from shapestore.quality.finding import Severity
from shapestore.schemas.array import ArraySpec
from shapestore.schemas.families import Points, QueryPool, SdfGrid, SdfSamples, UdfGrid

NEIGHBOURS: Final = 8
"""Neighbours of a position: enough for a gradient, which has three components."""
STRAIGHT: Final = 0.05
"""Most residual of a linear fit, as a share of its rise over the reach, for a field that is straight there."""
FEWEST: Final = 20
"""Positions near the surface that make a slope."""
ROUNDING: Final = 2e-6
"""Rounding of float32 coordinates and distances of at most 2, with a margin of four."""
TOUCH: Final = 1e-4
"""How far the surfaces of two classes may overlap along their wall: each is cut out of the label map by itself."""
REMEDY: Final = "Compute the distances again, all of them from the surface that is stored."


class _Settings(Settings):
    """Bounds of what breaks a law. Exact fields break none; figures are of 29 real meshes and 13 label maps."""

    gate: bool = True
    """A field that is no distance teaches a wrong one, and a row takes a few milliseconds."""
    steep: float = Field(0.002, ge=0, le=1)
    """Most share of positions from which the field is steeper than 1 towards one of the eight nearest, or of cells to
    the next. Unsigned fields and those of label maps have 0, distances between voxel centres 0.54."""
    steep_open: float = Field(0.05, ge=0, le=1)
    """The same of signed fields of meshes, which may be open: their sign jumps in the hole. The worst mesh has 0.012;
    one flipped sign in a hundred makes 0.04 to 0.06, one in fifty 0.09 and more."""
    swallowed: float = Field(0.002, ge=0, le=1)
    """Most share of inside positions that have an outside one nearer than the surface between them. Label maps have 0;
    with an inside that is guessed by a ratio of depths it is 0.2 and more."""
    swallowed_open: float = Field(0.05, ge=0, le=1)
    """The same of meshes, which may be open. The worst mesh has 0.016."""
    slope_low: float = Field(0.8, gt=0, le=1)
    """Least slope near the surface. Exact fields have 0.92 and more, where samples are coarse for the shape; 0.98 and
    more at the counts of the recipes."""
    slope_high: float = Field(1.2, ge=1)
    """Largest slope near the surface. Exact fields have 1.02 at most, distances between voxel centres 1.7 to 2."""
    amiss: float = Field(0.02, ge=0, le=1)
    """Most share of positions that disagree with the stored surface, or with a grid. Exact fields have 0, the signed
    grid of the worst mesh, open, has 0.004; a field that is shifted by half a voxel has 0.35."""
    uncovered: float = Field(0.1, ge=0, le=1)
    """Most share of positions that are nearer to the surface than its stored points explain. Where the tip of a thin
    rod drew no point, all positions beyond it are: 0.03 at the leg of a table."""
    spacing: float = Field(5, gt=0)
    """How many times their spacing (root mean square of the way to the nearest other one) surface points may be farther
    from a position than the surface is. Of points drawn by area, the share of a wide surface that has none within 5
    spacings is exp(-25)."""


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    surface = stored_surface(batch)
    for samples in sampled_fields(batch, settings.spacing):
        yield from _laws(samples, surface, batch, settings)
    for pool in families(batch.schema, QueryPool):
        for spec in pool.distances:
            if surface is not None and is_to_cloud(spec, surface.name):
                yield _to_cloud(pool, spec, surface, batch)
    for grid in families(batch.schema, UdfGrid) + families(batch.schema, SdfGrid):
        yield from _grid_laws(grid, surface, batch, settings)


def _laws(samples: Samples, surface: Surface | None, batch: Batch, settings: _Settings) -> Iterator[Measure]:
    size = samples.values.shape[1]
    probes, crowd = places(batch, size), places(batch, size, CROWD)
    found = []
    for row, there in enumerate(samples.held):
        points, values = samples.points[row].astype(np.float64), samples.values[row].astype(np.float64)
        finite = np.isfinite(points)
        held = there & finite[:, 0] & finite[:, 1] & finite[:, 2] & np.isfinite(values)
        among, many = probes[row][held[probes[row]]], crowd[row][held[crowd[row]]]
        laws = _neighbourhood(samples, points, values, np.flatnonzero(held), among)
        hidden = _swallowed(points[many], values[many], samples.steepest) if samples.signed else np.nan
        near = _near(samples, surface, row, points[among], np.abs(values[among]), settings)
        found.append((*laws, hidden, *near))
    steep, slope, swallowed, far, short = np.array(found).reshape(-1, 5).T
    name, shown = samples.names[0], surface.name if surface is not None else "the surface"
    severity: Severity | None = "warning" if samples.steepest > 1 else None

    def measure(text: str, numbers: Floats, high: float, low: float = 0) -> Measure:
        return Measure(text, numbers, low, high, "", samples.names, REMEDY, severity)

    yield measure(
        f"share of {name} that is steeper than a distance",
        steep,
        settings.steep if samples.closed else settings.steep_open,
    )
    yield measure(f"slope of {name} near the surface", slope, settings.slope_high, settings.slope_low)
    if samples.signed:
        bound = settings.swallowed if samples.closed else settings.swallowed_open
        yield measure(f"share of the inside in {name} with an outside too near", swallowed, bound)
    if surface is not None:
        yield measure(f"share of {name} that is more than the way to {shown}", far, settings.amiss)
        yield measure(f"share of {name} that is less than the way to {shown}", short, settings.uncovered)


def _neighbourhood(samples: Samples, points: Floats, values: Floats, there: Array, among: Array) -> tuple[float, float]:
    """Share of positions with too steep a neighbour, and the median slope near the surface.

    A slope is the length of the gradient of a linear least-squares fit to a position and its neighbours, where that
    fits: not on edges of the field (in thin parts, opposite to corners), which flatten it. The surface passes through
    the neighbourhoods of a signed field, and beyond those of an unsigned one, which has an edge there.
    """
    if len(there) <= NEIGHBOURS or len(among) == 0:
        return np.nan, np.nan
    tree = cKDTree(points[there], balanced_tree=False, compact_nodes=False)
    found, order = tree.query(points[among], list(range(2, NEIGHBOURS + 2)))  # the first is the position itself
    away, nearest = np.asarray(found), there[order]
    way, rise = points[nearest] - points[among][:, None], values[nearest] - values[among][:, None]
    steep = np.mean((np.abs(rise) > samples.steepest * away + ROUNDING).any(axis=1))
    moments = np.einsum("qki,qkj->qij", way, way)
    # Neighbours on a line or at one place leave the gradient open: the least one is taken.
    moments += (1e-9 * np.trace(moments, axis1=1, axis2=2) + 1e-30)[:, None, None] * np.eye(3)
    gradients = np.linalg.solve(moments, np.einsum("qki,qk->qi", way, rise)[..., None])[..., 0]
    slopes, reach, height = np.linalg.norm(gradients, axis=1), away[:, -1], np.abs(values[among])
    residuals = np.sqrt(np.mean((np.einsum("qki,qi->qk", way, gradients) - rise) ** 2, axis=1))
    near = height < reach if samples.signed else (height >= reach) & (height < 3 * reach)
    near &= residuals < STRAIGHT * slopes * reach
    return float(steep), float(np.median(slopes[near])) if np.count_nonzero(near) >= FEWEST else np.nan


def _swallowed(points: Floats, values: Floats, steepest: float) -> float:
    """Share of inside positions from which the nearest outside one is nearer than the surface between them allows."""
    inside = values < 0
    if inside.all() or not inside.any():
        return np.nan
    outside = cKDTree(points[~inside], balanced_tree=False, compact_nodes=False)
    away, nearest = outside.query(points[inside])
    return float(np.mean(values[~inside][nearest] - values[inside] > steepest * away + ROUNDING))


def _near(
    samples: Samples, surface: Surface | None, row: int, points: Floats, sizes: Floats, settings: _Settings
) -> tuple[float, float]:
    """Share of positions with more than the distance to a stored point, and with less than its spacing explains."""
    if surface is None or surface.trees[row].n == 0 or len(points) == 0:
        return np.nan, np.nan
    distance, _ = surface.trees[row].query(points)
    spacing = surface.spacings[row]
    far = sizes > samples.steepest * distance + samples.blur * spacing + TOUCH
    return float(np.mean(far)), float(np.mean(sizes < distance - settings.spacing * spacing - ROUNDING))


def _to_cloud(pool: QueryPool, spec: ArraySpec, surface: Surface, batch: Batch) -> Measure:
    probes = places(batch, spec.shape[0])
    errors = to_points(surface, entries(batch, pool.points, probes)) - entries(batch, spec, probes)
    name = f"largest error of {spec.name} as the way to the nearest of {surface.name}"
    return Measure(name, np.abs(errors).max(axis=1), 0, ROUNDING, "", (spec.name, surface.name), REMEDY)


def _grid_laws(
    family: UdfGrid | SdfGrid, surface: Surface | None, batch: Batch, settings: _Settings
) -> Iterator[Measure]:
    """Cells against their neighbours, and what the grid says at surface points and at positions of a pool."""
    spec, part, signed = family.grid, batch.recipe.grid, isinstance(family, SdfGrid)
    if spec.shape[0] == 1:  # caches without a grid keep one cell in its place
        return
    precision = float(np.finfo(spec.dtype).eps)
    measured = "surface" if signed else part.udf if part is not None else "occupancy"
    # The centre of an occupied cell is within half a diagonal of a point, and a dilation goes on to the next cell.
    steps = (part.dilate if part is not None else 1) + np.sqrt(3) / 2
    slack = steps * 2 / spec.shape[0] if measured == "occupancy" else 0.0

    def measure(text: str, numbers: Floats, other: ArraySpec = spec, high: float = settings.amiss) -> Measure:
        return Measure(text, numbers, 0, high, "", (spec.name, other.name), REMEDY)

    limit = settings.steep_open if signed else settings.steep
    yield measure(
        f"share of cells of {spec.name} that are steeper than a distance", _steep_cells(spec, batch), high=limit
    )
    for points in families(batch.schema, Points):
        at = entries(batch, points.points, places(batch, points.points.shape[0]))
        off = _off(np.zeros(at.shape[:2]), values_at(spec, batch, at), at, spec, slack)
        yield measure(f"share of {points.points.name} at which {spec.name} is not 0", off, points.points)
    for pool in families(batch.schema, QueryPool):
        probes = places(batch, pool.points.shape[0])
        at = entries(batch, pool.points, probes)
        read, known = values_at(spec, batch, at), pool.signed if signed else next(iter(pool.distances), None)
        wanted: Floats | None = None
        if measured != "surface":
            wanted = to_points(surface, at) if surface is not None else None
        elif known is not None and batch.recipe.queries is not None and batch.recipe.queries.distance == "surface":
            wanted = entries(batch, known, probes)
        if wanted is not None:
            off = _off(wanted, read, at, spec, slack)
            yield measure(f"share of {pool.points.name} at which {spec.name} disagrees", off, pool.points)
        for copy in pool.distances:
            if f"read from {spec.name}" in copy.long_name:
                errors = np.abs(entries(batch, copy, probes) - read).max(axis=1)
                text = f"largest error of {copy.name} as read from {spec.name}"
                yield measure(text, errors, copy, ROUNDING + 2 * precision)


def _steep_cells(spec: ArraySpec, batch: Batch) -> Floats:
    """(n,) share of cells that differ from the next one on some axis by more than the way there."""
    size = spec.shape[0]
    cells = chosen(batch.index["seed"], (size - 1) ** 3, CROWD * PROBES)
    x, y, z = np.unravel_index(cells, (size - 1,) * 3)
    grid, row = np.asarray(batch.arrays[spec.name]), np.arange(len(batch))[:, None]
    here = finite(grid[row, x, y, z])
    rises = [finite(grid[row, x + i, y + j, z + k]) - here for i, j, k in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    limit = 2 / size + ROUNDING + float(np.finfo(spec.dtype).eps) * np.abs(here)
    return _share_above(np.abs(rises).max(axis=0), limit)


def _off(wanted: Array, read: Floats, points: Array, spec: ArraySpec, slack: float) -> Floats:
    """(n,) share of positions at which a grid that was read is farther from a field than interpolation can be.

    The error at a position is at most the weighted mean of the ways to the eight cells, by Jensen's inequality at most
    the root of the mean square, cell * sqrt(sum of t (1 - t)) over the axes; beyond the outermost centres the way back
    to them is added.
    """
    size = spec.shape[0]
    at = (points + 1) * (size / 2) - 0.5
    within = np.clip(at, 0, size - 1)
    part = within - np.floor(within)
    cells = np.sqrt((part * (1 - part)).sum(axis=-1)) + np.linalg.norm(at - within, axis=-1)
    bound = cells * (2 / size) + slack + ROUNDING + float(np.finfo(spec.dtype).eps) * np.abs(read)
    return _share_above(np.abs(read - wanted), bound)


def _share_above(values: Floats, limit: Floats) -> Floats:
    """(n,) share of each row that is above its limit; NaN where there is a NaN."""
    unknown = np.isnan(values - limit).any(axis=1)
    return np.where(unknown, np.nan, np.mean(values > limit, axis=1))


CHECK = Check(
    name="field-laws",
    about=(
        "Whether every distance field is one: as steep as a distance, of the surface that is stored, with an inside "
        "that ends at it, and the same in grids and samples."
    ),
    severity="error",
    settings=_Settings,
    applies=needs(QueryPool, SdfSamples, UdfGrid, SdfGrid),
    measure=_measure,
)
