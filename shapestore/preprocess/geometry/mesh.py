"""The triangle mesh that formats produce and geometry consumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mesh:
    """A triangle soup.

    Attributes
    ----------
    vertices
        (V, 3) float64, in the unit of the raw file until normalised.
    faces
        (F, 3) int64, indices into `vertices`.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
