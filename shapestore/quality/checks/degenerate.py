"""degenerate: shapes that are all but a point, flat, almost empty, or unlike the others of their category."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from scipy.spatial import cKDTree

from shapestore.preprocess.geometry.mesh import distinct_positions
from shapestore.quality.check import Array, Batch, Check, Measure, Settings, Table, chosen, families, filled, needs
from shapestore.quality.finding import Finding, Severity
from shapestore.schemas.families import LabelCounts, MeshFacts, Points, SdfSamples
from shapestore.schemas.store_schema import StoreSchema

REMEDY = "Look at the raw file: leave the shape out, or mend it and ingest it again."

TO_DEVIATION = 1.4826
"""From the median absolute deviation to the standard deviation of a normal distribution (Hampel, JASA 69, 1974)."""

SMALLEST = 1e-3
"""Lengths below this, in normalised units, are as small as any: ratios to them say nothing."""

SPACED = 256
"""Points whose nearest neighbours are looked for: their median is known to 5 %."""


class _Settings(Settings):
    """Bounds of shape, in normalised units. Figures: 66 meshes, 29 of them real, 105 scans, 2 hearts, 11 caches."""

    points: PositiveInt = 4096
    """Surface points of a row that are looked at."""
    spread: float = Field(0.05, gt=0)
    """Least median distance of the points from their middle. Measured: 0.36 to 1. One stray part at radius 1 leaves the
    rest this little of the space: below 0.05 a model spans three cells of a grid of 64, training sees a dot."""
    thickness: float = Field(1e-4, ge=0)
    """Least standard deviation of the points along their shortest axis, as a warning. Measured: 0.026 to 0.55, and 0
    for a flat polygon: what has no volume has no inside. A panel a hundredth as thick as it is wide has 0.003."""
    distinct: float = Field(0.5, ge=0, le=1)
    """Least share of different points, as a warning. Measured: 1. Scans of few points that were filled up to their
    count repeat them."""
    samples: PositiveInt = 64
    """Least number of points that a row of variable count holds: with fewer there is no shape to speak of."""
    voxels: PositiveInt = 64
    """Least number of voxels of all classes together, as a warning: 4 along each axis, of which half are at the border,
    so that the blurred surface is as much guessed as measured. Hearts have 100,000."""
    peers: PositiveInt = 20
    """Rows of a category before they are compared: of 20, the deviation is known to a quarter."""
    deviations: float = Field(8.0, gt=0)
    """How many deviations the logarithm of a row's number may be from the median of its category, as a warning. Numbers
    of shapes have long tails: of a Laplace distribution, 3 in 10,000 are beyond 8."""
    least_ratio: float = Field(4.0, gt=1)
    """Factor from the median of its category that a row must be off at the least: where a category is all alike, a
    small difference is many deviations."""


class _Shape(NamedTuple):
    """What is measured of the points of one row."""

    spread: float
    thickness: float
    distinct: float
    spacing: float


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    for name, held in _surfaces(batch):
        shapes = _shapes(np.asarray(batch.arrays[name]), held, batch.index["seed"], settings.points)
        spread, thickness, distinct, spacing = shapes.T
        far, thick, same, near = _of_points(name)
        yield _length(far, spread, name, settings.spread, "error")
        yield _length(thick, thickness, name, settings.thickness)
        yield Measure(same, distinct, low=settings.distinct, arrays=(name,), remedy=REMEDY)
        yield _length(near, spacing, name)
    for samples in families(batch.schema, SdfSamples):
        if samples.count is not None:
            filled_points = np.asarray(batch.index[samples.count.name], np.float64)
            arrays = (samples.points.name,)
            yield Measure(samples.count.name, filled_points, settings.samples, arrays=arrays, remedy=REMEDY)
    for counts in families(batch.schema, LabelCounts):
        name = counts.counts.name
        voxels = np.asarray(batch.arrays[name]).sum(axis=1, dtype=np.float64)
        yield Measure(_all_of(name), voxels, settings.voxels, unit="voxels", arrays=(name,), remedy=REMEDY)
    for facts in families(batch.schema, MeshFacts):
        for spec in facts.counts:
            yield Measure(spec.name, np.asarray(batch.index[spec.name], np.float64))
        volume = np.abs(np.asarray(batch.index[facts.volume.name], np.float64))
        radius = np.cbrt(volume / (4 / 3 * np.pi)) * np.asarray(batch.index["scale"])
        yield Measure(_radius_of(facts.volume.name), radius, unit="normalised units")


def _length(
    name: str, values: NDArray[np.float64], array: str, low: float = -math.inf, severity: Severity | None = None
) -> Measure:
    return Measure(name, values, low=low, unit="normalised units", arrays=(array,), remedy=REMEDY, severity=severity)


def _surfaces(batch: Batch) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Every array of surface points, and (n, k) which of them are filled."""
    for family in families(batch.schema, Points):
        yield family.points.name, filled(family.points, None, batch)
    for samples in families(batch.schema, SdfSamples):
        if samples.where == "surface":
            yield samples.points.name, filled(samples.points, samples.count, batch)


