"""Positions so close to each other that their pairs cannot be counted: what is asked before vertices are joined."""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.mesh import distinct_rows

_MOST_PAIRS: Final = 1 << 20
"""Pairs of vertices in one cell. Beyond, most of the mesh is one point beside its extent."""


def refuse_clustered(vertices: NDArray[np.float64], distance: float) -> None:
    """Refuse different positions so many of which are close to each other that their pairs fill the memory.

    Positions in one cube of diagonal `distance` are that close. Of all such pairs these are at least a fixed share, as
    the others lie in cubes at most two apart. Linear in the positions, where counting the pairs is quadratic.

    Parameters
    ----------
    vertices
        (n, 3) float64 within [-1, 1], no two of them equal.
    distance
        Within which they are to be joined, > 1e-15.

    Raises
    ------
    InputRefused
        ZERO_AREA if more than 2**20 pairs share a cube.
    """
    cubes = np.floor(vertices * (math.sqrt(3) / distance)).astype(np.int64)
    held = np.bincount(distinct_rows(cubes)[1])
    pairs = int((held * (held - 1) // 2).sum())
    if pairs > _MOST_PAIRS:
        raise InputRefused(
            Reason.ZERO_AREA,
            f"{int(held.max())} vertices lie within {distance:g} times the radius of the mesh: they are one point "
            "beside what is far away from them; remove that",
        )
