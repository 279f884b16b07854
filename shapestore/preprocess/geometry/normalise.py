"""Frames that bring raw coordinates into the unit ball, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel

# Volumes are third powers and unit normals need fourth powers of a length: within these bounds none of them
# leaves float64.
SMALLEST_RADIUS: Final = 1e-50
LARGEST_RADIUS: Final = 1e50


@dataclass(frozen=True, eq=False)
class Frame:
    """A shift and a uniform scale: normalised = (raw - shift) * scale.

    Attributes
    ----------
    shift
        (3,) float64, raw unit: the raw position that becomes the origin.
    scale
        Normalised units per raw unit, > 0.
    """

    shift: NDArray[np.float64]
    scale: float

    def apply(self, points: ArrayLike) -> NDArray[np.float64]:
        """Raw (n, 3) positions in normalised coordinates, float64."""
        # The shift comes first: at map-like offsets the product alone would lose the shape's digits.
        return np.asarray((np.asarray(points, np.float64) - self.shift) * self.scale)

    def invert(self, points: ArrayLike) -> NDArray[np.float64]:
        """Normalised (n, 3) positions in raw coordinates, float64."""
        return np.asarray(np.asarray(points, np.float64) / self.scale + self.shift)


def box_frame(points: ArrayLike) -> Frame:
    """Put the centre of the bounding box at the origin and the farthest point on the unit sphere.

    The frame of meshes, whose vertices are no even sample of the surface and so have no meaningful mean.

    Parameters
    ----------
    points
        (n, 3) positions, raw unit.

    Returns
    -------
    Frame
        Brings `points` into the closed unit ball, up to rounding.

    Raises
    ------
    InputRefused
        TOO_FEW_POINTS without points; NOT_FINITE for NaN, infinite or immense coordinates; ZERO_AREA where all
        points coincide.
    """
    raw = _finite(points)
    return _unit_ball(raw, _box_centre(raw), Reason.ZERO_AREA)


def mean_frame(points: ArrayLike) -> Frame:
    """Put the mean of the points at the origin and the farthest point on the unit sphere.

    The frame of scans, where stray points would move a bounding box much more than they move the mean.

    Parameters
    ----------
    points
        (n, 3) positions, raw unit.

    Returns
    -------
    Frame
        Brings `points` into the closed unit ball, up to rounding.

    Raises
    ------
    InputRefused
        TOO_FEW_POINTS without two different points; NOT_FINITE for NaN, infinite or immense coordinates.
    """
    raw = _finite(points)
    centre = _box_centre(raw)
    # The mean of small offsets keeps the digits that a sum of large coordinates would drop.
    return _unit_ball(raw, centre + (raw - centre).mean(axis=0), Reason.TOO_FEW_POINTS)


def _finite(points: ArrayLike) -> NDArray[np.float64]:
    """The points as float64, refused where a frame cannot be computed from them."""
    raw = np.ascontiguousarray(points, np.float64)
    if len(raw) == 0:
        raise InputRefused(Reason.TOO_FEW_POINTS, "there are no points to normalise")
    finite = np.isfinite(raw)
    if not finite.all():
        bad = ~finite.all(axis=1)
        raise InputRefused(
            Reason.NOT_FINITE, f"{bad.sum()} of {len(raw)} points, the first is number {int(bad.argmax())}"
        )
    if np.abs(raw).max() > LARGEST_RADIUS:
        raise InputRefused(Reason.NOT_FINITE, f"coordinates beyond {LARGEST_RADIUS:g} are not computed with")
    return raw


def _box_centre(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) centre of the axis-aligned bounding box."""
    low, high = _bounds(points)
    return np.asarray(low + (high - low) / 2)


def _unit_ball(points: NDArray[np.float64], centre: NDArray[np.float64], if_point: Reason) -> Frame:
    """The frame around `centre` whose unit is the largest distance of a point from it."""
    radius = math.sqrt(_largest_square(points, centre))
    # Coordinates are known to their last bit only: an extent below that is rounding, not shape.
    resolution = float(np.spacing(np.abs(points).max()))
    if radius <= max(resolution, SMALLEST_RADIUS):
        raise InputRefused(if_point, f"all {len(points)} points lie at one position, {centre.tolist()}")
    return Frame(shift=centre, scale=1.0 / radius)


@kernel
def _bounds(points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The (3,) lowest and (3,) highest coordinates. numpy's reductions along the long axis take ten times as long."""
    low, high = points[0].copy(), points[0].copy()
    for row in range(1, len(points)):
        for axis in range(3):
            low[axis] = min(low[axis], points[row, axis])
            high[axis] = max(high[axis], points[row, axis])
    return low, high


@kernel
def _largest_square(points: NDArray[np.float64], centre: NDArray[np.float64]) -> float:
    """The largest squared distance of a point from the centre."""
    largest = 0.0
    for row in range(len(points)):
        x, y, z = points[row, 0] - centre[0], points[row, 1] - centre[1], points[row, 2] - centre[2]
        largest = max(largest, x * x + y * y + z * z)
    return largest
