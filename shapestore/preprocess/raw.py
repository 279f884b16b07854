"""What a source reads: one raw item as plain arrays, in the coordinates of its file, before any recipe is applied."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shapestore.preprocess.geometry.mesh import Mesh


@dataclass(frozen=True)
class RawMesh:
    """A triangle mesh."""

    mesh: Mesh
    notes: tuple[str, ...] = ()
    """What the reader had to decide, such as `3 polygons triangulated`."""


@dataclass(frozen=True)
class RawCloud:
    """A point cloud."""

    points: NDArray[np.float64]
    """(n, 3) positions."""
    normals: NDArray[np.float64] | None = None
    """(n, 3) normals of any length, where the file has them."""
    mask: NDArray[np.int8] | None = None
    """(n,) 1 for the object, -1 for background, where the file tells them apart."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawLabelMap:
    """A label map in which the recipe's classes have their codes."""

    codes: NDArray[np.uint8]
    """(X, Y, Z): 0 outside, 1 to C the classes in the recipe's order."""
    affine: NDArray[np.float64]
    """(4, 4) voxel index to world RAS+ in millimetres."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RawArrays:
    """Finished arrays of an existing cache, already under the names, shapes and dtypes of the store."""

    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Centre in raw coordinates, where the cache kept it."""
    scale: float = 1.0
    """Normalised units per raw unit, where the cache kept it."""
    notes: tuple[str, ...] = ()


Raw = RawMesh | RawCloud | RawLabelMap | RawArrays
