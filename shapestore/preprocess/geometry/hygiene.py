"""The one gate in front of everything native: a mesh that passes crashes no library and yields no noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.normalise import Frame, box_frame

WELD_DISTANCE: Final = 1e-9
"""Vertices at most this far apart, in radii of the mesh, are one vertex in the report."""

SMALLEST_AREA: Final = 1e-12
"""A surface of at most this area, in squared radii of the mesh, is none."""

# A triangle's height is computed from coordinates that each carry half a unit in the last place; products and
# differences of three corners add up to a few of those.
_HEIGHT_ULPS: Final = 8.0


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
    sampling sees the surface that the file describes.

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
        their extent.
    """
    refuse_unsafe(mesh)
    used = _compact(mesh)
    frame = box_frame(used.vertices)
    solid = _without_degenerate(used, frame)
    corners = frame.apply(solid.vertices)[solid.faces]
    area = float(np.linalg.norm(_cross(corners), axis=1).sum() / 2)
    if area <= SMALLEST_AREA:
        raise InputRefused(
            Reason.ZERO_AREA,
            f"{len(mesh.faces)} faces, whose area is {area:g} times the squared radius of the mesh",
        )
    return solid, _report(solid, len(mesh.faces))


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
    outside = ((mesh.faces < 0) | (mesh.faces >= len(mesh.vertices))).any(axis=1)
    if outside.any():
        face = int(outside.argmax())
        raise InputRefused(
            Reason.INDEX_RANGE,
            f"face {face} is {mesh.faces[face].tolist()}, but the vertices are 0 to {len(mesh.vertices) - 1}",
        )
    finite = np.asarray(np.isfinite(mesh.vertices).all(axis=1))
    broken = ~finite[mesh.faces].all(axis=1)
    if broken.any():
        raise InputRefused(
            Reason.NOT_FINITE,
            f"{broken.sum()} faces use such vertices, the first is face {int(broken.argmax())}",
        )


def _compact(mesh: Mesh) -> Mesh:
    """Drop vertices that no face uses; the order of the others stays."""
    used, faces = np.unique(mesh.faces, return_inverse=True)
    vertices = np.ascontiguousarray(mesh.vertices[used], dtype=np.float64)
    return Mesh(vertices, np.ascontiguousarray(faces.reshape(-1, 3), dtype=np.int64))


def _without_degenerate(mesh: Mesh, frame: Frame) -> Mesh:
    """Drop faces whose height is within the rounding of the raw coordinates."""
    corners = frame.apply(mesh.vertices)[mesh.faces]
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    resolution = float(np.spacing(np.abs(mesh.vertices).max())) * frame.scale
    # height = double area / longest edge, written without the division that an edge of length 0 forbids
    solid = np.linalg.norm(_cross(corners), axis=1) > longest * _HEIGHT_ULPS * resolution
    if not solid.any():
        raise InputRefused(Reason.ZERO_AREA, f"all {len(mesh.faces)} faces are degenerate")
    return _compact(Mesh(mesh.vertices, mesh.faces[solid]))


def _report(mesh: Mesh, raw_faces: int) -> MeshReport:
    """Weld a normalised copy, drop repeated faces, and count."""
    frame = box_frame(mesh.vertices)
    welded = _weld(Mesh(frame.apply(mesh.vertices), mesh.faces))
    _, first = np.unique(np.sort(welded.faces, axis=1), axis=0, return_index=True)
    single = _compact(Mesh(welded.vertices, welded.faces[np.sort(first)]))
    watertight, consistent = _edge_facts(single.faces)
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
    vertices, exact = np.unique(mesh.vertices, axis=0, return_inverse=True)
    pairs = cKDTree(vertices).query_pairs(WELD_DISTANCE, output_type="ndarray")
    label = _group(len(vertices), pairs[:, 0], pairs[:, 1])
    _, first = np.unique(label, return_index=True)
    faces = label[exact.reshape(-1)][mesh.faces]
    collapsed = (faces == np.roll(faces, 1, axis=1)).any(axis=1)
    return Mesh(vertices[first], faces[~collapsed])


def _group(nodes: int, source: NDArray[np.int64], target: NDArray[np.int64]) -> NDArray[np.int64]:
    """(nodes,) number of the connected component of each node of a graph."""
    links = coo_array((np.ones(len(source), np.int8), (source, target)), shape=(nodes, nodes))
    return np.asarray(connected_components(links, directed=False)[1], np.int64)


def _components(mesh: Mesh) -> int:
    """Number of groups of faces that are connected through vertices."""
    a, b, c = mesh.faces.T
    label = _group(len(mesh.vertices), np.concatenate([a, b]), np.concatenate([b, c]))
    return len(np.unique(label))


def _edge_facts(faces: NDArray[np.int64]) -> tuple[bool, bool]:
    """Whether every edge has two faces, and whether they agree on inside and outside."""
    edges = np.stack([faces, np.roll(faces, -1, axis=1)], axis=2).reshape(-1, 2)
    forward = edges[:, 0] < edges[:, 1]
    _, edge = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
    total = np.bincount(edge.reshape(-1))
    surplus = np.abs(np.bincount(edge.reshape(-1), weights=np.where(forward, 1, -1)))
    watertight = len(faces) > 0 and bool((total == 2).all())
    # Solids that touch along an edge give it four faces: they balance too, two each way.
    return watertight, bool((surplus == total % 2).all())


def _volume(mesh: Mesh) -> float:
    """Signed volume by the divergence theorem: the sum of the tetrahedra between the faces and the origin."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def _cross(corners: NDArray[np.float64]) -> NDArray[np.float64]:
    """(F, 3) normals of (F, 3, 3) triangles, as long as twice the area."""
    return np.asarray(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]))
