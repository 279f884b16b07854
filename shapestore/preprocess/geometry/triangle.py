"""One triangle, flat in a frame of its own: exact to rounding, slivers and points included."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel

INTERIOR: Final = 0
"""Feature of a nearest point within its triangle."""

EDGE: Final = 1
"""Feature 1 + k: the nearest point lies on the edge from corner k of its face to corner (k + 1) % 3."""

CORNER: Final = 4
"""Feature 4 + k: the nearest point is corner k of its face."""

SMALLEST_SQUARE: Final = 1e-300
"""Below it a reciprocal may overflow."""

Vector = tuple[float, float, float]


class Flat(NamedTuple):
    """A triangle in a frame of its own: (0, 0), (length, 0) and (apex, height) in the plane of `along` and `across`.

    `along` follows the longest edge, so that the apex stands above it, 0 <= apex <= length, and an altitude splits
    the triangle into two right ones. The axes are orthonormal to rounding even where the triangle is a sliver, a
    segment or a point: the frame moves its corners by rounding only, which no normal by a cross product does.
    """

    origin_x: float
    origin_y: float
    origin_z: float
    along_x: float
    along_y: float
    along_z: float
    across_x: float
    across_y: float
    across_z: float
    normal_x: float
    normal_y: float
    normal_z: float
    length: float
    apex: float
    height: float
    left: float
    """1 / squared length of the side from the origin to the apex, or 0."""
    right: float
    """1 / squared length of the other side, or 0."""


@kernel
def squared_to(triangle: Flat, x: float, y: float, z: float) -> float:
    """Squared distance from a position to a triangle: its height above the plane, and the distance within it.

    In the plane, the nearest point lies in the right triangle on the same side of the altitude. A position left or
    right of the apex sees the same case mirrored: a corner at (0, 0), a foot, and the apex above the foot.
    """
    px, py, pz = x - triangle.origin_x, y - triangle.origin_y, z - triangle.origin_z
    u = px * triangle.along_x + py * triangle.along_y + pz * triangle.along_z
    v = px * triangle.across_x + py * triangle.across_y + pz * triangle.across_z
    w = px * triangle.normal_x + py * triangle.normal_y + pz * triangle.normal_z
    is_left = u < triangle.apex
    s = u if is_left else triangle.length - u
    base = triangle.apex if is_left else triangle.length - triangle.apex
    inverse = triangle.left if is_left else triangle.right
    t = min(max((s * base + v * triangle.height) * inverse, 0.0), 1.0)
    ds, dv = s - t * base, v - t * triangle.height
    beyond = min(s, 0.0)
    beside = ds * ds + dv * dv
    below = beyond * beyond + v * v
    within = 0.0 if v * base < s * triangle.height else beside
    return w * w + (below if v <= 0 else within)


@kernel
def flatten(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], rows: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(R, 17) the `Flat` of each row's face and (R,) the corner at its origin."""
    frames = np.empty((len(rows), 17))
    turns = np.empty(len(rows), np.int64)
    for row in range(len(rows)):
        a, b, c = faces[rows[row], 0], faces[rows[row], 1], faces[rows[row], 2]
        ab, bc, ca = _between(vertices, a, b), _between(vertices, b, c), _between(vertices, c, a)
        first, second, third = _dot(ab, ab), _dot(bc, bc), _dot(ca, ca)
        turn, longest, back = 0, ab, ca
        if second > first and second >= third:
            turn, longest, back = 1, bc, ab
        elif third > first:
            turn, longest, back = 2, ca, bc
        origin, side = vertices[faces[rows[row], turn]], (-back[0], -back[1], -back[2])
        length, along = _unit(longest, (1.0, 0.0, 0.0))
        _, across = _unit(_less(side, along), along)
        if abs(_dot(across, along)) > 0.5:  # a side without height leaves zero, or rounding in any direction
            across = _least_axis(along)
        for _ in range(2):  # a sliver's height is a small difference, of which rounding is a large part
            _, across = _unit(_less(across, along), across)
        apex, height = min(max(_dot(side, along), 0.0), length), max(_dot(side, across), 0.0)
        frames[row, 0], frames[row, 1], frames[row, 2] = origin[0], origin[1], origin[2]
        frames[row, 3], frames[row, 4], frames[row, 5] = along
        frames[row, 6], frames[row, 7], frames[row, 8] = across
        frames[row, 9] = along[1] * across[2] - along[2] * across[1]
        frames[row, 10] = along[2] * across[0] - along[0] * across[2]
        frames[row, 11] = along[0] * across[1] - along[1] * across[0]
        frames[row, 12], frames[row, 13], frames[row, 14] = length, apex, height
        left, right = apex * apex + height * height, (length - apex) ** 2 + height * height
        frames[row, 15] = 1 / left if left > SMALLEST_SQUARE else 0.0
        frames[row, 16] = 1 / right if right > SMALLEST_SQUARE else 0.0
        turns[row] = turn
    return frames, turns


@kernel
def _between(vertices: NDArray[np.float64], start: int, stop: int) -> Vector:
    """The way from one vertex to another."""
    return (
        vertices[stop, 0] - vertices[start, 0],
        vertices[stop, 1] - vertices[start, 1],
        vertices[stop, 2] - vertices[start, 2],
    )


@kernel
def _dot(a: Vector, b: Vector) -> float:
    """The scalar product."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel
def _less(vector: Vector, unit: Vector) -> Vector:
    """What is left of a vector without its part along a unit vector."""
    part = _dot(vector, unit)
    return vector[0] - part * unit[0], vector[1] - part * unit[1], vector[2] - part * unit[2]


@kernel
def _unit(vector: Vector, otherwise: Vector) -> tuple[float, Vector]:
    """Length and direction of a vector; 0 and another direction where it has none."""
    square = _dot(vector, vector)
    if square < SMALLEST_SQUARE:
        return 0.0, otherwise
    length = math.sqrt(square)
    return length, (vector[0] / length, vector[1] / length, vector[2] / length)


@kernel
def _least_axis(vector: Vector) -> Vector:
    """The coordinate axis that is most nearly perpendicular to a vector."""
    x, y, z = abs(vector[0]), abs(vector[1]), abs(vector[2])
    if x <= y and x <= z:
        return 1.0, 0.0, 0.0
    return (0.0, 1.0, 0.0) if y <= z else (0.0, 0.0, 1.0)
