"""Where the masks of a label map may be blurred, decided for all classes together so that neighbours agree."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.label_volume import LabelVolume
from shapestore.preprocess.geometry.simple_points import is_simple

LEVEL: Final = 0.4999
"""A voxel is inside a class where its mask is above this level. It is 0.5, less a ten-thousandth of a voxel: on a 0/1
mask the middle of a face between two diagonal voxels has exactly 0.5, and the tie leaves edges with four faces."""

_BLUR_REACH: Final = 4.0  # in standard deviations; the weight beyond it is 6e-5


def blurred_mask(volume: LabelVolume, code: int, smoothing: float) -> NDArray[np.float32]:
    """The mask of a class under a Gaussian blur that is as wide in every direction of space.

    The steps of a mask are as high as its voxels are long: over all directions of a surface their mean square is that
    of the three edges. That is the voxel which `smoothing` counts in.

    Parameters
    ----------
    volume
        With voxels of the class.
    code
        The class.
    smoothing
        Standard deviation, voxels, > 0.

    Returns
    -------
    float32
        Of the shape of `volume.box(code)`, 0 to 1. The border of one voxel is enough: beyond it all values are below
        a half.
    """
    edges = volume.edges
    sigma = smoothing * np.sqrt((edges**2).mean()) / edges
    mask = (volume.codes[volume.box(code)] == code).view(np.uint8)
    return np.asarray(gaussian_filter(mask, sigma, mode="constant", truncate=_BLUR_REACH, output=np.float32))


def lost_by_blur(volume: LabelVolume, code: int, blurred: NDArray[np.float32]) -> NDArray[np.int64]:
    """Find the voxels of thin parts, and thin gaps, that the blur of a class would take away.

    A voxel that changes sides is lost if no face neighbour of its kind remains, or if the change, made after all
    earlier ones, would join or part objects, cavities or handles: if it is not simple. Changes of other voxels round
    off corners and fill dents.

    Parameters
    ----------
    volume, code
        The class.
    blurred
        Its `blurred_mask`.

    Returns
    -------
    (n, 3) int64
        Indices into `volume.codes`; linear in the voxels of the box.
    """
    box = volume.box(code)
    mask = (volume.codes[box] == code).view(np.uint8)
    return np.asarray(_lost(mask, blurred, np.float32(LEVEL)) + [side.start for side in box])


@kernel
def mark_around(zone: NDArray[np.bool_], voxels: NDArray[np.int64]) -> None:
    """Mark voxels, none of them at the border, and the 26 neighbours of each."""
    for row in range(len(voxels)):
        x, y, z = voxels[row, 0], voxels[row, 1], voxels[row, 2]
        for i in range(x - 1, x + 2):
            for j in range(y - 1, y + 2):
                for k in range(z - 1, z + 2):
                    zone[i, j, k] = True


@kernel
def _lost(mask: NDArray[np.uint8], blurred: NDArray[np.float32], level: np.float32) -> NDArray[np.int64]:
    """(n, 3) indices of the voxels that must not change sides."""
    changed = mask.copy()
    lost = np.empty((16, 3), np.int64)
    count = 0
    for x in range(1, mask.shape[0] - 1):
        for y in range(1, mask.shape[1] - 1):
            for z in range(1, mask.shape[2] - 1):
                if (blurred[x, y, z] > level) == (mask[x, y, z] == 1):
                    continue
                if _has_support(mask, blurred, level, x, y, z) and is_simple(changed, x, y, z):
                    changed[x, y, z] = 1 - mask[x, y, z]
                    continue
                if count == len(lost):
                    lost = np.concatenate((lost, np.empty_like(lost)))
                lost[count, 0], lost[count, 1], lost[count, 2] = x, y, z
                count += 1
    return lost[:count].copy()


@kernel
def _has_support(
    mask: NDArray[np.uint8], blurred: NDArray[np.float32], level: np.float32, x: int, y: int, z: int
) -> bool:
    """Whether a face neighbour on the voxel's own side stays there."""
    for axis in range(3):
        for step in (-1, 1):
            i, j, k = x + step * (axis == 0), y + step * (axis == 1), z + step * (axis == 2)
            own = mask[i, j, k]
            if own == mask[x, y, z] and (blurred[i, j, k] > level) == (own == 1):
                return True
    return False
