"""Polygons to triangles that cover the same area: fans where a fan is right, ears clipped elsewhere."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel

_ROUNDING: Final = 64 * np.finfo(np.float64).eps
"""Areas at most this small, relative to the squared extent of the polygon, have no sign."""


MOST_CORNERS: Final = 1 << 16
"""Of a polygon."""

MOST_FOLDED: Final = 2048
"""Corners of a polygon that is more than a fan from its first corner; the time to cut one may grow with their cube."""

_STEP: Final = 1 << 20
"""Corners that are looked at together, for each of which there are some 200 bytes meanwhile."""


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

    Raises
    ------
    InputRefused
        UNSUPPORTED for a polygon of more than `MOST_CORNERS`, or of more than `MOST_FOLDED` that is no fan from its
        first one.
    """
    if (sizes == 3).all():
        return corners.reshape(-1, 3), 0
    if sizes.max() > MOST_CORNERS:
        raise InputRefused(
            Reason.UNSUPPORTED, f"a polygon of {sizes.max()} corners; at most {MOST_CORNERS} are cut into triangles"
        )
    starts = np.cumsum(sizes) - sizes
    first_face = starts - 2 * np.arange(len(sizes))
    faces = np.empty((len(corners) - 2 * len(sizes), 3), np.int64)
    crossing = 0
    for size in np.unique(sizes).tolist():
        alike = np.flatnonzero(sizes == size)
        for members in np.array_split(alike, -(-len(alike) * size // _STEP)):
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
        if size > MOST_FOLDED:
            raise InputRefused(
                Reason.UNSUPPORTED,
                f"a polygon of {size} corners that is not convex; at most {MOST_FOLDED} are cut into triangles",
            )
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


@kernel
def _clip_ears(polygon: NDArray[np.float64]) -> NDArray[np.int64] | None:
    """(k - 2, 3) triangles of a (k, 2) counter-clockwise polygon, or None if its edges cross.

    Meisters, "Polygons have ears", American Mathematical Monthly 1975. Quadratic in k where ears are plentiful, cubic
    in the worst case.
    """
    count = len(polygon)
    ring = np.arange(count)
    ears = np.empty((count - 2, 3), np.int64)
    position = 0
    for ear in range(count - 3):
        position = _next_ear(polygon, ring[: count - ear], position)
        if position < 0:
            return None
        left = count - ear
        for corner in range(3):
            ears[ear, corner] = ring[(position - 1 + corner) % left]
        ring[position : left - 1] = ring[position + 1 : left].copy()
        # Go on past the neighbour, so that ears alternate and slivers stay rare.
        position = (position + 1) % (left - 1)
    ears[count - 3] = ring[:3]
    for ear in range(count - 2):
        if _area(polygon[ears[ear, 0]], polygon[ears[ear, 1]], polygon[ears[ear, 2]]) < -_ROUNDING:
            return None
    return ears


@kernel
def _next_ear(polygon: NDArray[np.float64], ring: NDArray[np.int64], start: int) -> int:
    """Position in the ring of an ear at or after `start`, or -1; one without area only if there is no other."""
    count = len(ring)
    areas = np.empty(count)
    for place in range(count):
        areas[place] = _area(polygon[ring[place - 1]], polygon[ring[place]], polygon[ring[(place + 1) % count]])
    flat = -1
    for step in range(count):
        place = (start + step) % count
        if areas[place] > _ROUNDING:
            if not _blocked(polygon, ring, areas, place):
                return place
        elif flat < 0 and areas[place] >= -_ROUNDING:
            flat = place
    return flat


@kernel
def _blocked(polygon: NDArray[np.float64], ring: NDArray[np.int64], areas: NDArray[np.float64], place: int) -> bool:
    """Whether a corner that is not convex lies in the triangle at a place, or on its edges but not at its corners."""
    count = len(ring)
    a, b, c = polygon[ring[place - 1]], polygon[ring[place]], polygon[ring[(place + 1) % count]]
    for other in range(count):
        if areas[other] > _ROUNDING:
            continue
        p = polygon[ring[other]]
        if _area(a, b, p) < -_ROUNDING or _area(b, c, p) < -_ROUNDING or _area(c, a, p) < -_ROUNDING:
            continue
        at_corner = (p == a).all() or (p == b).all() or (p == c).all()
        if not at_corner:
            return True
    return False


@kernel
def _area(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> float:
    """Double signed area of the triangle of three (2,) positions, > 0 if counter-clockwise."""
    doubled: float = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    return doubled
