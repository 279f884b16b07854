"""Positions to ask distances at: one part fills the cube, the other lies near the surface."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason


def query_pool(
    surface_points: ArrayLike,
    count: int,
    near_ratio: float,
    sigma: float,
    rng: np.random.Generator,
    shuffled: bool = True,
) -> NDArray[np.float32]:
    """Draw positions uniformly in [-1, 1]^3 and near the surface.

    The uniform part has `round((1 - near_ratio) * count)` positions. A near one is a random surface point, drawn
    with replacement, moved by normal noise along each axis and clipped to the cube.

    Parameters
    ----------
    surface_points
        (m, 3) normalised points on the surface.
    count
        Number of positions, >= 0.
    near_ratio
        Share of near positions, 0 to 1.
    sigma
        Standard deviation of the noise, normalised units, >= 0.
    rng
        Source of the draws: uniform part, surface points, noise, and last the permutation.
    shuffled
        True mixes both parts, so that any slice of the pool is an unbiased draw. False keeps the uniform part
        first, as in caches made before; there a prefix sees no surface.

    Returns
    -------
    (count, 3) float32
        Positions in [-1, 1]; the same ones for either value of `shuffled`.

    Raises
    ------
    InputRefused
        TOO_FEW_POINTS if near positions are asked for and there is no surface point.
    ValueError
        `near_ratio` or `sigma` is out of range.
    """
    if not (0 <= near_ratio <= 1 and sigma >= 0):
        raise ValueError(f"near_ratio must be in [0, 1] and sigma >= 0, got {near_ratio} and {sigma}")
    surface = np.asarray(surface_points, np.float64)
    spread = round((1 - near_ratio) * count)
    if spread < count and len(surface) == 0:
        raise InputRefused(Reason.TOO_FEW_POINTS, "positions near a surface need at least one point on it")
    uniform = rng.uniform(-1, 1, (spread, 3))
    near = np.empty((0, 3))
    if spread < count:
        picked = surface[rng.integers(len(surface), size=count - spread)]
        near = np.clip(picked + rng.normal(0, sigma, picked.shape), -1, 1)
    pool = np.concatenate([uniform, near]).astype(np.float32)
    return pool[rng.permutation(count)] if shuffled else pool
