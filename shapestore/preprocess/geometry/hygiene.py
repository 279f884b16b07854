"""The one gate in front of everything native: a mesh that passes crashes no library and yields no noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.clustered import refuse_clustered
from shapestore.preprocess.geometry.mesh import Mesh, distinct_positions, distinct_rows, double_areas
from shapestore.preprocess.geometry.normalise import box_frame

WELD_DISTANCE: Final = 1e-9
"""Vertices at most this far apart, in radii of the mesh, are one vertex in the report."""

SMALLEST_AREA: Final = 1e-12
"""A surface of at most this area, in squared radii of the mesh, is none."""

# A triangle's height is computed from coordinates that each carry half a unit in the last place; products and
# differences of three corners add up to a few of those.
_HEIGHT_ULPS: Final = 8.0

# Cells in which to look for close vertices: a thousand times wider than `WELD_DISTANCE`, so that few vertices lie
# within it of a wall, and still so narrow that few others share the cell. The shift keeps round coordinates off walls.
_CELLS_PER_UNIT: Final = 1e6
_CELL_SHIFT: Final = 0.618


@dataclass(frozen=True)
class MeshReport:
    """What a mesh is like, stated of its welded copy without repeated faces.

    Welding joins vertices within `WELD_DISTANCE`; a face is repeated if another one has the same corners in any
    order. `faces + duplicate_faces + dropped_faces` is the number of faces of the raw mesh.
    """

    vertices: int
    """Welded vertices that a face uses."""
    faces: int
    """Faces that remain."""
    dropped_faces: int
    """Raw faces without area: degenerate as they are, or collapsed by welding."""
    duplicate_faces: int
    """Faces that repeat an earlier one, in either winding."""
    components: int
    """Groups of faces that are connected through shared vertices."""
    watertight: bool
    """Every edge belongs to exactly two faces."""
    winding_consistent: bool
    """At every edge the two directions of travel balance, as far as the number of its faces allows."""
    volume: float
    """Signed enclosed volume in cubed raw units, > 0 for outward faces; of a mesh that is not watertight: the
    volume between the surface and the centre of its bounding box."""


def clean(mesh: Mesh) -> tuple[Mesh, MeshReport]:
    """Refuse what is no surface, drop what has no area, and report on the rest.

    The geometry that has area is kept as it is: vertices are not welded and repeated faces stay, so that
    sampling sees the surface that the file describes. Time grows with n log n of the faces, memory is within 300
    bytes a face.

    Parameters
    ----------
    mesh
        Any triangle soup, raw unit.

    Returns
    -------
    cleaned
        The same vertices and faces in the same order, less the degenerate faces and the vertices that no
        remaining face uses. A face is degenerate if its height does not exceed the rounding of its coordinates.
    report
        What the mesh is like.

    Raises
    ------
    InputRefused
        NO_FACES without vertices or faces; INDEX_RANGE for a face that refers to no vertex; NOT_FINITE for a NaN,
        infinite or immense (1e50) coordinate of a vertex in use; ZERO_AREA if the faces have no area relative to
        their extent, because each is empty or because all but a few vertices are welded to one.
    """
    refuse_unsafe(mesh)
    used = _compact(mesh)
    frame = box_frame(used.vertices)
    positions = frame.apply(used.vertices)
    double_area = double_areas(positions, used.faces)
    # Coordinates are known to their last bit only.
    resolution = float(np.spacing(np.abs(used.vertices).max())) * frame.scale
    # height = double area / longest edge, written without the division that an edge of length 0 forbids
    kept = double_area > _longest_edges(positions, used.faces) * _HEIGHT_ULPS * resolution
    if not kept.any():
        raise InputRefused(Reason.ZERO_AREA, f"all {len(mesh.faces)} faces are degenerate")
    area = float(double_area[kept].sum() / 2)
    if area <= SMALLEST_AREA:
        raise InputRefused(
            Reason.ZERO_AREA,
            f"{len(mesh.faces)} faces, whose area is {area:g} times the squared radius of the mesh",
        )
    solid = used if kept.all() else _compact(Mesh(used.vertices, used.faces[kept]))
    report = _report(solid, len(mesh.faces))
    if report.faces == 0:
        raise InputRefused(
            Reason.ZERO_AREA, f"no edge of any face is longer than {WELD_DISTANCE:g} times the radius of the mesh"
        )
    return solid, report


def refuse_unsafe(mesh: Mesh) -> None:
    """Refuse a mesh on which native code would crash or answer with noise.

    Cheap compared to any use of a mesh, so every function that hands one to a library calls it.

    Raises
    ------
    InputRefused
        NO_FACES without vertices or faces; INDEX_RANGE for a face that refers to no vertex; NOT_FINITE for a NaN
        or infinite coordinate of a vertex that a face uses.
    """
    if len(mesh.vertices) == 0 or len(mesh.faces) == 0:
        raise InputRefused(Reason.NO_FACES, f"{len(mesh.vertices)} vertices, {len(mesh.faces)} faces")
    if mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices):
        face = int(((mesh.faces < 0) | (mesh.faces >= len(mesh.vertices))).any(axis=1).argmax())
        raise InputRefused(
            Reason.INDEX_RANGE,
            f"face {face} is {mesh.faces[face].tolist()}, but the vertices are 0 to {len(mesh.vertices) - 1}",
        )
    finite = np.isfinite(mesh.vertices)
    if finite.all():
        return
    whole = np.asarray(finite.all(axis=1))
    broken = ~whole[mesh.faces].all(axis=1)
    if broken.any():
        raise InputRefused(
            Reason.NOT_FINITE,
            f"{broken.sum()} faces use such vertices, the first is face {int(broken.argmax())}",
        )


def _compact(mesh: Mesh) -> Mesh:
    """Drop vertices that no face uses; the order of the others stays."""
    used = np.zeros(len(mesh.vertices), bool)
    used[mesh.faces.reshape(-1)] = True
    if used.all():
        return Mesh(np.ascontiguousarray(mesh.vertices, np.float64), np.ascontiguousarray(mesh.faces, np.int64))
    renamed = np.cumsum(used) - 1
    return Mesh(np.ascontiguousarray(mesh.vertices[used], np.float64), np.ascontiguousarray(renamed[mesh.faces]))


def _report(mesh: Mesh, raw_faces: int) -> MeshReport:
    """Weld a normalised copy, drop repeated faces, and count."""
    frame = box_frame(mesh.vertices)
    welded = _weld(Mesh(frame.apply(mesh.vertices), mesh.faces))
    first, _ = distinct_rows(np.sort(welded.faces, axis=1))
    single = _compact(Mesh(welded.vertices, welded.faces[first]))
    watertight, consistent = _edge_facts(single.faces, len(single.vertices))
    return MeshReport(
        vertices=len(single.vertices),
        faces=len(single.faces),
        dropped_faces=raw_faces - len(welded.faces),
        duplicate_faces=len(welded.faces) - len(single.faces),
        components=_components(single),
        watertight=watertight,
        winding_consistent=consistent,
        volume=_volume(single) / frame.scale**3,
    )


def _weld(mesh: Mesh) -> Mesh:
    """Join vertices within `WELD_DISTANCE`, transitively, and drop the faces that this collapses."""
    # Equal positions are joined first: the pairs among many copies of one vertex would be quadratic.
    first, label = distinct_positions(mesh.vertices)
    vertices = mesh.vertices[first]
    pairs = _close_pairs(vertices)
    if len(pairs):
        # The lowest position of a group stands for it, so that the order of the vertices does not matter.
        order = np.lexsort(vertices.T[::-1])
        rank = np.argsort(order)
        label = order[_group(len(order), rank[pairs])[rank[label]]]
    faces = label[mesh.faces]
    a, b, c = faces.T
    collapsed = (a == b) | (b == c) | (c == a)
    return Mesh(vertices, faces[~collapsed])


def _close_pairs(vertices: NDArray[np.float64]) -> NDArray[np.int64]:
    """(p, 2) the pairs of different normalised positions within `WELD_DISTANCE`; refuses as `refuse_clustered`."""
    scaled = (vertices + 1) * _CELLS_PER_UNIT + _CELL_SHIFT
    cell = np.floor(scaled)
    # Twice the distance, to be on the safe side of rounding.
    margin = 2 * WELD_DISTANCE * _CELLS_PER_UNIT
    searched = np.asarray((np.abs(scaled - cell - 0.5) > 0.5 - margin).any(axis=1))  # those at a wall
    # Of two close positions both lie in one cell, or both at a wall.
    x, y, z = cell.astype(np.int64).T
    key = (x << 42) | (y << 21) | z
    order = np.argsort(key)
    same = np.diff(key[order]) == 0
    searched[order[1:][same]] = True
    searched[order[:-1][same]] = True
    members = np.flatnonzero(searched)
    near = vertices[members]
    refuse_clustered(near, WELD_DISTANCE)
    return members[cKDTree(near).query_pairs(WELD_DISTANCE, output_type="ndarray")]


def _group(nodes: int, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(nodes,) the lowest node that each node of a graph with these edges is connected to."""
    return np.asarray(_roots(nodes, np.ascontiguousarray(pairs)))


