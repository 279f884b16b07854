"""A label map on the grid of the normalised cube: the raw labels, looked at where the grids of other arrays are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from shapestore.preprocess.geometry.label_volume import LabelVolume
from shapestore.preprocess.geometry.normalise import Frame


def label_grid(volume: LabelVolume, frame: Frame, size: int) -> NDArray[np.int8]:
    """Class of the voxel that holds the centre of each cell of [-1, 1]^3.

    Parameters
    ----------
    volume
        The label map, with codes up to 127.
    frame
        World RAS+ millimetres to normalised coordinates.
    size
        Cells along each axis; cell i has its centre at -1 + (i + 0.5) * 2 / size.

    Returns
    -------
    NDArray[np.int8]
        (size, size, size), indexed (x, y, z); 0 where no class is. O(size^3) time, one byte a cell.
    """
    cell = 2 / size
    to_voxel = np.linalg.inv(volume.affine)
    # The centre of cell i is normalised; world = normalised / scale + shift.
    step = to_voxel[:3, :3] * (cell / frame.scale)
    first = (cell / 2 - 1) / frame.scale + frame.shift
    offset = to_voxel[:3, :3] @ first + to_voxel[:3, 3]
    cells = (size, size, size)
    found = affine_transform(volume.codes, step, offset, cells, output=np.uint8, order=0, mode="constant")
    return found.astype(np.int8)
