"""Simple points of digital topology: voxels of a mask that can change sides and leave its topology as it is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel


@kernel
def is_simple(mask: NDArray[np.uint8], x: int, y: int, z: int) -> bool:
    """Whether flipping a voxel keeps the numbers of objects, cavities and handles of a mask.

    Objects are connected by faces, edges and corners (26), background by faces (6). A voxel is simple exactly if its
    neighbourhood without it holds one object, and one piece of background that touches its faces (Bertrand and
    Malandain, Pattern Recognition Letters 15, 1994).

    Parameters
    ----------
    mask
        (X, Y, Z) 0 or 1.
    x, y, z
        A voxel that is not at the border of `mask`.
    """
    return bool(_pieces(mask, x, y, z, 1) == 1 and _pieces(mask, x, y, z, 0) == 1)


@kernel
def _pieces(mask: NDArray[np.uint8], x: int, y: int, z: int, side: int) -> int:
    """Pieces of one side around a voxel: 26-connected objects, or 6-connected background at the voxel's faces."""
    open_cells = np.zeros(27, np.uint8)
    for cell in range(27):
        i, j, k = cell // 9 - 1, cell // 3 % 3 - 1, cell % 3 - 1
        reach = abs(i) + abs(j) + abs(k)
        # Background that meets the voxel at a corner only reaches no face of it within the neighbourhood.
        within = reach > 0 and (side == 1 or reach < 3)
        open_cells[cell] = within and mask[x + i, y + j, z + k] == side
    waiting = np.empty(27, np.int64)
    pieces = 0
    for seed in range(27):
        i, j, k = seed // 9 - 1, seed // 3 % 3 - 1, seed % 3 - 1
        if open_cells[seed] == 0 or (side == 0 and abs(i) + abs(j) + abs(k) != 1):
            continue
        pieces += 1
        open_cells[seed] = 0
        waiting[0] = seed
        count = 1
        while count > 0:
            count -= 1
            here = waiting[count]
            for other in range(27):
                if open_cells[other] == 1 and _adjacent(here, other, side):
                    open_cells[other] = 0
                    waiting[count] = other
                    count += 1
    return pieces


@kernel
def _adjacent(first: int, second: int, side: int) -> bool:
    """Whether two cells of a neighbourhood touch: in any way, or for background by a face."""
    i = abs(first // 9 - second // 9)
    j = abs(first // 3 % 3 - second // 3 % 3)
    k = abs(first % 3 - second % 3)
    return max(i, max(j, k)) <= 1 if side == 1 else i + j + k == 1
