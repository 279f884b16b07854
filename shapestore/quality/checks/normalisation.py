"""normalisation: every shape is centred and fills the unit ball as its input says, and its frame leads back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from shapestore.quality.bounds import bounds_text
from shapestore.quality.check import Array, Batch, Check, Measure, Settings, Table, families, filled, needs
from shapestore.quality.finding import Finding, Severity
from shapestore.schemas.families import MeshFacts, Points, SdfSamples
from shapestore.schemas.recipe import Recipe

REMEDY = "Normalise the raw shape again: normalised = (raw - shift) * scale."

Centre = Literal["box centre", "mean", "box centre or mean"]
"""What lies at the origin: the centre of the box of a mesh or of all classes, the mean of a scan."""


class _Settings(Settings):
    """Bounds in normalised units.

    Points are samples of what was normalised: a row's bounds leave room for a thin part that no point fell on, and the
    medians over all rows are held to what samples come to. Figures: 66 meshes, 29 of them real, 105 scans, 2 hearts,
    11 rows of caches.
    """

    gate: bool = True
    """It takes 0.1 ms a row, and a shape in another frame is wrong in every array."""
    radius: float = Field(0.55, gt=0, le=1)
    """Least radius of the farthest point. Measured: 0.962 to 1. ShapeNet's raw frame, a box of diagonal 1, ends at
    0.5."""
    overshoot: float = Field(1e-5, ge=0)
    """How far beyond the unit ball a point may be: float32 rounds by 1e-7."""
    centre: float = Field(0.25, gt=0)
    """Most distance of a mesh's or a case's box centre from the origin. Measured: 0 to 0.017. A part that ends at
    radius 1 and has no point moves it by half of what the radius loses."""
    errors: float = Field(6.0, gt=0)
    """Most distance of a scan's mean from the origin, in standard errors of a mean in the unit ball, 1 / sqrt(n).
    Measured: 0, as all points of a scan are kept; of points drawn from it, 1 in 10^7 is beyond."""
    median_errors: float = Field(2.5, gt=0)
    """How far the medians over all rows of radius and centre may be from 1 and from the origin, in 1 / sqrt(n), which
    is by how much n points miss the end of a shape. Measured: up to 0.6 on meshes and the caches, 1.4 on the tenth part
    of scans whose farthest point is a corner. With 2048 points 2.5 are 0.055; meshes that are centred at their mean
    come to 0.08 to 0.21, scans that are centred at their box to 0.1."""
    round_trip: float = Field(1e-6, ge=0)
    """Largest error of a position that goes to raw coordinates and back: one rounding of float32."""


def _measure(batch: Batch, settings: _Settings) -> Iterator[Measure]:
    severity, centre = _severity(batch.recipe), _centre(batch.recipe)
    for name, points, held in _surfaces(batch):
        radius, offset = _radius_and_offset(points, held, centre)
        yield Measure(
            name=_radius_of(name),
            values=radius,
            low=settings.radius,
            high=1 + settings.overshoot,
            unit="normalised units",
            arrays=(name,),
            remedy=REMEDY,
            severity=severity,
        )
        of_mean = settings.errors / math.sqrt(points.shape[1])
        yield Measure(
            name=_offset_of(name, centre),
            values=offset,
            high=of_mean if centre == "mean" else settings.centre,
            unit="normalised units",
            arrays=(name,),
            remedy=REMEDY,
            severity=severity,
        )
    shift, scale = (np.asarray(batch.index[name], np.float64) for name in ("shift", "scale"))
    yield Measure(
        name="error of positions that go to raw coordinates and back",
        values=_round_trip(shift, scale),
        high=settings.round_trip,
        unit="normalised units",
        arrays=("scale", "shift"),
        remedy="Write the shift and the scale that the shape was normalised with.",
    )
    for facts in families(batch.schema, MeshFacts):
        yield _volume(batch, facts, scale)


def _surfaces(batch: Batch) -> Iterator[tuple[str, Array, NDArray[np.bool_]]]:
    """Every array of surface points, by name: (n, k, 3), and (n, k) which of them are filled."""
    for family in families(batch.schema, Points):
        yield family.points.name, np.asarray(batch.arrays[family.points.name]), filled(family.points, None, batch)
    for samples in families(batch.schema, SdfSamples):
        if samples.where == "surface":
            name = samples.points.name
            yield name, np.asarray(batch.arrays[name]), filled(samples.points, samples.count, batch)


def _radius_and_offset(
    points: Array, held: NDArray[np.bool_], centre: Centre
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n,) radius of the farthest point, and distance of the centre from the origin; NaN for rows that hold none."""
    radius, offset = np.full((2, len(points)), np.nan)
    for row, (all_points, kept) in enumerate(zip(points, held, strict=True)):
        own = all_points if kept.all() else all_points[kept]
        if len(own) and np.isfinite(own).all():
            radius[row] = math.sqrt(np.einsum("ki,ki->k", own, own).max())
            columns = own.T  # along each by itself: numpy is slow to reduce along the long axis of a table
            box = math.hypot(*((float(column.min()) + float(column.max())) / 2 for column in columns))
            mean = math.hypot(*(column.mean(dtype=np.float64) for column in columns))
            offset[row] = {"box centre": box, "mean": mean, "box centre or mean": min(box, mean)}[centre]
    return radius, offset


