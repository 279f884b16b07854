"""Polygons to triangles that cover the same area: fans where a fan is right, ears clipped elsewhere."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_ROUNDING: Final = 64 * np.finfo(np.float64).eps
"""Areas at most this small, relative to the squared extent of the polygon, have no sign."""


def triangulate(
    vertices: NDArray[np.float64], corners: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """Cut polygons into triangles.

    A polygon is judged in the plane of its vector area (Newell's normal: Sutherland et al., "A characterization of
    ten hidden-surface algorithms", ACM Computing Surveys 1974). The signed indicator functions of the triangles
    of any cut add up to the polygon's winding number, so a cut without a negative triangle covers a polygon that
    does not cross itself exactly once. That is the test for a fan (from the first corner where it holds) as well
    as for clipped ears. Holes that are bridged to the outline by a double edge are covered by this.

    Parameters
    ----------
    vertices
        (V, 3) float64; those in use are finite.
    corners
        (N,) int64 indices into `vertices`, polygon after polygon.
    sizes
        (F,) int64, each >= 3, N in sum.

    Returns
    -------
    faces
        (N - 2 F, 3) int64: size - 2 triangles a polygon, in the order and with the winding of the polygons. Corners
        on a straight line or at one place may give triangles without area.
    crossing
        Number of polygons whose edges cross; they are cut as a fan from their first corner.
    """
    if (sizes == 3).all():
        return corners.reshape(-1, 3), 0
    starts = np.cumsum(sizes) - sizes
    first_face = starts - 2 * np.arange(len(sizes))
    faces = np.empty((len(corners) - 2 * len(sizes), 3), np.int64)
    crossing = 0
    for size in np.unique(sizes).tolist():
        members = np.flatnonzero(sizes == size)
        polygons = corners[starts[members][:, None] + np.arange(size)]
        if size == 3:
            local = np.broadcast_to(np.arange(3), (len(members), 1, 3))
        else:
            local, failed = _cut(_flatten(vertices[polygons]))
            crossing += failed
        cut = np.take_along_axis(polygons[:, None, :], local, axis=2)
        faces[first_face[members][:, None] + np.arange(size - 2)] = cut
    return faces, crossing


def _flatten(positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """(P, k, 2) polygons within [-1, 1], counter-clockwise, from (P, k, 3) ones anywhere in space.

    The axis along which the vector area is largest is dropped, which keeps the signs of all areas.
    """
    # Halved, since the difference of two coordinates may overflow.
    halved = positions / 2
    offset = halved - halved[:, :1]
    extent = np.abs(offset).max(axis=(1, 2), keepdims=True)
    unit = offset / np.where(extent > 0, extent, 1)
    area = np.cross(unit, np.roll(unit, -1, axis=1)).sum(axis=1)
    axis = np.abs(area).argmax(axis=1)
    # (y, z), (z, x) and (x, y) are right-handed seen from the tip of the axis that is dropped.
    kept = (axis[:, None] + [1, 2]) % 3
    flat = np.take_along_axis(unit, kept[:, None, :], axis=2)
    clockwise = np.take_along_axis(area, axis[:, None], axis=1)[:, 0] < 0
    flat[clockwise, :, 0] *= -1
    return np.asarray(flat)


def _cut(polygons: NDArray[np.float64]) -> tuple[NDArray[np.int64], int]:
    """(P, k - 2, 3) corner numbers of the triangles of (P, k, 2) polygons, and how many polygons cross themselves."""
    count, size, _ = polygons.shape
    ring = np.arange(size)
    local = np.empty((count, size - 2, 3), np.int64)
    local[:] = _fan(ring)
    open_ = np.arange(count)
    for apex in range(size):
        fan = _fan(np.roll(ring, -apex))
        folded = (_areas(polygons[open_][:, fan]) < -_ROUNDING).any(axis=1)
        local[open_[~folded]] = fan
        open_ = open_[folded]
        if len(open_) == 0:
            return local, 0
    crossing = 0
    for polygon in open_:
        ears = _clip_ears(polygons[polygon])
        if ears is None:
            crossing += 1
        else:
            local[polygon] = ears
    return local, crossing


def _fan(ring: NDArray[np.int64]) -> NDArray[np.int64]:
    """(k - 2, 3) triangles from the first corner of a ring to all its edges."""
    return np.stack([np.full(len(ring) - 2, ring[0]), ring[1:-1], ring[2:]], axis=1)


def _areas(triangles: NDArray[np.float64]) -> NDArray[np.float64]:
    """(...,) double signed areas of (..., 3, 2) triangles, > 0 if counter-clockwise."""
    a, b, c = (triangles[..., corner, :] for corner in range(3))
    to_b, to_c = b - a, c - a
    return np.asarray(to_b[..., 0] * to_c[..., 1] - to_b[..., 1] * to_c[..., 0])


def _clip_ears(polygon: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """(k - 2, 3) triangles of a (k, 2) counter-clockwise polygon, or None if its edges cross.

    Meisters, "Polygons have ears", American Mathematical Monthly 1975. Quadratic in k where ears are plentiful.
    """
    ring = list(range(len(polygon)))
    ears = []
    position = 0
    while len(ring) > 3:
        position = _next_ear(polygon, ring, position)
        if position < 0:
            return None
        ears.append([ring[position - 1], ring[position], ring[(position + 1) % len(ring)]])
        del ring[position]
        # Go on past the neighbour, so that ears alternate and slivers stay rare.
        position = (position + 1) % len(ring)
    ears.append(ring)
    triangles = np.array(ears)
    return None if (_areas(polygon[triangles]) < -_ROUNDING).any() else triangles


def _next_ear(polygon: NDArray[np.float64], ring: list[int], start: int) -> int:
    """Position in the ring of an ear at or after `start`, or -1; one without area only if there is no other."""
    points = polygon[ring]
    before, after = np.roll(points, 1, axis=0), np.roll(points, -1, axis=0)
    areas = _areas(np.stack([before, points, after], axis=1))
    order = (start + np.arange(len(ring))) % len(ring)
    for position in order[areas[order] > _ROUNDING]:
        triangle = np.stack([before[position], points[position], after[position]])
        if not _blocked(triangle, points[areas <= _ROUNDING]):
            return int(position)
    flat = order[np.abs(areas[order]) <= _ROUNDING]
    return int(flat[0]) if len(flat) else -1


def _blocked(triangle: NDArray[np.float64], points: NDArray[np.float64]) -> bool:
    """Whether any of (n, 2) points lies in a triangle or on its edges, other than at its corners."""
    edges = np.stack([triangle, np.roll(triangle, -1, axis=0)], axis=1)
    sides = [
        _areas(np.concatenate([np.broadcast_to(edge, (len(points), 2, 2)), points[:, None]], axis=1)) for edge in edges
    ]
    inside = (np.stack(sides) >= -_ROUNDING).all(axis=0)
    at_corner = (points[:, None] == triangle).all(axis=2).any(axis=1)
    return bool((inside & ~at_corner).any())
