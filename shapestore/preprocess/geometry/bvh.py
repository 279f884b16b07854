"""Exact nearest points of a triangle soup: a binary tree of boxes over triangles, each flat in a frame of its own.

A distance is the least of the distances to all triangles, each computed by `squared_to`, whatever part of the tree a
search visits: boxes are widened by more than rounding can take from a distance. So the answers to a position do not
depend on where a search starts, on the other positions of a batch, or on their order; of equally near faces the
first is nearest.

Kernels of other modules search with `nearest` and `foot` on `TriangleTree.arrays`.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.bvh_tree import LEAF, ROUNDING, Tree, build
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import LARGEST_RADIUS
from shapestore.preprocess.geometry.triangle import CORNER, EDGE, INTERIOR, SMALLEST_SQUARE, Flat, squared_to

_NO_FACE: Final = 2**62
_MORTON_CELLS: Final = 1024
_MORTON_SHIFT: Final = 33  # of a code of 30 bits: what lies below numbers the positions
_NUMBER_BITS: Final = (1 << _MORTON_SHIFT) - 1


class Stack(NamedTuple):
    """What a search keeps: children to visit, and the squared distances of their boxes."""

    children: NDArray[np.int64]
    gaps: NDArray[np.float64]


class Closest(NamedTuple):
    """The nearest point of a surface for each position."""

    squared: NDArray[np.float64]
    """(n,) squared distance."""
    faces: NDArray[np.int64]
    """(n,) the first of the nearest faces."""
    points: NDArray[np.float64]
    """(n, 3) its nearest point."""


class TriangleTree:
    """Exact distances and nearest points of a triangle soup.

    The build takes O(F log F) time and within 450 bytes a face, of which 250 stay. A search takes O(log F) time where
    the surface is near, O(F) where it is equally far everywhere; a batch of n takes 50 bytes a position besides.

    Parameters
    ----------
    vertices
        (V, 3) float64.
    faces
        (F, 3) int64, indices into `vertices`; slivers, segments and points among them are measured as such.

    Raises
    ------
    InputRefused
        As `refuse_unsafe`; NOT_FINITE also for a coordinate beyond 1e50 of a vertex that a face uses.
    """

    def __init__(self, vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> None:
        vertices = np.ascontiguousarray(vertices, dtype=np.float64)
        faces = np.ascontiguousarray(faces, dtype=np.int64)
        refuse_unsafe(Mesh(vertices, faces))
        # An unused vertex may be anything, so that only a second look can tell.
        if not np.abs(vertices).max() <= LARGEST_RADIUS and np.abs(vertices[faces]).max() > LARGEST_RADIUS:
            raise InputRefused(Reason.NOT_FINITE, f"coordinates beyond {LARGEST_RADIUS:g} are not computed with")
        self.arrays: Tree = build(vertices, faces)

    def closest(self, points: ArrayLike) -> Closest:
        """Nearest face and point of the surface for each position.

        Parameters
        ----------
        points
            (n, 3) finite positions, in the unit of the mesh.

        Returns
        -------
        Closest
            float64; the error of a distance is below 1e-14 of itself and of the longest edge nearby.

        Raises
        ------
        InputRefused
            As `finite_positions`.
        """
        positions = finite_positions(points)
        squared, rows = _nearest_rows(self.arrays, positions, morton_order(positions), np.inf)
        return Closest(squared, self.arrays.faces[rows], _feet(self.arrays, positions, rows))

    def squared_distance(self, points: ArrayLike, bound: float = math.inf) -> NDArray[np.float64]:
        """Squared distance from each position to the surface, or `bound` where that is less.

        Parameters
        ----------
        points
            (n, 3) finite positions, in the unit of the mesh.
        bound
            Squared distance beyond which the surface is of no interest: a small one saves time.

        Returns
        -------
        (n,) float64
            The distances of `closest`.

        Raises
        ------
        InputRefused
            As `finite_positions`.
        """
        positions = finite_positions(points)
        squared, _ = _nearest_rows(self.arrays, positions, morton_order(positions), bound)
        return np.asarray(squared)


def finite_positions(points: ArrayLike) -> NDArray[np.float64]:
    """Positions as contiguous float64, refused where NaN, infinite or beyond 1e50: searches answer those with noise."""
    positions = np.ascontiguousarray(points, dtype=np.float64)
    if not (np.abs(positions) <= LARGEST_RADIUS).all():
        raise InputRefused(Reason.NOT_FINITE, "positions without a distance")
    return positions


def morton_order(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) an order of (n, 3) finite positions in which neighbours follow each other: along the Z curve.

    Morton, "A computer oriented geodetic data base and a new technique in file sequencing", IBM 1966; 1024 cells
    along the longest side of the bounding box, O(n log n).
    """
    # The number behind the code: sorting one array is ten times faster than asking for the order of another.
    return np.sort(_morton_keys(positions)) & _NUMBER_BITS


