"""The tree of boxes over triangles: its arrays, and how it is built."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.triangle import SMALLEST_SQUARE, flatten

LEAF: Final = 2
"""Rows of `Tree` a leaf."""

ROUNDING: Final = 1e-14
"""Bound of the relative error of a squared distance, and of the error of a distance in edge lengths: a few dozen
roundings of 1.1e-16 each."""

_BINS: Final = 16


class Tree(NamedTuple):
    """The arrays of a tree. A child is an inner node >= 0, or ~k for the leaf of rows LEAF * k to LEAF * k + 1."""

    frames: NDArray[np.float64]
    """(R, 17) the `Flat` of each row; a leaf with one triangle has it in both rows."""
    faces: NDArray[np.int64]
    """(R,) the face of each row."""
    turns: NDArray[np.int64]
    """(R,) which corner of the face is the origin of its frame; the next one ends its longest edge."""
    boxes: NDArray[np.float64]
    """(N, 2, 6) lowest and highest corner of the boxes around the two children of each inner node."""
    links: NDArray[np.int64]
    """(N, 2) the children of each inner node; those that are inner nodes come after it."""
    root: int
    """The uppermost child."""
    depth: int
    """Inner nodes on the longest way from the root to a leaf."""


@kernel
def build(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> Tree:
    """Split the faces from the root down, then lay them out and grow boxes from the leaves up."""
    face_boxes = _face_boxes(vertices, faces)
    order = np.arange(len(faces))
    links = np.empty((len(faces), 2), np.int64)
    first = np.empty(len(faces), np.int64)  # where each leaf begins in the order; its end is where another one begins
    jobs = np.empty((len(faces) + 1, 5), np.int64)  # start, stop, parent, side, depth
    jobs[0] = (0, len(faces), -1, 0, 0)
    waiting, nodes, leaves, root, depth = 1, 0, 0, 0, 0
    bins, costs = np.empty((_BINS, 7)), np.empty(_BINS)
    while waiting:
        waiting -= 1
        start, stop, parent, side, above = jobs[waiting]
        if stop - start <= LEAF:
            child = ~leaves
            first[leaves] = start
            leaves += 1
        else:
            child = nodes
            nodes += 1
            middle = _split(order[start:stop], face_boxes, bins, costs) + start
            jobs[waiting] = (middle, stop, child, 1, above + 1)
            jobs[waiting + 1] = (start, middle, child, 0, above + 1)
            waiting += 2
            depth = max(depth, above + 1)
        if parent < 0:
            root = child
        else:
            links[parent, side] = child
    rows = np.empty(LEAF * leaves, np.int64)
    for leaf in range(leaves):
        # Left children come first, so that leaves follow each other as their faces do in the order.
        last = (first[leaf + 1] if leaf + 1 < leaves else len(faces)) - 1
        for lane in range(LEAF):
            rows[LEAF * leaf + lane] = order[min(first[leaf] + lane, last)]
    frames, turns = flatten(vertices, faces, rows)
    boxes = _node_boxes(face_boxes, rows, frames[:, 12], links[:nodes])
    return Tree(frames, rows, turns, boxes, links[:nodes].copy(), root, depth)


@kernel
def _face_boxes(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """(F, 6) lowest and highest coordinates of each face."""
    boxes = np.empty((len(faces), 6))
    for face in range(len(faces)):
        for axis in range(3):
            a, b, c = vertices[faces[face, 0], axis], vertices[faces[face, 1], axis], vertices[faces[face, 2], axis]
            boxes[face, axis] = min(a, b, c)
            boxes[face, 3 + axis] = max(a, b, c)
    return boxes


@kernel
def _split(
    order: NDArray[np.int64],
    face_boxes: NDArray[np.float64],
    bins: NDArray[np.float64],
    costs: NDArray[np.float64],
) -> int:
    """Put the faces of the lower part first and return their number, 1 to n - 1.

    The cut across the longest extent of the box centres, between bins of them, at which the areas of both boxes
    times their leaves are least: the surface area heuristic (Wald, "On fast construction of SAH-based bounding
    volume hierarchies", 2007). The middle of the order where no cut separates anything.
    """
    axis, low, extent = _widest(order, face_boxes)
    if extent < SMALLEST_SQUARE:
        return len(order) // 2
    scale = (1 - ROUNDING) * _BINS / extent
    bins[:, 0] = 0
    bins[:, 1:4] = np.inf
    bins[:, 4:] = -np.inf
    for face in order:
        at = int((face_boxes[face, axis] + face_boxes[face, 3 + axis] - low) * scale)
        bins[at, 0] += 1
        for k in range(1, 4):
            bins[at, k] = min(bins[at, k], face_boxes[face, k - 1])
            bins[at, 3 + k] = max(bins[at, 3 + k], face_boxes[face, 2 + k])
    _sweep(bins, costs, True)
    _sweep(bins, costs, False)
    cut = 1 + np.argmin(costs[1:])
    lower, upper = 0, len(order)
    while lower < upper:
        face = order[lower]
        if int((face_boxes[face, axis] + face_boxes[face, 3 + axis] - low) * scale) < cut:
            lower += 1
        else:
            upper -= 1
            order[lower], order[upper] = order[upper], face
    return lower


@kernel
def _widest(order: NDArray[np.int64], face_boxes: NDArray[np.float64]) -> tuple[int, float, float]:
    """The axis along which the doubled box centres extend farthest, their lowest value there and that extent."""
    axis, low, extent = 0, 0.0, -1.0
    for k in range(3):
        least, most = np.inf, -np.inf
        for face in order:
            centre = face_boxes[face, k] + face_boxes[face, 3 + k]
            least, most = min(least, centre), max(most, centre)
        if most - least > extent:
            axis, low, extent = k, least, most - least
    return axis, low, extent


@kernel
def _sweep(bins: NDArray[np.float64], costs: NDArray[np.float64], upward: bool) -> None:
    """Cost of what lies below each cut (upward: set) or above it (added): half the box's area times its leaves."""
    count = 0.0
    low_x, low_y, low_z = np.inf, np.inf, np.inf
    high_x, high_y, high_z = -np.inf, -np.inf, -np.inf
    for step in range(_BINS - 1):
        at = step if upward else _BINS - 1 - step
        count += bins[at, 0]
        low_x, low_y, low_z = min(low_x, bins[at, 1]), min(low_y, bins[at, 2]), min(low_z, bins[at, 3])
        high_x, high_y, high_z = max(high_x, bins[at, 4]), max(high_y, bins[at, 5]), max(high_z, bins[at, 6])
        x, y, z = high_x - low_x, high_y - low_y, high_z - low_z
        cost = (x * y + y * z + z * x) * math.ceil(count / LEAF) if count > 0 else 0.0
        if upward:
            costs[at + 1] = cost
        else:
            costs[at] += cost


@kernel
def _node_boxes(
    face_boxes: NDArray[np.float64],
    rows: NDArray[np.int64],
    lengths: NDArray[np.float64],
    links: NDArray[np.int64],
) -> NDArray[np.float64]:
    """(N, 2, 6) boxes around the children of each node, widened by more than rounding takes from a distance."""
    boxes = np.empty((len(links), 2, 6))
    for node in range(len(links) - 1, -1, -1):
        for side in range(2):
            child = links[node, side]
            for k in range(3):
                low, high = np.inf, -np.inf
                if child >= 0:
                    low = min(boxes[child, 0, k], boxes[child, 1, k])
                    high = max(boxes[child, 0, 3 + k], boxes[child, 1, 3 + k])
                else:
                    for row in range(LEAF * ~child, LEAF * ~child + LEAF):
                        least, most = face_boxes[rows[row], k], face_boxes[rows[row], 3 + k]
                        low = min(low, least - ROUNDING * (lengths[row] + abs(least)))
                        high = max(high, most + ROUNDING * (lengths[row] + abs(most)))
                boxes[node, side, k], boxes[node, side, 3 + k] = low, high
    return boxes
