"""The signed distance of a label map as voxel-based caches define it, for reproduction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import distance_transform_edt, find_objects

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.bvh import finite_positions
from shapestore.preprocess.geometry.label_sdf import FieldValues
from shapestore.preprocess.geometry.normalise import Frame
from shapestore.preprocess.geometry.trilinear import Pair, between


class EdtField:
    """Distances between voxel centres, by a pair of Euclidean distance transforms a class.

    Of each class: the distance of a voxel centre to the nearest centre inside, less that to the nearest centre
    outside (the definition of the VecSetX caches), in millimetres along the edges of the voxels; between the centres
    read trilinearly, and beyond the outermost ones extrapolated. The field is the least over the classes. No centre
    has a value between -1 and 1 voxel, so that at a surface the field is twice as steep as a distance is, and further
    off it is too large by about a quarter of a voxel.

    Parameters
    ----------
    codes
        (X, Y, Z) uint8 class of each voxel, 0 for background; codes up to 127, at least one voxel with a class. Only
        voxels of the map count as outside of a class.
    affine
        (4, 4) float64, voxel index to world millimetres.
    frame
        Brings world positions into normalised coordinates.

    Raises
    ------
    InputRefused
        NOT_CLOSED for a class that fills the whole map, and so has no outside.
    ValueError
        A code that int8 labels do not hold.

    Notes
    -----
    Time: two transforms a class, the one towards the class over the whole map. Memory: 4 bytes a voxel of the map for
    each class, and about 55 bytes a voxel while a transform runs.
    """

    def __init__(self, codes: NDArray[np.uint8], affine: NDArray[np.float64], frame: Frame) -> None:
        boxes = {code: box for code, box in enumerate(find_objects(codes), start=1) if box is not None}
        if max(boxes) > 127:
            raise ValueError(f"labels hold codes up to 127, got {max(boxes)}")
        self.codes: tuple[int, ...] = tuple(boxes)
        edges = np.linalg.norm(affine[:3, :3], axis=0)
        self._grids = tuple(_signed_grid(codes == code, box, edges) for code, box in boxes.items())
        self._frame, self._to_index = frame, np.linalg.inv(affine)

    def labels(self, points: ArrayLike) -> NDArray[np.int8]:
        """(n,) int8 class at each position, as `signed` gives it."""
        return self.signed(points).labels

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
        world = self._frame.invert(finite_positions(points))
        index = np.ascontiguousarray(world @ self._to_index[:3, :3].T + self._to_index[:3, 3])
        sdf = np.full(len(index), np.inf, np.float32)
        labels = np.zeros(len(index), np.int8)
        for code, grid in zip(self.codes, self._grids, strict=True):
            values = (_read(grid, index) * self._frame.scale).astype(np.float32)
            nearer = values < sdf
            sdf[nearer] = values[nearer]
            labels[nearer & (values < 0)] = code
        return FieldValues(sdf, labels)


def _signed_grid(mask: NDArray[np.bool_], box: tuple[slice, ...], edges: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance to the mask less distance to its complement, at the centres of all voxels."""
    if mask.all():
        raise InputRefused(Reason.NOT_CLOSED, "a class fills the whole map: nothing is outside of it")
    signed = distance_transform_edt(~mask, sampling=edges).astype(np.float32)
    # The nearest voxel outside is within the box of the class or next to it.
    around = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in box)
    signed[around] -= distance_transform_edt(mask[around], sampling=edges).astype(np.float32)
    return np.ascontiguousarray(signed)


@kernel
def _read(grid: NDArray[np.float32], index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Interpolate, or extrapolate, between the two voxels of each axis that are nearest to enclosing an index."""
    values = np.empty(len(index), np.float64)
    for row in range(len(index)):
        x = _pair(index[row, 0], grid.shape[0])
        y = _pair(index[row, 1], grid.shape[1])
        z = _pair(index[row, 2], grid.shape[2])
        values[row] = between(grid, x, y, z)
    return values


@kernel
def _pair(index: float, size: int) -> Pair:
    """Two neighbouring voxels of an axis, and the weight of the second, beyond 0 to 1 outside the map."""
    low = min(max(math.floor(index), 0), max(size - 2, 0))
    return low, min(low + 1, size - 1), index - low
