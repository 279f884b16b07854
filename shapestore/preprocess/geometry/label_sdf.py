"""The signed distance of all classes of a label map, and the class at each position."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.bvh import (
    TriangleTree,
    finite_positions,
    flat,
    foot,
    morton_order,
    nearest,
    new_stack,
)
from shapestore.preprocess.geometry.bvh_tree import Tree
from shapestore.preprocess.geometry.closed_mesh import pseudonormal
from shapestore.preprocess.geometry.label_owners import MIXED, OwnerMap, rows_with
from shapestore.preprocess.geometry.label_surface import ClassSurface, LabelSurfaces
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.geometry.triangle import squared_to

_SMALLEST: Final = float(np.finfo(np.float32).tiny)  # a depth below it would round to the distance of the outside
_MARGIN: Final = 1e-12  # above the relative rounding of a squared distance
_APART: Final = 1024  # vertices of a class between two landmarks


class FieldValues(NamedTuple):
    """What a field is at n positions: `labels > 0` holds exactly where `sdf < 0`."""

    sdf: NDArray[np.float32]
    """(n,) signed distance to the nearest class, normalised units, negative inside."""
    labels: NDArray[np.int8]
    """(n,) code of the class inside which the position lies deepest, 0 outside all."""


class LabelField:
    """The union of class surfaces as a signed distance field.

    Each class has its exact signed distance, negative inside; the field is the least of them. On a wall that two
    classes share it is therefore 0, and it does not measure the distance to the outer surface of the union.

    The voxels around a position tell which class it is inside of, unless a surface passes between them; there the
    pseudonormals of the surfaces decide. One decision makes both the sign and the label.

    Parameters
    ----------
    surfaces
        Of a label map with codes up to 127. The trees of their faces take about 250 bytes a face.
    frame
        Brings world positions into normalised coordinates.

    Raises
    ------
    ValueError
        A code that int8 labels do not hold.
    """

    def __init__(self, surfaces: LabelSurfaces, frame: Frame) -> None:
        self.codes: tuple[int, ...] = tuple(surface.code for surface in surfaces.classes)
        if self.codes[-1] > 127:
            raise ValueError(f"labels hold codes up to 127, got {self.codes[-1]}")
        self._owners = OwnerMap(surfaces, frame)
        self._classes = tuple(_ClassDistance(surface, frame) for surface in surfaces.classes)
        self._landmarks = cKDTree(np.concatenate([part.vertices[::_APART] for part in self._classes]))

    def labels(self, points: ArrayLike) -> NDArray[np.int8]:
        """The class at each position, as `signed` gives it, without distances where none is needed.

        Parameters
        ----------
        points
            (n, 3) finite positions, normalised coordinates.

        Returns
        -------
        (n,) int8
            0 outside all classes.

        Raises
        ------
        InputRefused
            NOT_FINITE for a NaN or infinite position.
        """
        positions = finite_positions(points)
        labels = self._owners.cells(positions)
        mixed = np.flatnonzero(labels == MIXED)
        labels[mixed] = self._between(positions[mixed])[1]
        return labels.view(np.int8)

    def signed(self, points: ArrayLike) -> FieldValues:
        """Signed distance and class at each position.

        Parameters
        ----------
        points
            (n, 3) finite positions, normalised coordinates.

        Returns
        -------
        FieldValues
            Distances in normalised units; of classes at one distance, the lowest code.

        Raises
        ------
        InputRefused
            NOT_FINITE for a NaN or infinite position.
        """
        positions = finite_positions(points)
        labels = self._owners.cells(positions)
        squared = np.full(len(positions), np.inf)
        mixed = np.flatnonzero(labels == MIXED)
        for part in self._classes:
            rows = np.flatnonzero(labels == part.code)
            within = positions[rows]
            squared[rows] = part.nearer(within, morton_order(within), squared[rows])
        squared[mixed], labels[mixed] = self._between(positions[mixed])
        outside = np.flatnonzero(labels == 0)
        squared[outside] = self._to_union(positions[outside], squared[outside])
        distance = np.sqrt(squared)
        inside = labels > 0
        distance[inside] = -np.maximum(distance[inside], _SMALLEST)
        return FieldValues(distance.astype(np.float32), labels.view(np.int8))

    def _between(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Squared distance and class where surfaces pass; outside of all, to the nearest of those that do."""
        depth, gap = np.full(len(points), -1.0), np.full(len(points), np.inf)
        labels = np.zeros(len(points), np.uint8)
        corners = self._owners.corners(points)
        for part in self._classes:
            rows = rows_with(corners, part.code)
            squared, inside = part.signed(points[rows])
            deeper = inside & (squared > depth[rows])
            depth[rows[deeper]], labels[rows[deeper]] = squared[deeper], part.code
            gap[rows] = np.minimum(gap[rows], np.where(inside, np.inf, squared))
        return np.where(labels > 0, depth, gap), labels

    def _to_union(self, points: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
        """Squared distance to the nearest class, or the bound where that is less."""
        # Far from all classes most of a search goes into finding out roughly how far.
        roughly, _ = self._landmarks.query(points)
        squared = np.minimum(bounds, roughly**2 * (1 + _MARGIN))
        order = morton_order(points)
        for part in self._classes:
            squared = part.nearer(points, order, squared)
        return squared


class _ClassDistance:
    """Exact distance to one closed surface, in normalised coordinates."""

    def __init__(self, surface: ClassSurface, frame: Frame) -> None:
        self.code = surface.code
        self._solid = surface.solid
        self.vertices = np.ascontiguousarray(frame.apply(surface.mesh.vertices))
        self._tree: Tree = TriangleTree(self.vertices, surface.mesh.faces).arrays

    def nearer(
        self, points: NDArray[np.float64], order: NDArray[np.int64], bounds: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """(n,) squared distance of each position, or its bound where that is less; any order of search will do."""
        return np.asarray(_nearer(self._tree, points, order, bounds))

    def signed(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Squared distance of each position, and whether it is inside."""
        mesh, solid = self._solid.mesh, self._solid
        squared, inside = _signed(
            self._tree, self.vertices, mesh.faces, solid.starts, solid.rings, points, morton_order(points)
        )
        return squared, inside


@kernel
def _nearer(
    tree: Tree, points: NDArray[np.float64], order: NDArray[np.int64], bounds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared distances that are less than their bounds, else the bounds."""
    squared = np.empty(len(points))
    stack = new_stack(tree)
    last = 0
    for point in order:
        x, y, z = points[point, 0], points[point, 1], points[point, 2]
        start, row = squared_to(flat(tree, last), x, y, z), last
        if start > bounds[point]:
            start, row = bounds[point], -1
        squared[point], row = nearest(tree, stack, x, y, z, start, row)
        if row >= 0:
            last = row
    return squared


@kernel
def _signed(
    tree: Tree,
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    starts: NDArray[np.int64],
    rings: NDArray[np.int64],
    points: NDArray[np.float64],
    order: NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Squared distances, and which positions are inside."""
    squared = np.empty(len(points))
    inside = np.empty(len(points), np.bool_)
    stack = new_stack(tree)
    row = 0
    for point in order:
        x, y, z = points[point, 0], points[point, 1], points[point, 2]
        squared[point], row = nearest(tree, stack, x, y, z, squared_to(flat(tree, row), x, y, z), row)
        a, b, c, feature = foot(tree, row, x, y, z)
        u, v, w = pseudonormal(vertices, faces, starts, rings, tree.faces[row], feature)
        inside[point] = (x - a) * u + (y - b) * v + (z - c) * w < 0
    return squared, inside
