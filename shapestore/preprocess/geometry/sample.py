"""Random points on a surface, each area equally likely."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.mesh import Mesh


@dataclass(frozen=True, eq=False)
class SurfaceSamples:
    """Points on a mesh and where they come from.

    Attributes
    ----------
    points
        (n, 3) float64, in the unit of the mesh.
    normals
        (n, 3) float64, unit: the normal of the face under each point, by the right-hand rule.
    faces
        (n,) int64: that face.
    """

    points: NDArray[np.float64]
    normals: NDArray[np.float64]
    faces: NDArray[np.int64]


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator) -> SurfaceSamples:
    """Draw points uniformly by area.

    Faces are drawn by inversion of the cumulated area, positions within a face by the square-root warp of the
    unit square (Osada et al., "Shape distributions", ACM TOG 2002, eq. 1). Three uniform numbers are drawn a
    point, point after point, so the first k of n samples are the samples of a draw of k.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`.
    count
        Number of points, >= 0.
    rng
        Source of the draws.

    Returns
    -------
    SurfaceSamples
        `count` points with normals and faces, in the order of the draws.

    Raises
    ------
    InputRefused
        As `refuse_unsafe`; ZERO_AREA if no face has an area.
    """
    refuse_unsafe(mesh)
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    cross = np.cross(b - a, c - a)
    double_area = np.linalg.norm(cross, axis=1)
    cumulated = np.cumsum(double_area)
    if not cumulated[-1] > 0:
        raise InputRefused(Reason.ZERO_AREA, f"none of {len(mesh.faces)} faces has an area to sample")
    draws = rng.random((count, 3))
    # side="right" gives faces of area zero an empty interval, so that none of them is ever drawn.
    faces = np.searchsorted(cumulated / cumulated[-1], draws[:, 0], side="right")
    root = np.sqrt(draws[:, 1:2])
    to_b, to_c = root * (1 - draws[:, 2:3]), root * draws[:, 2:3]
    points = a[faces] + to_b * (b - a)[faces] + to_c * (c - a)[faces]
    return SurfaceSamples(points, cross[faces] / double_area[faces, None], faces.astype(np.int64))
