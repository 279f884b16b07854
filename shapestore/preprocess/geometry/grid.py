"""Regular grids over the cube [-1, 1]^3: occupancy and unsigned distance fields.

Cell i of G has its centre at p(i) = -1 + (i + 0.5) * 2 / G on each axis; arrays are indexed (x, y, z).
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.bvh import Stack, TriangleTree, flat, foot, nearest, new_stack
from shapestore.preprocess.geometry.bvh_tree import LEAF, ROUNDING, Tree
from shapestore.preprocess.geometry.distance import cloud_distance
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.triangle import Flat, squared_to

_BLOCK: Final = 8  # cells along the edge of a block
_MANY: Final = 64  # leaves of a tree, above which a block is cut in eight

Point = tuple[float, float, float]


def cell_centres(size: int) -> NDArray[np.float64]:
    """(size^3, 3) float64 centres of all cells, z fastest: values read there reshape to (x, y, z)."""
    axis = _centres(size)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


def _centres(size: int) -> NDArray[np.float64]:
    """(size,) float64 coordinates of the cell centres along any axis."""
    return np.asarray(-1 + (np.arange(size) + 0.5) * (2 / size), dtype=np.float64)


def occupancy_grid(points: ArrayLike, size: int, dilate: int) -> NDArray[np.uint8]:
    """Mark the cells that hold a point, and their face neighbours `dilate` times over.

    Parameters
    ----------
    points
        (n, 3) normalised positions in [-1, 1] + 1e-6, n >= 1; a point on the upper border is in the last cell.
    size
        Cells along each axis, >= 1.
    dilate
        Number of binary dilations by the six face neighbours, >= 0.

    Returns
    -------
    (size, size, size) uint8
        1 where occupied, else 0.

    Raises
    ------
    InputRefused
        TOO_FEW_POINTS without points; RULE for a position outside the cube.
    """
    positions = np.asarray(points, np.float64)
    if len(positions) == 0:
        raise InputRefused(Reason.TOO_FEW_POINTS, "a grid needs at least one point")
    # Written so that NaN, which compares false, is refused as well.
    if not (np.abs(positions) <= 1 + 1e-6).all():
        raise InputRefused(Reason.RULE, "grid points must be normalised to [-1, 1]")
    cells = np.clip(np.floor((positions + 1) / (2 / size)).astype(np.int64), 0, size - 1)
    occupied = np.zeros((size, size, size), bool)
    occupied[cells[:, 0], cells[:, 1], cells[:, 2]] = True
    if dilate > 0:  # to the library, zero iterations means: until nothing changes
        occupied = binary_dilation(occupied, iterations=dilate)
    return occupied.astype(np.uint8)


def edt_udf_grid(points: ArrayLike, size: int, dilate: int) -> NDArray[np.float32]:
    """Distance from each cell centre to the nearest occupied cell's centre.

    The field of caches made from occupancy: 0 throughout the dilated shell, and elsewhere off by up to the
    shell's thickness.

    Parameters
    ----------
    points, size, dilate
        As in `occupancy_grid`.

    Returns
    -------
    (size, size, size) float32
        >= 0, normalised units.

    Raises
    ------
    InputRefused
        As `occupancy_grid`.
    """
    empty = occupancy_grid(points, size, dilate) == 0
    return np.asarray(distance_transform_edt(empty, sampling=2 / size), dtype=np.float32)


def surface_udf_grid(mesh: Mesh, size: int) -> NDArray[np.float32]:
    """Exact distance from each cell centre to the surface.

    The values of `surface_distance` at `cell_centres`, bit by bit, at a fraction of the time: cells are answered by
    blocks, and only triangles that may be nearest to some cell of a block are measured. Memory is that of the grid
    and of the `TriangleTree`.

    Parameters
    ----------
    mesh
        A normalised mesh that passed `clean`.
    size
        Cells along each axis, >= 1.

    Returns
    -------
    (size, size, size) float32
        >= 0, normalised units.

    Raises
    ------
    InputRefused
        As `TriangleTree`.
    """
    return np.asarray(_surface_udf(TriangleTree(mesh.vertices, mesh.faces).arrays, _centres(size)))


def cloud_udf_grid(cloud: ArrayLike, size: int) -> NDArray[np.float32]:
    """(size, size, size) float32 exact distance from each cell centre to the nearest point of a normalised cloud."""
    return cloud_distance(cloud, cell_centres(size)).reshape(size, size, size)


@kernel
def _surface_udf(tree: Tree, axis: NDArray[np.float64]) -> NDArray[np.float32]:
    """The field, block by block; each search begins where the one before it ended."""
    size, half = len(axis), _BLOCK // 2
    field = np.empty((size, size, size), np.float32)
    leaves = np.empty(len(tree.faces) // LEAF, np.int64)
    cells = np.empty((4, _BLOCK**3))
    stack = new_stack(tree)
    row = 0
    for i in range(0, size, _BLOCK):
        for j in range(0, size, _BLOCK):
            for k in range(0, size, _BLOCK):
                done, row = _fill(tree, stack, axis, (i, j, k), _BLOCK, _MANY, row, leaves, cells, field)
                if done:
                    continue
                for x in range(i, min(i + _BLOCK, size), half):
                    for y in range(j, min(j + _BLOCK, size), half):
                        for z in range(k, min(k + _BLOCK, size), half):
                            start = (x, y, z)
                            _, row = _fill(tree, stack, axis, start, half, len(leaves), row, leaves, cells, field)
    return field


@kernel
def _fill(
    tree: Tree,
    stack: Stack,
    axis: NDArray[np.float64],
    start: tuple[int, int, int],
    width: int,
    most: int,
    row: int,
    leaves: NDArray[np.int64],
    cells: NDArray[np.float64],
    field: NDArray[np.float32],
) -> tuple[bool, int]:
    """Fill a block of a field, unless more than `most` leaves may be nearest; returns whether, and the middle's row."""
    i, j, k = start
    size = len(axis)
    end_i, end_j, end_k = min(i + width, size), min(j + width, size), min(k + width, size)
    low, high = (axis[i], axis[j], axis[k]), (axis[end_i - 1], axis[end_j - 1], axis[end_k - 1])
    x, y, z = (low[0] + high[0]) / 2, (low[1] + high[1]) / 2, (low[2] + high[2]) / 2
    _, row = nearest(tree, stack, x, y, z, squared_to(flat(tree, row), x, y, z), row)
    witness_x, witness_y, witness_z, _ = foot(tree, row, x, y, z)
    witness = (witness_x, witness_y, witness_z)
    count = _reachable(tree, stack, low, high, row, witness, most, leaves)
    if count > most:
        return False, row
    total = (end_i - i) * (end_j - j) * (end_k - k)
    at = 0
    for a in range(i, end_i):
        for b in range(j, end_j):
            for c in range(k, end_k):
                cells[0, at], cells[1, at], cells[2, at], cells[3, at] = axis[a], axis[b], axis[c], np.inf
                at += 1
    for leaf in leaves[:count]:
        for other in range(LEAF * leaf, LEAF * leaf + LEAF):
            _lower(flat(tree, other), cells[0, :total], cells[1, :total], cells[2, :total], cells[3, :total])
    at = 0
    for a in range(i, end_i):
        for b in range(j, end_j):
            for c in range(k, end_k):
                field[a, b, c] = math.sqrt(cells[3, at])
                at += 1
    return True, row


