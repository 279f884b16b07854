"""Generalised winding numbers: how often a surface goes round a position."""

from __future__ import annotations

import igl
import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.mesh import Mesh


class WindingNumber:
    """Winding numbers of a normalised oriented soup (Barill et al., "Fast winding numbers for soups and clouds", 2018).

    O(F log F) to make, about O(log F) a query; computed in float32, so positions must be of order 1. A soup without
    faces goes round nothing.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._tree = igl.FastWindingNumberBVH() if len(mesh.faces) else None
        if self._tree is not None:
            self._tree.init(np.ascontiguousarray(mesh.vertices), np.ascontiguousarray(mesh.faces))

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) float64 winding numbers at (n, 3) finite positions."""
        if self._tree is None or len(points) == 0:
            return np.zeros(len(points))
        return np.asarray(self._tree.winding_number(np.ascontiguousarray(points))).reshape(-1)
