"""Random points on a surface, each area equally likely, or evenly spread besides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.mesh import Mesh, double_areas

_OVERSAMPLING: Final = 5
"""Candidates for each point of blue noise: the source finds little gain in more."""

_SHARPNESS: Final = 1.5
_EASE: Final = 0.65
"""Of the source: how fast the distance below which all are equally close grows with oversampling, and how far."""


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


def sample_surface(mesh: Mesh, count: int, rng: np.random.Generator, blue_noise: bool = False) -> SurfaceSamples:
    """Draw points uniformly by area.

    Faces are drawn by inversion of the cumulated area, positions within a face by the square-root warp of the
    unit square (Osada et al., "Shape distributions", ACM TOG 2002, eq. 1). Three uniform numbers are drawn a
    point, point after point, so the first k of n samples are the samples of a draw of k.

    Blue noise thins out five times as many such points until `count` are left (Yuksel, "Sample elimination for
    generating Poisson disk sample sets", Computer Graphics Forum 34(2), 2015): again and again the point goes that
    is closest to all others, in straight lines and whatever lies between. Ties go to the first. It takes n log n steps
    and within 5 kB a point, more where many sheets lie on each other.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`.
    count
        Number of points, >= 0.
    rng
        Source of the draws.
    blue_noise
        Keep points away from each other. Prefixes are then no samples of smaller draws.

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
    double_area = double_areas(mesh.vertices, mesh.faces)
    cumulated = np.cumsum(double_area)
    if not cumulated[-1] > 0:
        raise InputRefused(Reason.ZERO_AREA, f"none of {len(mesh.faces)} faces has an area to sample")
    draws = rng.random((count * (_OVERSAMPLING if blue_noise else 1), 3))
    # side="right" gives faces of area zero an empty interval, so that none of them is ever drawn.
    faces = np.searchsorted(cumulated / cumulated[-1], draws[:, 0], side="right")
    points, normals = _place(mesh.vertices, mesh.faces[faces], draws, double_area[faces])
    if blue_noise and count:
        kept = _spread(points, count, float(cumulated[-1] / 2))
        points, normals, faces = points[kept], normals[kept], faces[kept]
    return SurfaceSamples(points, normals, faces.astype(np.int64))


@kernel
def _place(
    vertices: NDArray[np.float64],
    faces: NDArray[np.int64],
    draws: NDArray[np.float64],
    double_area: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(n, 3) points in n faces, from the second and third number of (n, 3) draws, and (n, 3) unit normals."""
    points = np.empty((len(faces), 3))
    normals = np.empty((len(faces), 3))
    for row in range(len(faces)):
        a, b, c = vertices[faces[row, 0]], vertices[faces[row, 1]], vertices[faces[row, 2]]
        root = math.sqrt(draws[row, 1])
        to_b, to_c = root * (1 - draws[row, 2]), root * draws[row, 2]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        points[row, 0] = a[0] + to_b * ux + to_c * vx
        points[row, 1] = a[1] + to_b * uy + to_c * vy
        points[row, 2] = a[2] + to_b * uz + to_c * vz
        normals[row, 0] = (uy * vz - uz * vy) / double_area[row]
        normals[row, 1] = (uz * vx - ux * vz) / double_area[row]
        normals[row, 2] = (ux * vy - uy * vx) / double_area[row]
    return points, normals


def _spread(points: NDArray[np.float64], count: int, area: float) -> NDArray[np.int64]:
    """(count,) rising: the points that sample elimination leaves of those on a surface of this area."""
    # Half the distance between neighbours of the densest arrangement of `count` points on a plane of this area.
    radius = math.sqrt(area / (2 * math.sqrt(3) * count))
    nearest = radius * (1 - (count / len(points)) ** _SHARPNESS) * _EASE
    pairs = cKDTree(points).query_pairs(2 * radius, output_type="ndarray")
    # Each pair in both directions, in an order that no library decides: sums of weights depend on it.
    source, target = np.concatenate([pairs, pairs[:, ::-1]]).T
    links = np.sort(source * len(points) + target)
    source, target = np.divmod(links, len(points))
    starts = np.searchsorted(source, np.arange(len(points) + 1))
    weights = _weights(points, source, target, 2 * nearest, 2 * radius)
    return np.asarray(_eliminate(starts, target, weights, count))


@kernel
def _weights(
    points: NDArray[np.float64],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    nearest: float,
    farthest: float,
) -> NDArray[np.float64]:
    """(1 - distance / farthest)^8 of each pair of points, with no distance below `nearest`."""
    weights = np.empty(len(source))
    for link in range(len(source)):
        a, b = points[source[link]], points[target[link]]
        x, y, z = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        distance = min(max(math.sqrt(x * x + y * y + z * z), nearest), farthest)
        weight = 1 - distance / farthest
        # Products round alike on every machine, powers do not.
        square = weight * weight
        weights[link] = (square * square) * (square * square)
    return weights


@kernel
def _eliminate(
    starts: NDArray[np.int64], target: NDArray[np.int64], weights: NDArray[np.float64], count: int
) -> NDArray[np.int64]:
    """Remove the node with the largest sum of weights until `count` are left; a heap finds it."""
    nodes = len(starts) - 1
    load = np.zeros(nodes)
    for node in range(nodes):
        for link in range(starts[node], starts[node + 1]):
            load[node] += weights[link]
    heap = np.arange(nodes)
    place = np.arange(nodes)
    for at in range(nodes // 2 - 1, -1, -1):
        _sink(heap, place, load, at, nodes)
    for size in range(nodes - 1, count - 1, -1):
        removed = heap[0]
        heap[0] = heap[size]
        place[heap[0]] = 0
        place[removed] = -1
        _sink(heap, place, load, 0, size)
        for link in range(starts[removed], starts[removed + 1]):
            node = target[link]
            if place[node] >= 0:
                load[node] -= weights[link]
                _sink(heap, place, load, place[node], size)
    return np.flatnonzero(place >= 0)


@kernel
def _sink(heap: NDArray[np.int64], place: NDArray[np.int64], load: NDArray[np.float64], at: int, size: int) -> None:
    """Move a node down the heap of the first `size` to where no node below has a larger load, or a lower number."""
    node = heap[at]
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and _goes_first(load, heap[child + 1], heap[child]):
            child += 1
        if not _goes_first(load, heap[child], node):
            break
        heap[at] = heap[child]
        place[heap[at]] = at
        at = child
    heap[at] = node
    place[node] = at


@kernel
def _goes_first(load: NDArray[np.float64], one: int, other: int) -> bool:
    """Whether `one` is removed before `other`."""
    return load[one] > load[other] or (load[one] == load[other] and one < other)