@kernel
def _reachable(
    tree: Tree, stack: Stack, low: Point, high: Point, row: int, witness: Point, most: int, leaves: NDArray[np.int64]
) -> int:
    """Collect leaves that may be nearer to some position of a block than a witness on a row's triangle, or too many.

    The squared distance to a box less the one to a point is a sum over the axes, and concave along each: a least
    value of functions without curvature. So it is least at an end of the block, and where the sum of these is
    positive the witness, a point of the surface, is nearer to all of the block than all of the box.
    """
    reach = flat(tree, row).length
    for axis in range(3):
        reach += abs(low[axis]) + abs(high[axis]) + abs(witness[axis])
    slack = 10 * ROUNDING * reach * reach  # a witness lies on the surface, and squares are what they are, to rounding
    count = 0
    stack.children[0] = tree.root
    top = 1
    while top > 0 and count <= most:
        top -= 1
        node = stack.children[top]
        if node < 0:
            leaves[count] = ~node
            count += 1
            continue
        for side in range(2):
            box = tree.boxes[node, side]
            lead = _lead(box[0], box[3], low[0], high[0], witness[0])
            lead += _lead(box[1], box[4], low[1], high[1], witness[1])
            lead += _lead(box[2], box[5], low[2], high[2], witness[2])
            if lead <= slack:
                stack.children[top] = tree.links[node, side]
                top += 1
    return count


@kernel
def _lead(box_low: float, box_high: float, low: float, high: float, witness: float) -> float:
    """Least squared distance to [box_low, box_high], less that to the witness, over all of [low, high]."""
    below, above = max(box_low - low, low - box_high, 0.0), max(box_low - high, high - box_high, 0.0)
    return min(below * below - (low - witness) ** 2, above * above - (high - witness) ** 2)


@kernel
def _lower(
    triangle: Flat,
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    z: NDArray[np.float64],
    squared: NDArray[np.float64],
) -> None:
    """Lower the squared distances of positions to those from a triangle: the loop that compilers vectorise."""
    for at in range(len(squared)):
        squared[at] = min(squared[at], squared_to(triangle, x[at], y[at], z[at]))
