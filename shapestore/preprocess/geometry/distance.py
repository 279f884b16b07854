"""Unsigned distances from positions to a surface or to a cloud."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.bvh import TriangleTree, finite_positions
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.sample import sample_surface


def surface_distance(mesh: Mesh, points: ArrayLike) -> NDArray[np.float32]:
    """Exact distance from each position to the nearest point of any triangle.

    Computed in float64 by a `TriangleTree`. It has no sign: that is another question, and never one of the nearest
    face alone where a mesh is open or doubled.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`.
    points
        (n, 3) finite positions, in the unit of the mesh.

    Returns
    -------
    (n,) float32
        >= 0, in the unit of the mesh.

    Raises
    ------
    InputRefused
        As `TriangleTree` and `finite_positions`.
    """
    squared = TriangleTree(mesh.vertices, mesh.faces).squared_distance(points)
    return np.asarray(np.sqrt(squared), dtype=np.float32)


def cloud_distance(cloud: ArrayLike, points: ArrayLike) -> NDArray[np.float32]:
    """Exact distance from each position to the nearest point of a cloud.

    Parameters
    ----------
    cloud
        (m, 3) finite positions, m >= 1.
    points
        (n, 3) finite positions, in the same unit.

    Returns
    -------
    (n,) float32
        >= 0, in the unit of the cloud.

    Raises
    ------
    InputRefused
        TOO_FEW_POINTS for an empty cloud; NOT_FINITE for NaN or infinite coordinates.
    """
    reference = finite_positions(cloud)
    if len(reference) == 0:
        raise InputRefused(Reason.TOO_FEW_POINTS, "an empty cloud is at no distance")
    distance, _ = cKDTree(reference).query(finite_positions(points))
    return np.asarray(distance, dtype=np.float32)


def sampled_surface_distance(
    mesh: Mesh, points: ArrayLike, samples: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Distance from each position to the nearest of random surface samples.

    An upper bound of the exact distance, too large by up to the spacing of the samples and mostly so near the
    surface: kept for stores that must agree with caches made this way.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`.
    points
        (n, 3) finite positions, in the unit of the mesh.
    samples
        Number of surface samples, >= 1; they are drawn afresh at each call.
    rng
        Source of the draws.

    Returns
    -------
    (n,) float32
        >= 0, in the unit of the mesh.

    Raises
    ------
    InputRefused
        As `sample_surface` and `cloud_distance`.
    """
    return cloud_distance(sample_surface(mesh, samples, rng).points, points)
