"""Regular grids over the cube [-1, 1]^3: occupancy, unsigned distance fields and reading between the cells.

Cell i of G has its centre at p(i) = -1 + (i + 0.5) * 2 / G on each axis; arrays are indexed (x, y, z).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation, distance_transform_edt

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.distance import cloud_distance, surface_distance
from shapestore.preprocess.geometry.mesh import Mesh


def cell_centres(size: int) -> NDArray[np.float64]:
    """(size^3, 3) float64 centres of all cells, z fastest: values read there reshape to (x, y, z)."""
    axis = -1 + (np.arange(size) + 0.5) * (2 / size)
    return np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)


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
    """(size, size, size) float32 exact distance from each cell centre to the surface of a normalised mesh."""
    return surface_distance(mesh, cell_centres(size)).reshape(size, size, size)


def cloud_udf_grid(cloud: ArrayLike, size: int) -> NDArray[np.float32]:
    """(size, size, size) float32 exact distance from each cell centre to the nearest point of a normalised cloud."""
    return cloud_distance(cloud, cell_centres(size)).reshape(size, size, size)


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


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _trilinear(grid: NDArray[np.float32], points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Interpolate along z, then y, then x."""
    values = np.empty(len(points), np.float32)
    for row in range(len(points)):
        x, right, u = _cell(points[row, 0], grid.shape[0])
        y, back, v = _cell(points[row, 1], grid.shape[1])
        z, top, w = _cell(points[row, 2], grid.shape[2])
        left_face = _mix(_mix(grid[x, y, z], grid[x, y, top], w), _mix(grid[x, back, z], grid[x, back, top], w), v)
        right_face = _mix(
            _mix(grid[right, y, z], grid[right, y, top], w),
            _mix(grid[right, back, z], grid[right, back, top], w),
            v,
        )
        values[row] = _mix(left_face, right_face, u)
    return values


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _cell(coordinate: float, size: int) -> tuple[int, int, float]:
    """The cells whose centres enclose a coordinate, and the weight of the upper one."""
    at = min(max((coordinate + 1) / 2 * size - 0.5, 0.0), size - 1.0)
    low = math.floor(at)
    return low, min(low + 1, size - 1), at - low


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _mix(low: float, high: float, weight: float) -> float:
    """Linear interpolation in float64."""
    return (1 - weight) * low + weight * high