def _components(mesh: Mesh) -> int:
    """Number of groups of faces that are connected through vertices."""
    root = _group(len(mesh.vertices), mesh.faces)
    return int((root == np.arange(len(root))).sum())


def _edge_facts(faces: NDArray[np.int64], vertices: int) -> tuple[bool, bool]:
    """Whether every edge has two faces, and whether they agree on inside and outside."""
    start, end = faces.reshape(-1), faces[:, [1, 2, 0]].reshape(-1)
    # An edge as one number, its lowest bit the direction of travel: sorted, the uses of an edge stand together.
    edge = np.minimum(start, end) * vertices + np.maximum(start, end)
    two_each, balanced = _edge_balance(np.sort(2 * edge + (start < end)))
    return len(faces) > 0 and two_each, balanced


def _volume(mesh: Mesh) -> float:
    """Signed volume by the divergence theorem: the sum of the tetrahedra between the faces and the origin."""
    return float(_tetrahedra(mesh.vertices, mesh.faces).sum() / 6)


@kernel
def _longest_edges(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """(F,) length of the longest edge of each triangle."""
    longest = np.empty(len(faces))
    for face in range(len(faces)):
        square = 0.0
        for corner in range(3):
            start, end = vertices[faces[face, corner]], vertices[faces[face, corner - 2]]
            x, y, z = end[0] - start[0], end[1] - start[1], end[2] - start[2]
            square = max(square, x * x + y * y + z * z)
        longest[face] = math.sqrt(square)
    return longest


@kernel
def _roots(nodes: int, links: NDArray[np.int64]) -> NDArray[np.int64]:
    """(nodes,) the lowest node connected to each, where every row of `links` connects its nodes (union-find)."""
    parent = np.arange(nodes)
    for row in range(len(links)):
        one = links[row, 0]
        for column in range(1, links.shape[1]):
            one, other = _root(parent, one), _root(parent, links[row, column])
            one, other = min(one, other), max(one, other)
            parent[other] = one
    for node in range(nodes):
        parent[node] = parent[parent[node]]  # no parent is above its node, so it has its root already
    return parent


@kernel
def _root(parent: NDArray[np.int64], node: int) -> int:
    """The root of a node; the path to it is halved."""
    while parent[node] != node:
        parent[node] = parent[parent[node]]
        node = parent[node]
    return node


@kernel
def _edge_balance(uses: NDArray[np.int64]) -> tuple[bool, bool]:
    """Whether all edges are used twice, and as often each way as they can be, from sorted 2 * edge + direction."""
    two_each, balanced = True, True
    start = 0
    while start < len(uses):
        stop, forward = start, 0
        while stop < len(uses) and uses[stop] >> 1 == uses[start] >> 1:
            forward += uses[stop] & 1
            stop += 1
        total = stop - start
        two_each &= total == 2
        # Solids that touch along an edge give it four faces: they balance too, two each way.
        balanced &= abs(2 * forward - total) == total % 2
        start = stop
    return two_each, balanced


@kernel
def _tetrahedra(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """(F, 3) terms whose sum is six times the signed volume between each face and the origin."""
    terms = np.empty((len(faces), 3))
    for face in range(len(faces)):
        a, b, c = vertices[faces[face, 0]], vertices[faces[face, 1]], vertices[faces[face, 2]]
        terms[face, 0] = a[0] * (b[1] * c[2] - b[2] * c[1])
        terms[face, 1] = a[1] * (b[2] * c[0] - b[0] * c[2])
        terms[face, 2] = a[2] * (b[0] * c[1] - b[1] * c[0])
    return terms