@kernel
def new_stack(tree: Tree) -> Stack:
    """Room for the searches of one thread in a tree."""
    return Stack(np.empty(tree.depth + 1, np.int64), np.empty(tree.depth + 1))


@kernel
def flat(tree: Tree, row: int) -> Flat:
    """The triangle of a row, for `squared_to`."""
    f = tree.frames[row]
    return Flat(
        f[0], f[1], f[2], f[3], f[4], f[5], f[6], f[7], f[8], f[9], f[10], f[11], f[12], f[13], f[14], f[15], f[16]
    )


@kernel
def foot(tree: Tree, row: int, x: float, y: float, z: float) -> tuple[float, float, float, int]:
    """The point of a row's triangle that is nearest to a position, and the feature of the face that it lies on.

    Returns
    -------
    tuple
        Three coordinates, and INTERIOR, EDGE + k or CORNER + k, where k counts the corners of the face.
    """
    f = flat(tree, row)
    px, py, pz = x - f.origin_x, y - f.origin_y, z - f.origin_z
    u = px * f.along_x + py * f.along_y + pz * f.along_z
    v = px * f.across_x + py * f.across_y + pz * f.across_z
    is_left = u < f.apex
    s, base, inverse = (u, f.apex, f.left) if is_left else (f.length - u, f.length - f.apex, f.right)
    turn = tree.turns[row]
    corner, side = (turn, turn + 2) if is_left else (turn + 1, turn + 1)
    feature = INTERIOR
    if v <= 0:
        feature = EDGE + turn if s > 0 else CORNER + corner % 3
        s, v = max(s, 0.0), 0.0
    elif not v * base < s * f.height:
        t = min(max((s * base + v * f.height) * inverse, 0.0), 1.0)
        feature = EDGE + side % 3
        if t <= 0:
            feature = CORNER + corner % 3
        elif t >= 1:
            feature = CORNER + (turn + 2) % 3
        s, v = t * base, t * f.height
    u = s if is_left else f.length - s
    return (
        f.origin_x + u * f.along_x + v * f.across_x,
        f.origin_y + u * f.along_y + v * f.across_y,
        f.origin_z + u * f.along_z + v * f.across_z,
        feature,
    )