def _shapes(points: Array, held: NDArray[np.bool_], seeds: Array, count: int) -> NDArray[np.float64]:
    """(n, 4) a `_Shape` a row, NaN where the points are not finite or fewer than two."""
    shapes = np.full((len(points), len(_Shape._fields)), np.nan)
    for row, (all_points, kept) in enumerate(zip(points, held, strict=True)):
        own = all_points if kept.all() else all_points[kept]
        own = own[chosen(seeds[row : row + 1], len(own), count)[0]].astype(np.float64)
        if len(own) > 1 and np.isfinite(own).all():
            shapes[row] = _shape(own)
    return shapes


def _shape(points: NDArray[np.float64]) -> _Shape:
    distances = np.linalg.norm(points - np.median(points, axis=0), axis=1)
    least_variance = np.linalg.eigvalsh(np.cov(points.T))[0]
    different, _ = distinct_positions(points)
    apart, _ = cKDTree(points).query(points[:SPACED], k=[2])  # the first is the point itself
    return _Shape(
        spread=float(np.median(distances)),
        thickness=math.sqrt(max(least_variance, 0.0)),
        distinct=len(different) / len(points),
        spacing=float(np.median(apart)),
    )


def _overall(table: Table, settings: _Settings) -> Iterator[Finding]:
    """Rows that are far from the others of their category."""
    categories = table.index["category"].astype(str)
    for name in _compared(table.schema):
        logarithms = np.log(np.maximum(table.measured[name].values, SMALLEST))
        for category in np.unique(categories):
            peers = np.flatnonzero((categories == category) & np.isfinite(logarithms))
            if len(peers) >= settings.peers:
                for peer, score in _outliers(logarithms[peers], settings):
                    yield _finding(table, name, int(peers[peer]), score, category, settings)


def _compared(schema: StoreSchema) -> Iterator[str]:
    """Names of the measures whose numbers have the same order of size in all rows of a category."""
    surfaces = [family.points.name for family in families(schema, Points)]
    surfaces += [samples.points.name for samples in families(schema, SdfSamples) if samples.where == "surface"]
    for surface in surfaces:
        far, thick, _, near = _of_points(surface)
        yield from (far, thick, near)
    for samples in families(schema, SdfSamples):
        if samples.count is not None:
            yield samples.count.name
    for counts in families(schema, LabelCounts):
        yield _all_of(counts.counts.name)
    for facts in families(schema, MeshFacts):
        yield from (spec.name for spec in facts.counts)
        yield _radius_of(facts.volume.name)


def _outliers(logarithms: NDArray[np.float64], settings: _Settings) -> Iterator[tuple[int, float]]:
    """Positions out of bounds, and how many deviations they are from the median; none where half are equal."""
    from_median = logarithms - np.median(logarithms)
    deviation = TO_DEVIATION * np.median(np.abs(from_median))
    if deviation > 0:
        score = from_median / deviation
        far = (np.abs(score) > settings.deviations) & (np.abs(from_median) > math.log(settings.least_ratio))
        for position in np.flatnonzero(far).tolist():
            yield position, float(score[position])


def _finding(table: Table, name: str, position: int, score: float, category: str, settings: _Settings) -> Finding:
    measure = table.measured[name]
    return Finding(
        severity="warning",
        check=CHECK.name,
        message=(
            f"expected a {name} within {settings.deviations:.3g} deviations of the median of "
            f"{category or 'all rows'}, got {measure.values[position]:.6g}, which is {score:+.3g} deviations from it"
        ),
        place=measure.arrays[0] if measure.arrays else "",
        row=int(table.rows[position]),
        shape_id=str(table.index["shape_id"][position]),
        measure=f"deviations of the {name} from its category",
        value=score,
        low=-settings.deviations,
        high=settings.deviations,
        remedy=REMEDY,
    )


def _of_points(name: str) -> tuple[str, str, str, str]:
    """Names of the measures of surface points, as in `_Shape`."""
    return (
        f"median distance of {name} from their middle",
        f"thickness of {name}",
        f"share of different positions in {name}",
        f"median distance of neighbours in {name}",
    )


def _all_of(name: str) -> str:
    return f"sum of {name}"


def _radius_of(name: str) -> str:
    return f"radius of a ball of {name}"


CHECK = Check(
    name="degenerate",
    about=(
        "Shapes that are all but a point, without thickness, or of few points; and, by category, rows whose extent, "
        "spacing, faces or volume is far from that of the others."
    ),
    severity="warning",
    settings=_Settings,
    applies=needs(Points, SdfSamples),
    measure=_measure,
    overall=_overall,
)
