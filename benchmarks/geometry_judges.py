"""What is true: brute force in float64, by other formulas than the code under test, and analytic shapes.

Every judge gives the error of an answer; an answer without one, such as that of another length, has an infinite error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray

from shapestore.preprocess.geometry.mesh import Mesh

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
PAIRS = 2_000_000
"""Point-face pairs that are looked at together: about 400 MB."""


def bumpy_sphere(subdivisions: int) -> Mesh:
    """Closed and curved, 20 * 4^subdivisions faces, farthest point on the unit sphere."""
    ball = trimesh.creation.icosphere(subdivisions)
    x, y, z = np.asarray(ball.vertices).T
    radius = 1 + 0.1 * np.sin(6 * x) * np.sin(5 * y) + 0.05 * np.cos(9 * z)
    vertices = np.asarray(ball.vertices) * radius[:, None]
    vertices /= np.linalg.norm(vertices, axis=1).max()
    return Mesh(np.ascontiguousarray(vertices), np.asarray(ball.faces, np.int64))


def brute_distance(mesh: Mesh, points: Floats) -> Floats:
    """(n,) distance to the nearest triangle: to its plane where the foot lies within, else to its edges."""
    corners = mesh.vertices[mesh.faces]
    step = max(1, PAIRS // len(corners))
    parts = [_triangle_distance(corners, points[at : at + step]) for at in range(0, len(points), step)]
    return np.concatenate(parts)


def _triangle_distance(corners: Floats, points: Floats) -> Floats:
    offsets = points[:, None, None] - corners  # (n, F, 3 corners, 3)
    edges = np.roll(corners, -1, axis=1) - corners
    lengths = (edges * edges).sum(axis=2)
    along = (offsets * edges).sum(axis=3) / np.where(lengths > 0, lengths, 1)
    rest = offsets - np.clip(along, 0, 1)[..., None] * edges
    nearest = (rest * rest).sum(axis=3).min(axis=2)
    normals = np.cross(edges[:, 0], edges[:, 1])
    size = (normals * normals).sum(axis=1)
    sides = np.cross(normals[:, None], edges)  # (F, 3, 3): into the triangle, in its plane
    within = ((offsets * sides).sum(axis=3) >= 0).all(axis=2) & (size > 0)
    height = (offsets[:, :, 0] * normals).sum(axis=2)
    plane = height * height / np.where(size > 0, size, 1)
    return np.asarray(np.sqrt(np.where(within, np.minimum(plane, nearest), nearest).min(axis=1)))


def brute_depth(mesh: Mesh, origins: Floats, directions: Floats) -> Floats:
    """(n,) depth of the first hit of each ray by signed volumes, infinite where there is none."""
    corners = mesh.vertices[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    depth = np.empty(len(origins))
    for row, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
        to = corners - origin
        volumes = (np.cross(to, np.roll(to, -1, axis=1)) * direction).sum(axis=2)
        hit = (volumes >= 0).all(axis=1) | (volumes <= 0).all(axis=1)
        slope = normals @ direction
        t = (normals * to[:, 0]).sum(axis=1) / np.where(slope == 0, 1, slope)
        depth[row] = t[hit & (slope != 0) & (t > 0)].min(initial=np.inf)
    return depth


def brute_nearest(cloud: NDArray[np.float32], points: NDArray[np.float32]) -> Floats:
    """(n,) distance to the nearest point of a cloud."""
    gaps = [np.linalg.norm(cloud.astype(np.float64) - point, axis=1).min() for point in points.astype(np.float64)]
    return np.asarray(gaps)


def largest_error(true: Floats, rows: Ints) -> Callable[[ArrayLike], float]:
    """Judge of values that are known in some rows: the largest absolute difference."""

    def judge(answer: ArrayLike) -> float:
        values = np.asarray(answer, np.float64).reshape(-1)
        return float(np.abs(values[rows] - true).max()) if len(values) > rows.max() else math.inf

    return judge


def share_wrong(true: NDArray[np.bool_]) -> Callable[[ArrayLike], float]:
    """Judge of yes and no: percent that differ."""

    def judge(answer: ArrayLike) -> float:
        return float(100 * np.mean(np.asarray(answer, bool).reshape(-1) != true.reshape(-1)))

    return judge


def greedy_gap(points: NDArray[np.float32]) -> Callable[[NDArray[np.generic]], float]:
    """Judge of farthest-point orders from any start, given as indices or as positions.

    The largest share by which a chosen point is nearer to those before it than the farthest one; infinite where a
    point comes twice.
    """
    exact = points.astype(np.float64)
    index = {row.tobytes(): number for number, row in enumerate(points)}

    def judge(order: NDArray[np.generic]) -> float:
        rows = [index[row.tobytes()] for row in order.astype(np.float32)] if order.ndim == 2 else order.tolist()
        if len(set(rows)) < len(rows):
            return math.inf
        nearest = ((exact - exact[rows[0]]) ** 2).sum(axis=1)
        gap = 0.0
        for row in rows[1:]:
            gap = max(gap, 1 - math.sqrt(nearest[row] / nearest.max()))
            nearest = np.minimum(nearest, ((exact - exact[row]) ** 2).sum(axis=1))
        return gap

    return judge


def off_surface(mesh: Mesh, rows: Ints) -> Callable[[tuple[Floats, Floats]], float]:
    """Judge of random points with normals: the largest distance from the surface of the points in `rows`.

    Infinite where normals are not unit, or where the mean of the points is more than six standard errors from the
    centre of the surface, as it is when areas are not equally likely.
    """
    corners = mesh.vertices[mesh.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    centre = (corners.mean(axis=1) * areas[:, None]).sum(axis=0) / areas.sum()

    def judge(answer: tuple[Floats, Floats]) -> float:
        points, normals = (np.asarray(each, np.float64) for each in answer)
        astray = np.abs(points.mean(axis=0) - centre) > 6 * points.std(axis=0) / math.sqrt(len(points))
        if astray.any() or np.abs(np.linalg.norm(normals, axis=1) - 1).max() > 1e-5:
            return math.inf
        return float(brute_distance(mesh, points[rows]).max())

    return judge


def same_triangles(mesh: Mesh) -> Callable[[Mesh], float]:
    """Judge of a loaded mesh: the largest difference of a corner, the faces in the order of the file."""
    corners = mesh.vertices[mesh.faces]

    def judge(found: Mesh) -> float:
        if len(found.faces) != len(mesh.faces):
            return math.inf
        return float(np.abs(found.vertices[found.faces] - corners).max())

    return judge
