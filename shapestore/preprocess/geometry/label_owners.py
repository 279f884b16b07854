"""Which classes a position can be inside of, read from the voxels around it."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.label_fields import SEVERAL
from shapestore.preprocess.geometry.label_surface import ClassSurface, LabelSurfaces
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame

MIXED: Final = SEVERAL
"""In place of a class: the corners of the cell have different owners, or one corner has several."""


class OwnerMap:
    """The owners of the voxel centres around a position.

    Surfaces of marching cubes pass only through cells whose eight corners are not all on one side. In any other cell
    the corners tell inside from outside without a look at the surface.

    Parameters
    ----------
    surfaces
        Whose `owners` are read; beyond them is background.
    frame
        Of the positions.
    """

    def __init__(self, surfaces: LabelSurfaces, frame: Frame) -> None:
        self._owners = surfaces.owners
        inverse = np.linalg.inv(surfaces.affine)
        self._turn = np.ascontiguousarray(inverse[:3, :3] / frame.scale)
        self._shift = np.ascontiguousarray(inverse[:3, :3] @ frame.shift + inverse[:3, 3])

    def cells(self, points: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(n,) the one owner of all corners of the cell that each (n, 3) position is in, 0 for none, or `MIXED`."""
        return np.asarray(_cells(self._owners, self._turn, self._shift, points))

    def corners(self, points: NDArray[np.float64]) -> NDArray[np.uint8]:
        """(n, 8) owners of the corners of the cell that each (n, 3) position is in."""
        return np.asarray(_corners(self._owners, self._turn, self._shift, points))

    def exposed(self, surface: ClassSurface, frame: Frame) -> Mesh:
        """The faces of a class that have background within a voxel: a corner of their cell without owner."""
        mesh = surface.mesh
        bare = _bare(self._owners, self._turn, self._shift, frame.apply(mesh.vertices), mesh.faces)
        return Mesh(mesh.vertices, mesh.faces[bare])


@kernel
def rows_with(corners: NDArray[np.uint8], code: int) -> NDArray[np.int64]:
    """The rows of (n, 8) owners whose cell the surface of a class may pass: one corner is its own, or has several."""
    rows = np.empty(len(corners), np.int64)
    count = 0
    for row in range(len(corners)):
        for corner in range(8):
            if corners[row, corner] == code or corners[row, corner] == SEVERAL:
                rows[count] = row
                count += 1
                break
    return rows[:count]


@kernel
def _cells(
    owners: NDArray[np.uint8], turn: NDArray[np.float64], shift: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """One owner, or `MIXED`."""
    found = np.empty(len(points), np.uint8)
    for row in range(len(points)):
        x, y, z = _cell(turn, shift, points[row])
        first = _owner(owners, x, y, z)
        for corner in range(1, 8):
            if _owner(owners, x + corner // 4, y + corner // 2 % 2, z + corner % 2) != first:
                first = MIXED
                break
        found[row] = first
    return found


@kernel
def _corners(
    owners: NDArray[np.uint8], turn: NDArray[np.float64], shift: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """All eight owners."""
    found = np.empty((len(points), 8), np.uint8)
    for row in range(len(points)):
        x, y, z = _cell(turn, shift, points[row])
        for corner in range(8):
            found[row, corner] = _owner(owners, x + corner // 4, y + corner // 2 % 2, z + corner % 2)
    return found


@kernel
def _bare(
    owners: NDArray[np.uint8],
    turn: NDArray[np.float64],
    shift: NDArray[np.float64],
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Whether a corner of the cell that holds the middle of each face has no owner."""
    bare = np.zeros(len(faces), np.bool_)
    middle = np.empty(3)
    for face in range(len(faces)):
        for axis in range(3):
            a, b, c = vertices[faces[face, 0], axis], vertices[faces[face, 1], axis], vertices[faces[face, 2], axis]
            middle[axis] = (a + b + c) / 3
        x, y, z = _cell(turn, shift, middle)
        for corner in range(8):
            if _owner(owners, x + corner // 4, y + corner // 2 % 2, z + corner % 2) == 0:
                bare[face] = True
                break
    return bare


@kernel
def _cell(turn: NDArray[np.float64], shift: NDArray[np.float64], point: NDArray[np.float64]) -> tuple[int, int, int]:
    """Index of the lowest corner of a position's cell."""
    x = turn[0, 0] * point[0] + turn[0, 1] * point[1] + turn[0, 2] * point[2] + shift[0]
    y = turn[1, 0] * point[0] + turn[1, 1] * point[1] + turn[1, 2] * point[2] + shift[1]
    z = turn[2, 0] * point[0] + turn[2, 1] * point[1] + turn[2, 2] * point[2] + shift[2]
    return math.floor(x), math.floor(y), math.floor(z)


@kernel
def _owner(owners: NDArray[np.uint8], x: int, y: int, z: int) -> int:
    """The owner of a voxel, none beyond the volume."""
    if 0 <= x < owners.shape[0] and 0 <= y < owners.shape[1] and 0 <= z < owners.shape[2]:
        return int(owners[x, y, z])
    return 0
