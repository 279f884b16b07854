"""Caps: what closes the rim of an opening by itself, as the surface around it would go on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.hole_rims import Rims
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import areas, crosses, unit_normals

LONGEST: Final = 60
"""The time for the tightest filling grows with the cube of the edges, to 5 ms here; longer rims get a fan."""


@dataclass(frozen=True, eq=False)
class Caps:
    """One cap for each rim.

    Attributes
    ----------
    faces
        (t, 3) int64 vertices, wound like the faces around.
    rim
        (t,) int64 the rim of each of them, rising.
    area
        (count,) area of each cap.
    continuity
        (count,) mean cosine of the turn from the faces beside the rim to the cap, by the length of the edges: 1 where
        the cap goes on with them, 0 at the end of a tube, -1 where it folds back onto a sheet.
    flatness
        (count,) area of the cap seen along its mean normal as a share of its area: 1 if it is flat.
    bend
        (count,) sum over the edges of the cap and its rim of length times turn, by the length of the rim: radians;
        infinite for a fan, whose sum is not known.
    """

    faces: NDArray[np.int64]
    rim: NDArray[np.int64]
    area: NDArray[np.float64]
    continuity: NDArray[np.float64]
    flatness: NDArray[np.float64]
    bend: NDArray[np.float64]


def caps(vertices: NDArray[np.float64], rims: Rims, middle: int) -> Caps:
    """Close each rim as tightly as possible, without new vertices: the sum over edges of length times turn is least.

    The edges of the rim count too. It is the total absolute mean curvature; for the vertices of a convex body that is
    least on their hull (Alboul and van Damme, "Polyhedral metrics in surface reconstruction", The Mathematics of
    Surfaces VI, 1996): what a box has lost between corners that are still there comes back. The minimum is found by
    dynamic programming over the chords of the rim (Barequet and Sharir, "Filling gaps in the boundary of a polyhedron",
    CAGD 12, 1995), with turns as of Liepa, "Filling holes in meshes" (SGP 2003). O(edges^3) a rim of at most `LONGEST`
    edges; around a longer one there is a fan.

    Parameters
    ----------
    vertices
        (V, 3) of the mesh, followed by the middle of each rim.
    rims
        Of the mesh.
    middle
        Vertex `middle + r` is the middle of rim r.
    """
    faces, rim, beside, cost = _tightest(vertices, rims.start, rims.normal, rims.first, middle)
    mesh = Mesh(vertices, faces)
    area = np.bincount(rim, weights=areas(mesh), minlength=rims.count)
    sums = np.stack([np.bincount(rim, weights=part, minlength=rims.count) for part in crosses(mesh).T], axis=1)
    seen = np.linalg.norm(sums, axis=1) / 2
    return Caps(
        faces=faces,
        rim=rim,
        area=np.asarray(area, np.float64),
        continuity=rims.mean((unit_normals(mesh)[beside] * rims.normal).sum(axis=1)),
        flatness=np.divide(seen, area, out=np.ones_like(area), where=area > 0),
        bend=cost / np.add.reduceat(rims.length, rims.first[:-1]),
    )


@kernel
def _tightest(
    vertices: NDArray[np.float64],
    start: NDArray[np.int64],
    normal: NDArray[np.float64],
    first: NDArray[np.int64],
    middle: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Faces of all caps, the rim of each, the face at each edge of the rims, and the cost of each cap."""
    costs = np.full(len(first) - 1, np.inf)
    beside = np.empty(len(start), np.int64)
    faces, rims = np.empty((len(start), 3), np.int64), np.empty(len(start), np.int64)
    stack = np.empty((LONGEST + 1, 2), np.int64)
    count = 0
    for rim in range(len(first) - 1):
        begin, edges = first[rim], first[rim + 1] - first[rim]
        corner = start[begin : begin + edges]
        begun = count
        if edges > LONGEST:
            for i in range(edges):
                faces[count, 0], faces[count, 1], faces[count, 2] = corner[(i + 1) % edges], corner[i], middle + rim
                beside[begin + i] = count
                count += 1
        else:
            third, costs[rim] = _thirds(vertices[corner], normal[begin : begin + edges])
            stack[0, 0], stack[0, 1] = 0, edges - 1
            height = 1
            while height > 0:
                height -= 1
                i, j = stack[height]
                if j == i + 1:
                    continue
                k = third[i, j]
                faces[count, 0], faces[count, 1], faces[count, 2] = corner[j], corner[k], corner[i]
                if k == i + 1:
                    beside[begin + i] = count
                if j == k + 1:
                    beside[begin + k] = count
                if j == i + edges - 1:
                    beside[begin + j] = count
                count += 1
                stack[height, 0], stack[height, 1] = i, k
                stack[height + 1, 0], stack[height + 1, 1] = k, j
                height += 2
        rims[begun:count] = rim
    return faces[:count], rims[:count], beside, costs


@kernel
def _thirds(corners: NDArray[np.float64], normal: NDArray[np.float64]) -> tuple[NDArray[np.int64], float]:
    """(n, n) third corner of the triangle on the chord from corner i to j > i + 1, in the best filling; its cost."""
    count = len(corners)
    third = np.zeros((count, count), np.int64)
    cost = np.zeros((count, count))
    # The normal behind each chord: of the face beside it on the rim, else of its triangle.
    behind = np.zeros((count, count, 3))
    for i in range(count - 1):
        behind[i, i + 1] = normal[i]
    for width in range(2, count):
        for i in range(count - width):
            j = i + width
            cost[i, j] = np.inf
            for k in range(i + 1, j):
                facing = upright(corners[j], corners[k], corners[i])
                bend = cost[i, k] + cost[k, j]
                bend += turn(corners[i], corners[k], behind[i, k], facing)
                bend += turn(corners[k], corners[j], behind[k, j], facing)
                if width == count - 1:
                    bend += turn(corners[j], corners[i], normal[j], facing)
                if bend < cost[i, j]:
                    cost[i, j], third[i, j] = bend, k
                    behind[i, j, 0], behind[i, j, 1], behind[i, j, 2] = facing
    return third, cost[0, count - 1]


@kernel
def upright(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> tuple[float, float, float]:
    """Unit normal of a triangle; zero for one without area."""
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = math.sqrt(x * x + y * y + z * z)
    if length > 0:
        x, y, z = x / length, y / length, z / length
    return x, y, z


@kernel
def turn(
    a: NDArray[np.float64], b: NDArray[np.float64], one: NDArray[np.float64], two: tuple[float, float, float]
) -> float:
    """Length of the edge from a to b times the angle between the unit normals of its faces."""
    x, y, z = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    cosine = one[0] * two[0] + one[1] * two[1] + one[2] * two[2]
    return math.sqrt(x * x + y * y + z * z) * math.acos(min(max(cosine, -1.0), 1.0))
