"""Closed meshes: which faces meet at a vertex, and the normals that tell inside from outside."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.triangle import CORNER, EDGE


@dataclass(frozen=True, eq=False)
class ClosedMesh:
    """A mesh in which every edge has two faces that agree on outside.

    Attributes
    ----------
    mesh
        Outward: its volume is positive.
    starts
        (V + 1,) int64: the faces at vertex v are `rings[starts[v]:starts[v + 1]]`.
    rings
        (3 F,) int64 faces.
    """

    mesh: Mesh
    starts: NDArray[np.int64]
    rings: NDArray[np.int64]


def closed_mesh(mesh: Mesh, what: str) -> ClosedMesh:
    """Check that a mesh is closed and outward, in time linear in its faces.

    Parameters
    ----------
    mesh
        Any mesh; memory: 32 bytes a face on top of it.
    what
        Its name in a refusal.

    Raises
    ------
    InputRefused
        As `refuse_unsafe`; NOT_CLOSED where it has a border, an edge of more than two faces, or no positive volume.
    """
    refuse_unsafe(mesh)
    starts, rings = _rings(mesh.faces, len(mesh.vertices))
    if not _edges_pair(mesh.faces, starts, rings):
        raise InputRefused(Reason.NOT_CLOSED, f"{what} has a border")
    volume = signed_volume(mesh)
    if not volume > 0:
        raise InputRefused(Reason.NOT_CLOSED, f"{what} has the volume {volume:g}")
    return ClosedMesh(mesh, starts, rings)


def signed_volume(mesh: Mesh) -> float:
    """Signed volume of a closed mesh by the divergence theorem, > 0 for an outward one."""
    return float(_volume(mesh.vertices, mesh.faces))


@kernel
def pseudonormal(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    starts: NDArray[np.int64],
    rings: NDArray[np.int64],
    face: int,
    feature: int,
) -> tuple[float, float, float]:
    """The outward normal at a point of a closed mesh that tells the side of every position nearest to it.

    Within a face it is the face's normal, on an edge the sum of those of both faces, at a vertex that of all its
    faces, each times its angle. A position is inside exactly if the way to it from the point goes against it
    (Baerentzen and Aanaes, IEEE TVCG 11(3), 2005).

    Parameters
    ----------
    vertices, faces, starts, rings
        Of a `ClosedMesh`; the vertices may have been moved by a similarity.
    face, feature
        The face that the point is on and the part of it, as of `bvh.foot`.

    Returns
    -------
    tuple of float
        Its components; of any length, for the side is all that it tells.
    """
    if feature >= CORNER:
        x, y, z = _around(vertices, faces, starts, rings, faces[face, feature - CORNER])
        return x, y, z
    x, y, z, _ = _normal(vertices, faces, face, 0)
    if feature >= EDGE:
        k = feature - EDGE
        other = _across(faces, starts, rings, faces[face, k], faces[face, (k + 1) % 3])
        u, v, w, _ = _normal(vertices, faces, other, 0)
        x, y, z = x + u, y + v, z + w
    return x, y, z


@kernel
def _rings(faces: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counting sort of the faces by vertex."""
    starts = np.zeros(count + 1, np.int64)
    for face in range(len(faces)):
        for k in range(3):
            starts[faces[face, k] + 1] += 1
    starts = np.cumsum(starts)
    filled = starts[:-1].copy()
    rings = np.empty(3 * len(faces), np.int64)
    for face in range(len(faces)):
        for k in range(3):
            vertex = faces[face, k]
            rings[filled[vertex]] = face
            filled[vertex] += 1
    return starts, rings


@kernel
def _edges_pair(faces: NDArray[np.int64], starts: NDArray[np.int64], rings: NDArray[np.int64]) -> bool:
    """Whether every directed edge occurs once, and once the other way."""
    for face in range(len(faces)):
        for k in range(3):
            a, b = faces[face, k], faces[face, (k + 1) % 3]
            along, against = 0, 0
            for at in range(starts[a], starts[a + 1]):
                other = faces[rings[at]]
                for m in range(3):
                    if other[m] == a:
                        along += other[(m + 1) % 3] == b
                        against += other[(m + 2) % 3] == b
            if along != 1 or against != 1:
                return False
    return True


@kernel
def _volume(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> float:
    """Sum of the tetrahedra on all faces."""
    # About the first vertex: at world offsets the tetrahedra about the origin would cancel digits.
    x, y, z = vertices[0]
    total = 0.0
    for face in range(len(faces)):
        a, b, c = vertices[faces[face, 0]], vertices[faces[face, 1]], vertices[faces[face, 2]]
        ax, ay, az = a[0] - x, a[1] - y, a[2] - z
        bx, by, bz = b[0] - x, b[1] - y, b[2] - z
        cx, cy, cz = c[0] - x, c[1] - y, c[2] - z
        total += ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    return total / 6


@kernel
def _around(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    starts: NDArray[np.int64],
    rings: NDArray[np.int64],
    vertex: int,
) -> tuple[float, float, float]:
    """Sum of the normals of the faces at a vertex, each times its angle there."""
    x, y, z = 0.0, 0.0, 0.0
    for at in range(starts[vertex], starts[vertex + 1]):
        face = rings[at]
        corner = 0
        while faces[face, corner] != vertex:
            corner += 1
        u, v, w, angle = _normal(vertices, faces, face, corner)
        x, y, z = x + angle * u, y + angle * v, z + angle * w
    return x, y, z


@kernel
def _normal(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], face: int, corner: int
) -> tuple[float, float, float, float]:
    """Unit normal of a face, zero for one without area, and its angle at a corner."""
    a = vertices[faces[face, corner]]
    b, c = vertices[faces[face, (corner + 1) % 3]], vertices[faces[face, (corner + 2) % 3]]
    ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = math.sqrt(x * x + y * y + z * z)
    if length == 0:
        return 0.0, 0.0, 0.0, 0.0
    return x / length, y / length, z / length, math.atan2(length, ux * vx + uy * vy + uz * vz)


@kernel
def _across(faces: NDArray[np.int64], starts: NDArray[np.int64], rings: NDArray[np.int64], a: int, b: int) -> int:
    """The face that has the edge from b to a."""
    for at in range(starts[a], starts[a + 1]):
        face = rings[at]
        for m in range(3):
            if faces[face, m] == b and faces[face, (m + 1) % 3] == a:
                return int(face)
    raise ValueError("the mesh is not closed")
