"""What is kept of a surface to find its likes: even points, and coefficients of which a turn changes the phase only.

Both survive another sampling of the surface, another scale and, each axis by itself, any turn about y or z.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]
Complex = NDArray[np.complex128]

AXES: Final = (1, 2)
"""Axes that may point up: y in ShapeNet, z in ModelNet and medical images."""

HARMONICS: Final = 6
"""Highest frequency about an axis: enough to tell a turn to a few degrees."""

_RADII: Final = np.linspace(0.0, 2.0, 4)
_HEIGHTS: Final = np.linspace(-2.0, 2.0, 7)
"""Knots from and along an axis, in units of the root mean square radius: few points of any shape lie beyond."""

COEFFICIENTS: Final = (len(_RADII) * len(_HEIGHTS), HARMONICS + 1)
"""Shape of the coefficients about one axis."""


def own_frame(points: Floats) -> Floats:
    """(k, 3) points with their mean at the origin and a root mean square radius of 1; NaN where all coincide.

    Of evenly spread points (the first quarter of a farthest-point order) this frame is nearly the same for every
    sampling of a surface, whatever its density.
    """
    centred = points - points.mean(axis=0)
    radius = np.sqrt((centred * centred).sum() / len(centred))
    return np.asarray(centred / radius) if radius > 0 else np.full_like(centred, np.nan)


def spacing(points: Floats) -> float:
    """Mean distance of each of (k, 3) points to its nearest other one; NaN where points are NaN."""
    if not np.isfinite(points).all():
        return np.nan
    return float(np.asarray(cKDTree(points).query(points, k=[2])[0]).mean())


def cylinder_coefficients(points: Floats, axis: int) -> Complex:
    """Means over the points of hat(radius) * hat(height) * exp(i m azimuth) in cylinder coordinates about an axis.

    A turn of the shape by an angle t multiplies column m by exp(i m t); the moduli do not change. (Rotation-invariant
    moduli of harmonics: Kazhdan et al., "Rotation invariant spherical harmonic representation of 3D shape
    descriptors", SGP 2003; here about one axis.)

    Parameters
    ----------
    points
        (k, 3) in their `own_frame`.
    axis
        The axis of the cylinder.

    Returns
    -------
    `COEFFICIENTS` complex128
        A row for each pair of knots, a column for each m from 0 to `HARMONICS`.
    """
    flat, height = _in_plane(points, axis), points[:, axis]
    radius = np.abs(flat)
    rings = _hats(radius, _RADII)[:, :, np.newaxis] * _hats(height, _HEIGHTS)[:, np.newaxis, :]
    waves = np.exp(1j * np.angle(flat)[:, np.newaxis] * np.arange(HARMONICS + 1))
    return np.asarray(rings.reshape(len(points), -1).T @ waves / len(points))


def turned(vectors: Floats, axis: int, angle: float) -> Floats:
    """(k, 3) points or directions turned about an axis by an angle in radians."""
    flat = _in_plane(vectors, axis) * np.exp(1j * angle)
    found = vectors.copy()
    found[:, (axis + 1) % 3], found[:, (axis + 2) % 3] = flat.real, flat.imag
    return found


def _in_plane(vectors: Floats, axis: int) -> Complex:
    """(k,) components across an axis as complex numbers: a turn by t multiplies them by exp(i t)."""
    return np.asarray(vectors[:, (axis + 1) % 3] + 1j * vectors[:, (axis + 2) % 3])


def _hats(values: Floats, knots: Floats) -> Floats:
    """(k, knots) weights of linear interpolation; what lies beyond the last knot counts there."""
    held = np.clip(values, knots[0], knots[-1])
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(held[:, np.newaxis] - knots) / (knots[1] - knots[0])))
