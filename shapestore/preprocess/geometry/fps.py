"""Farthest-point order: every prefix covers the points as evenly as a greedy choice can."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel

_BLOCK: Final = 64
_CHOSEN: Final = -1.0


def farthest_point_order(points: ArrayLike, count: int) -> NDArray[np.int32]:
    """Order points so that each next one is farthest from all before it.

    Exact greedy selection (Eldar et al., "The farthest point strategy", IEEE TIP 1997; Gonzalez 1985): it
    starts at the point farthest from the centroid, compares squared distances in float64, and gives ties to the
    lowest index. Points that repeat a chosen position come last, each index once. At most `count` times n steps, on
    surfaces a small share of that; memory is 70 bytes a point.

    Parameters
    ----------
    points
        (n, 3) finite positions.
    count
        Length of the order, 1 to n.

    Returns
    -------
    (count,) int32
        Different indices into `points`; a longer order begins with the shorter ones.

    Raises
    ------
    InputRefused
        TOO_FEW_POINTS with fewer than `count` points; NOT_FINITE for NaN or infinite coordinates.
    ValueError
        `count` is below 1.
    """
    cloud = np.ascontiguousarray(points, dtype=np.float64)
    if count < 1:
        raise ValueError(f"count is {count}, but an order has at least one index")
    if len(cloud) < count:
        raise InputRefused(Reason.TOO_FEW_POINTS, f"an order of {count} needs as many points, got {len(cloud)}")
    if not np.isfinite(cloud).all():
        raise InputRefused(Reason.NOT_FINITE, "points without a distance cannot be ordered")
    # Any order gives the same result; one in which neighbours stand together lets most blocks be skipped.
    placed, order = _in_blocks(cloud)
    offset = cloud - cloud.mean(axis=0)
    start = int(np.argmax((offset * offset).sum(axis=1)))
    return np.asarray(_greedy(placed, order, start, count))


@kernel
def _in_blocks(cloud: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The points in an order whose blocks are the leaves of a kd-tree, and where each of them comes from.

    Each part is cut near its median across its longest side, where the next block begins: n log n.
    """
    points = cloud.copy()
    index = np.arange(len(points))
    parts = [(0, len(points))]
    while len(parts) > 0:
        start, stop = parts.pop()
        if stop - start > _BLOCK:
            blocks = (stop - start + _BLOCK - 1) // _BLOCK
            middle = start + blocks // 2 * _BLOCK
            _select(points, index, _longest_side(points[start:stop]), start, stop - 1, middle)
            parts.append((start, middle))
            parts.append((middle, stop))
    return points, index


@kernel
def _longest_side(points: NDArray[np.float64]) -> int:
    """The axis along which the points extend farthest."""
    longest, widest = 0, -1.0
    for axis in range(3):
        low = high = points[0, axis]
        for at in range(1, len(points)):
            low, high = min(low, points[at, axis]), max(high, points[at, axis])
        if high - low > widest:
            longest, widest = axis, high - low
    return longest


@kernel
def _select(
    points: NDArray[np.float64], index: NDArray[np.int64], axis: int, first: int, last: int, middle: int
) -> None:
    """Reorder points `first` to `last`: none before `middle` above any from there on (Hoare, "Find", CACM 1961)."""
    while first < last:
        pivot = points[(first + last) // 2, axis]
        left, right = first, last
        while left <= right:
            while points[left, axis] < pivot:
                left += 1
            while points[right, axis] > pivot:
                right -= 1
            if left <= right:
                for column in range(3):
                    points[left, column], points[right, column] = points[right, column], points[left, column]
                index[left], index[right] = index[right], index[left]
                left += 1
                right -= 1
        if middle <= right:
            last = right
        elif middle >= left:
            first = left
        else:
            return


@kernel
def _greedy(points: NDArray[np.float64], index: NDArray[np.int64], start: int, count: int) -> NDArray[np.int32]:
    """Greedy selection over blocks of neighbouring points, skipping blocks that the last choice cannot change.

    The squared distance from a point to a block's box is, rounding included, never above the one to a point
    inside it, because subtraction, squaring and addition are monotone in floating point: skipping is exact.
    """
    total = len(points)
    blocks = (total + _BLOCK - 1) // _BLOCK
    low = np.empty((blocks, 3))
    high = np.empty((blocks, 3))
    for block in range(blocks):
        for axis in range(3):
            members = points[block * _BLOCK : min((block + 1) * _BLOCK, total), axis]
            low[block, axis] = members.min()
            high[block, axis] = members.max()
    nearest = np.full(total, np.inf)  # squared distance to the chosen points, `_CHOSEN` for those themselves
    farthest = np.full(blocks, np.inf)  # the largest of them in each block
    holder = np.zeros(blocks, np.int64)  # and the position that has it
    chosen = np.empty(count, np.int32)
    current = 0
    while index[current] != start:
        current += 1
    for rank in range(count):
        chosen[rank] = index[current]
        nearest[current] = _CHOSEN
        x, y, z = points[current]
        best = 0
        for block in range(blocks):
            gap_x = max(low[block, 0] - x, x - high[block, 0], 0.0)
            gap_y = max(low[block, 1] - y, y - high[block, 1], 0.0)
            gap_z = max(low[block, 2] - z, z - high[block, 2], 0.0)
            # Strictly: the block of the choice has gap 0 and must be searched again even if only zeros are left.
            if not gap_x * gap_x + gap_y * gap_y + gap_z * gap_z > farthest[block]:
                first = block * _BLOCK
                leader = first
                for at in range(first, min(first + _BLOCK, total)):
                    dx, dy, dz = points[at, 0] - x, points[at, 1] - y, points[at, 2] - z
                    nearest[at] = min(nearest[at], dx * dx + dy * dy + dz * dz)
                    if nearest[at] > nearest[leader] or (nearest[at] == nearest[leader] and index[at] < index[leader]):
                        leader = at
                farthest[block] = nearest[leader]
                holder[block] = leader
            if farthest[block] > farthest[best] or (
                farthest[block] == farthest[best] and index[holder[block]] < index[holder[best]]
            ):
                best = block
        current = holder[best]
    return chosen
