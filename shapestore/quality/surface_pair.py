"""How far two sampled surfaces lie apart, each known by evenly spread points and their normals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from shapestore.quality.descriptor import turned

Floats = NDArray[np.float64]

_NORMAL_WEIGHT: Final = 0.1
"""Distance that stands for a normal of length 1, in units of the radius: points on both sides of a thin wall part."""

_ADJUSTMENTS: Final = 4

_TRIMMED: Final = 0.8
"""Share of the pairs that an adjustment believes: at edges the rest pair points of different faces."""

_NEIGHBOURS: Final = 9
"""Points, itself included, over which a distance is smoothed."""

_RIDGE: Final = 1e-4
"""Holds still what the surfaces leave free, such as the turn of a bottle."""


@dataclass(frozen=True)
class Surface:
    """A sampled surface in a frame of its own."""

    points: Floats
    """(k, 3) evenly spread points in their `own_frame`."""
    normals: Floats
    """(k, 3) unit normals there, signs included."""


def estimated_normals(cloud: Floats, places: NDArray[np.int64]) -> Floats:
    """(k, 3) unit normals at some points of a cloud (n, 3), away from its mean.

    The direction of least variance of the nearest points (Hoppe et al., "Surface reconstruction from unorganized
    points", SIGGRAPH 1992).
    """
    near = cloud[np.asarray(cKDTree(cloud).query(cloud[places], k=_NEIGHBOURS)[1])]
    spread = near - near.mean(axis=1, keepdims=True)
    normals = np.linalg.eigh(np.swapaxes(spread, 1, 2) @ spread)[1][:, :, 0]
    inward = ((cloud[places] - cloud.mean(axis=0)) * normals).sum(axis=1, keepdims=True) < 0
    return np.asarray(np.where(inward, -normals, normals))


def gap(first: Floats, second: Floats) -> float:
    """Modified Hausdorff distance of two point sets (k, 3).

    The larger of the two mean distances from the points of one to the nearest ones of the other (Dubuisson and Jain,
    "A modified Hausdorff distance for object matching", ICPR 1994).
    """
    there, back = cKDTree(second).query(first)[0], cKDTree(first).query(second)[0]
    return float(max(np.mean(there), np.mean(back)))


def roughness(surface: Surface) -> float:
    """Offset of a surface from itself where no point may meet itself: what its sampling alone is good for.

    NaN where points are NaN.
    """
    if not np.isfinite(surface.points).all():
        return np.nan
    return float(np.abs(_smoothed(surface, _pair_up(surface, surface, rank=2))).mean())


@dataclass(frozen=True)
class Fit:
    """How well two surfaces fit after a small adjustment; lengths in units of the root mean square radius."""

    offset: float
    """Mean distance of patches of one from the other along the normals."""
    extent: float
    """Largest difference of the sides of their bounding boxes: what lies beyond the end of a wall has no offset."""


def fit(first: Surface, second: Surface, axis: int) -> Fit:
    """Bring two surfaces together and measure what is left.

    Pairs of nearest points and normals are brought together by a shift, a scale and a turn about the axis, by least
    squares on the symmetric point-to-plane distance (Rusinkiewicz, "A symmetric objective function for ICP", ACM TOG
    2019), which on flat and evenly curved surfaces is 0 however coarse the samples. What remains is smoothed by the
    median over neighbouring points: at an edge single points meet another face, a true difference moves whole patches.
    """
    points, normals = first.points, first.normals
    for _ in range(_ADJUSTMENTS):
        moved = Surface(points, normals)
        pairs = _Pairs.joined(_pair_up(moved, second), _pair_up(second, moved).swapped())
        shift, turn, growth = _adjustment(pairs, axis)
        points = turned(points, axis, turn) * (1 + growth) + shift
        normals = turned(normals, axis, turn)
    moved = Surface(points, normals)
    there, back = _smoothed(moved, _pair_up(moved, second)), _smoothed(second, _pair_up(second, moved))
    sides = [np.concatenate([each.points.min(axis=0), each.points.max(axis=0)]) for each in (moved, second)]
    return Fit(float(np.abs([there, back]).mean()), float(np.abs(sides[0] - sides[1]).max()))


@dataclass(frozen=True)
class _Pairs:
    """Points and their partners on another surface."""

    points: Floats
    """(p, 3) points of the first surface."""
    partners: Floats
    """(p, 3) points of the second one."""
    normals: Floats
    """(p, 3) unit vectors halfway between the normals of both."""

    @property
    def distances(self) -> Floats:
        """(p,) distances from points to partners along the normals."""
        return np.asarray(((self.partners - self.points) * self.normals).sum(axis=1))

    def swapped(self) -> _Pairs:
        return _Pairs(self.partners, self.points, self.normals)

    @classmethod
    def joined(cls, first: _Pairs, second: _Pairs) -> _Pairs:
        return cls(
            np.concatenate([first.points, second.points]),
            np.concatenate([first.partners, second.partners]),
            np.concatenate([first.normals, second.normals]),
        )


def _adjustment(pairs: _Pairs, axis: int) -> tuple[Floats, float, float]:
    """Shift, angle and relative growth of the first surface that bring most pairs closest along the normals."""
    distances = pairs.distances
    believed = np.abs(distances) <= np.quantile(np.abs(distances), _TRIMMED)
    about = np.cross(np.eye(3)[axis], pairs.points)
    slopes = np.column_stack(
        [pairs.normals, (about * pairs.normals).sum(axis=1), (pairs.points * pairs.normals).sum(axis=1)]
    )[believed]
    matrix = slopes.T @ slopes + _RIDGE * len(slopes) * np.eye(slopes.shape[1])
    found = np.linalg.solve(matrix, slopes.T @ distances[believed])
    return found[:3], float(found[3]), float(found[4])


def _smoothed(surface: Surface, pairs: _Pairs) -> Floats:
    """(k,) the median of the distances at each point and its neighbours on the same side of the surface."""
    keys = _keys(surface)
    neighbours = np.asarray(cKDTree(keys).query(keys, k=_NEIGHBOURS)[1])
    return np.asarray(np.median(pairs.distances[neighbours], axis=1))


def _pair_up(surface: Surface, other: Surface, rank: int = 1) -> _Pairs:
    """Every point of a surface with the point of the other one that is nearest in place and normal, or the next."""
    nearest = np.asarray(cKDTree(_keys(other)).query(_keys(surface), k=[rank])[1])[:, 0]
    halfway = surface.normals + other.normals[nearest]
    length = np.linalg.norm(halfway, axis=1, keepdims=True)
    # Opposite normals have no vector halfway: such pairs count in full, along the first normal.
    halfway = np.where(length > 1e-3, halfway / np.maximum(length, 1e-3), surface.normals)
    return _Pairs(surface.points, other.points[nearest], halfway)


def _keys(surface: Surface) -> Floats:
    """(k, 6) places and normals as points of one space."""
    return np.hstack([surface.points, _NORMAL_WEIGHT * surface.normals])