def _round_trip(shift: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) error of a corner of the cube in the unit ball that goes to raw coordinates and back, or infinity."""
    corner = 1 / math.sqrt(3)  # no short binary fraction, which rounding might spare
    with np.errstate(all="ignore"):
        back = ((corner / scale[:, None] + shift) - shift) * scale[:, None]
        error = np.abs(back - corner).max(axis=1)
    return np.where(np.isfinite(error) & (scale > 0), error, np.inf)


def _volume(batch: Batch, facts: MeshFacts, scale: NDArray[np.float64]) -> Measure:
    """The raw volume in the frame of the row: each component lies in the unit ball."""
    components = next(spec.name for spec in facts.counts if spec.name.endswith("components"))
    with np.errstate(all="ignore"):
        volume = np.abs(np.asarray(batch.index[facts.volume.name])) * scale**3
    return Measure(
        name=f"{facts.volume.name} in unit balls a component",
        values=volume / (4 / 3 * np.pi) / np.maximum(np.asarray(batch.index[components]), 1),
        high=1,
        arrays=("scale", facts.volume.name),
        remedy="The scale is not that of the mesh: look at its raw size.",
        severity="warning",
    )


def _overall(table: Table, settings: _Settings) -> Iterator[Finding]:
    centre = _centre(table.recipe)
    surfaces = [family.points for family in families(table.schema, Points)]
    surfaces += [samples.points for samples in families(table.schema, SdfSamples) if samples.where == "surface"]
    for spec in surfaces:
        error = settings.median_errors / math.sqrt(spec.shape[0])
        yield from _median(table, _radius_of(spec.name), spec.name, 1 - error, math.inf)
        yield from _median(table, _offset_of(spec.name, centre), spec.name, -math.inf, error)


def _median(table: Table, measure: str, name: str, low: float, high: float) -> Iterator[Finding]:
    values = table.measured[measure].values
    values = values[~np.isnan(values)]
    if len(values) == 0:
        return
    median = float(np.median(values))
    if not low <= median <= high:
        yield Finding(
            severity=_severity(table.recipe) or CHECK.severity,
            check=CHECK.name,
            message=f"expected a median {measure} {bounds_text(low, high)} over all rows, got {median:.3g}",
            place=name,
            measure=f"median of the {measure}",
            value=median,
            low=low if math.isfinite(low) else None,
            high=high if math.isfinite(high) else None,
            remedy=REMEDY,
        )


def _centre(recipe: Recipe) -> Centre:
    """What the frames of ingest, and of the programs that write caches, put at the origin."""
    if recipe.cache is not None:
        return "mean" if recipe.cache.layout == "nepa-scan" else "box centre"
    if "cloud" not in recipe.input:
        return "box centre"
    return "mean" if recipe.input == ("cloud",) else "box centre or mean"


def _severity(recipe: Recipe) -> Severity | None:
    """Other programs may have normalised caches by other conventions."""
    return None if recipe.cache is None else "warning"


def _radius_of(name: str) -> str:
    return f"radius of the farthest of {name}"


def _offset_of(name: str, centre: Centre) -> str:
    return f"distance of the {centre} of {name} from the origin"


CHECK = Check(
    name="normalisation",
    about=(
        "Surface points fill the unit ball around the centre of their box (meshes, label maps) or their mean (scans), "
        "and shift and scale lead back to raw coordinates."
    ),
    severity="error",
    settings=_Settings,
    applies=needs(Points, SdfSamples),
    measure=_measure,
    overall=_overall,
)
