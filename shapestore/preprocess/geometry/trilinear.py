"""Reading a grid between its samples."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel

Pair = tuple[int, int, float]
"""Two neighbouring indices of an axis, and the weight of the second."""


def trilinear(grid: NDArray[np.floating], points: ArrayLike) -> NDArray[np.float32]:
    """Read a grid at any position by trilinear interpolation between cell centres.

    Beyond the outermost centres the field goes on as a constant: index and weight are both clamped, for a
    clamped index with a free weight would extrapolate.

    Parameters
    ----------
    grid
        (G, G, G) floating, values at the cell centres.
    points
        (n, 3) finite normalised positions.

    Returns
    -------
    (n,) float32
        Within the range of the grid; interpolated in float64.

    Raises
    ------
    InputRefused
        NOT_FINITE for a NaN or infinite position.
    ValueError
        `grid` is not a cube.
    """
    if grid.ndim != 3 or len(set(grid.shape)) != 1 or grid.size == 0:
        raise ValueError(f"the grid must be a cube of cells, got shape {grid.shape}")
    positions = np.ascontiguousarray(points, dtype=np.float64)
    if not np.isfinite(positions).all():
        raise InputRefused(Reason.NOT_FINITE, "a grid cannot be read at such a position")
    return np.asarray(_trilinear(np.ascontiguousarray(grid, dtype=np.float32), positions))


@kernel
def _trilinear(grid: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Read the grid at all positions."""
    values = np.empty(len(points), np.float32)
    for row in range(len(points)):
        x = _cell(points[row, 0], grid.shape[0])
        y = _cell(points[row, 1], grid.shape[1])
        z = _cell(points[row, 2], grid.shape[2])
        values[row] = between(grid, x, y, z)
    return values


@kernel
def _cell(coordinate: float, size: int) -> Pair:
    """The cells whose centres enclose a coordinate, and the weight of the upper one."""
    at = min(max((coordinate + 1) / 2 * size - 0.5, 0.0), size - 1.0)
    low = math.floor(at)
    return low, min(low + 1, size - 1), at - low


@kernel
def between(grid: NDArray[np.float32], x: Pair, y: Pair, z: Pair) -> float:
    """The value between eight samples, in float64: along z, then y, then x."""
    left, right, u = x
    front, back, v = y
    low, top, w = z
    left_face = _mix(
        _mix(grid[left, front, low], grid[left, front, top], w),
        _mix(grid[left, back, low], grid[left, back, top], w),
        v,
    )
    right_face = _mix(
        _mix(grid[right, front, low], grid[right, front, top], w),
        _mix(grid[right, back, low], grid[right, back, top], w),
        v,
    )
    return _mix(left_face, right_face, u)


@kernel
def _mix(low: float, high: float, weight: float) -> float:
    """Linear interpolation in float64."""
    return (1 - weight) * low + weight * high