@kernel
def nearest(tree: Tree, stack: Stack, x: float, y: float, z: float, bound: float, row: int) -> tuple[float, int]:
    """Search the nearest triangle to a position, nearest boxes first.

    Parameters
    ----------
    tree, stack
        `TriangleTree.arrays`, and the `new_stack` of the calling thread.
    x, y, z
        A finite position.
    bound
        Squared distance beyond which nothing is searched: any, math.inf, or that of `row`. A near triangle makes
        the search short: the one that was found for a neighbour is a good start.
    row
        A row whose triangle is at the squared distance `bound` by `squared_to`, or -1.

    Returns
    -------
    squared
        Squared distance of the nearest triangle, at most `bound`.
    row
        Its row, of equally near ones that of the first face; `tree.faces[row]` is the face, `foot` its nearest
        point. -1 if none is as near as `bound`.
    """
    boxes, links = tree.boxes, tree.links
    best = bound
    limit = best * (1 + ROUNDING)
    face = tree.faces[row] if row >= 0 else _NO_FACE
    child = tree.root
    top = 0
    while True:
        if child >= 0:
            near, far = links[child, 0], links[child, 1]
            near_gap = _gap(boxes, child, 0, x, y, z)
            far_gap = _gap(boxes, child, 1, x, y, z)
            if far_gap < near_gap:
                near, far = far, near
                near_gap, far_gap = far_gap, near_gap
            if near_gap <= limit:
                if far_gap <= limit:
                    stack.children[top] = far
                    stack.gaps[top] = far_gap
                    top += 1
                child = near
                continue
        else:
            for other in range(LEAF * ~child, LEAF * ~child + LEAF):
                squared = squared_to(flat(tree, other), x, y, z)
                if squared < best or (squared == best and tree.faces[other] < face):
                    best = squared
                    limit = best * (1 + ROUNDING)
                    face = tree.faces[other]
                    row = other
        while top > 0 and stack.gaps[top - 1] > limit:
            top -= 1
        if top == 0:
            return best, row
        top -= 1
        child = stack.children[top]


@kernel
def _gap(boxes: NDArray[np.float64], node: int, side: int, x: float, y: float, z: float) -> float:
    """Squared distance from a position to the box of a child."""
    dx: float = max(boxes[node, side, 0] - x, x - boxes[node, side, 3], 0.0)
    dy: float = max(boxes[node, side, 1] - y, y - boxes[node, side, 4], 0.0)
    dz: float = max(boxes[node, side, 2] - z, z - boxes[node, side, 5], 0.0)
    return dx * dx + dy * dy + dz * dz


@kernel
def _nearest_rows(
    tree: Tree, points: NDArray[np.float64], order: NDArray[np.int64], bound: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(n,) squared distances and (n,) rows of the nearest triangles, searched from one position to the next."""
    squared = np.empty(len(points))
    rows = np.empty(len(points), np.int64)
    stack = new_stack(tree)
    last = 0
    for point in order:
        x, y, z = points[point, 0], points[point, 1], points[point, 2]
        start, row = squared_to(flat(tree, last), x, y, z), last
        if start > bound:
            start, row = bound, -1
        squared[point], row = nearest(tree, stack, x, y, z, start, row)
        rows[point] = row
        if row >= 0:
            last = row
    return squared, rows


@kernel
def _feet(tree: Tree, points: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 3) nearest point of each position's triangle."""
    feet = np.empty((len(points), 3))
    for point in range(len(points)):
        x, y, z, _ = foot(tree, rows[point], points[point, 0], points[point, 1], points[point, 2])
        feet[point, 0], feet[point, 1], feet[point, 2] = x, y, z
    return feet


@kernel
def _morton_keys(positions: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) the bits of three cell numbers, interleaved, above the number of the position."""
    keys = np.arange(len(positions))
    if len(positions) == 0:
        return keys
    low = [positions[:, axis].min() for axis in range(3)]
    extent = max([positions[:, axis].max() - low[axis] for axis in range(3)])
    scale = (_MORTON_CELLS - 1) / extent if extent > SMALLEST_SQUARE else 0.0
    for row in range(len(positions)):
        for axis in range(3):
            bits = int((positions[row, axis] - low[axis]) * scale)
            bits = (bits | (bits << 16)) & 0x030000FF
            bits = (bits | (bits << 8)) & 0x0300F00F
            bits = (bits | (bits << 4)) & 0x030C30C3
            bits = (bits | (bits << 2)) & 0x09249249
            keys[row] |= bits << (axis + _MORTON_SHIFT)
    return keys
