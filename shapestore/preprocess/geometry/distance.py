"""Unsigned distances from positions to a surface or to a cloud."""

from __future__ import annotations

import igl
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.sample import sample_surface


def surface_distance(mesh: Mesh, points: ArrayLike) -> NDArray[np.float32]:
    """Exact distance from each position to the nearest point of any triangle.

    Computed in float64 over a bounding-volume tree. It has no sign: the same library's signed call scales
    the magnitude by the winding number, which is wrong on every open mesh.

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
        As `refuse_unsafe`; NOT_FINITE for a NaN or infinite position.
    """
    refuse_unsafe(mesh)
    queries = _queries(points)
    vertices = np.ascontiguousarray(mesh.vertices, dtype=np.float64)
    faces = np.ascontiguousarray(mesh.faces, dtype=np.int64)
    tree = igl.AABB()
    tree.init(vertices, faces)
    squared, _, _ = tree.squared_distance(vertices, faces, queries)
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
    reference = _queries(cloud)
    if len(reference) == 0:
        raise InputRefused(Reason.TOO_FEW_POINTS, "an empty cloud is at no distance")
    distance, _ = cKDTree(reference).query(_queries(points))
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


def _queries(points: ArrayLike) -> NDArray[np.float64]:
    """Positions as contiguous float64, refused unless finite: native trees answer NaN with noise."""
    positions = np.ascontiguousarray(points, dtype=np.float64)
    if not np.isfinite(positions).all():
        raise InputRefused(Reason.NOT_FINITE, "positions without a distance")
    return positions
