"""The label map that formats produce and geometry consumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LabelImage:
    """Labels on a regular grid in space.

    Attributes
    ----------
    voxels
        (X, Y, Z), the smallest integer dtype that holds the values, unsigned unless one is negative; native byte
        order; in memory the first axis is the fastest, as in the file.
    affine
        (4, 4) float64, not singular: homogeneous voxel indices, whole at voxel centres, to world RAS+ (x to the
        right, y to the front, z up, of the patient) in millimetres.
    notes
        Plain remarks on what was assumed or left out in reading.
    """

    voxels: NDArray[np.integer[Any]]
    affine: NDArray[np.float64]
    notes: tuple[str, ...] = ()
