"""Which faces of a soup belong together: welded, single, and wound alike within each manifold patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel
from shapestore.preprocess.geometry.clustered import refuse_clustered
from shapestore.preprocess.geometry.mesh import Mesh

WELD_DISTANCE: Final = 1e-5
"""Vertices of a normalised mesh at most this far apart are one vertex to the sign: fifty times finer than the band
around the surface in which a sign means nothing."""

DECIDED: Final = 0.6
"""The raw faces say how a patch is wound if the winding of one side has this much more of the area than the other."""

SEAMS: Final = 0.2
"""At most this share of a patch's edges may be seams between two bodies."""

CREASE: Final = 0.9
"""Cosine of the angle between two faces below which their common edge is a crease."""


@dataclass(frozen=True, eq=False)
class Patches:
    """The faces of a welded mesh, each once, wound alike across every edge that has exactly two of them.

    Attributes
    ----------
    mesh
        Welded vertices and single faces; the winding within a patch is consistent, its side is arbitrary.
    patch
        (F,) int64: number of the patch of each face. Two faces with a common edge that no third face has are in one.
    agreement
        (F,) int8: +1 if the raw faces have this winding, -1 if the other one, 0 if they have both equally often.
    count
        Number of patches.
    orientable
        (count,) bool: False where no winding is consistent, as on a Moebius strip.
    """

    mesh: Mesh
    patch: NDArray[np.int64]
    agreement: NDArray[np.int8]
    count: int
    orientable: NDArray[np.bool_]


def patches(mesh: Mesh) -> Patches:
    """Weld, drop repeated faces in either winding, and split at edges that do not have exactly two faces.

    Parameters
    ----------
    mesh
        A mesh that passed `clean`, normalised by `box_frame`.

    Returns
    -------
    Patches
        O(F log F) time; about 200 bytes a face at the peak.

    Raises
    ------
    InputRefused
        ZERO_AREA where welding leaves no face, or would join more vertices than can be looked at.
    """
    welded = _weld(mesh)
    single, surplus = _single(welded)
    if len(single) == 0:
        raise InputRefused(Reason.ZERO_AREA, f"every face is narrower than {WELD_DISTANCE:g} of the mesh's box")
    partner = _partners(_edge_keys(single, len(welded.vertices)))
    found = _assembled(welded.vertices, single, surplus, partner)
    torn = _seams(found, single, surplus, partner)
    if torn.any():
        found = _assembled(welded.vertices, single, surplus, np.where(torn, -1, partner))
    return found


def facets(patches: Patches, chosen: NDArray[np.bool_]) -> Patches:
    """Split the chosen patches, (count,) bool, along their creases."""
    half, beside = _linked(patches)
    normal = unit_normals(patches.mesh)
    sharp = np.abs((normal[half // 3] * normal[beside // 3]).sum(axis=1)) < CREASE
    return _divided(patches, half, beside, sharp & chosen[patches.patch[half // 3]])


def cut(patches: Patches, marked: NDArray[np.bool_]) -> Patches:
    """Split patches along the edges between marked and other faces, (F,) bool."""
    half, beside = _linked(patches)
    return _divided(patches, half, beside, marked[half // 3] != marked[beside // 3])


def crosses(mesh: Mesh) -> NDArray[np.float64]:
    """(F, 3) normal of each face, as long as twice its area."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return np.asarray(np.cross(b - a, c - a))


def areas(mesh: Mesh) -> NDArray[np.float64]:
    """(F,) area of each face."""
    return np.asarray(np.linalg.norm(crosses(mesh), axis=1) / 2)


def unit_normals(mesh: Mesh) -> NDArray[np.float64]:
    """(F, 3) unit normal of each face; zero for one without area."""
    cross = crosses(mesh)
    length = np.linalg.norm(cross, axis=1, keepdims=True)
    return np.asarray(np.divide(cross, length, out=np.zeros_like(cross), where=length > 0))


def _linked(patches: Patches) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Half-edges whose edge has exactly two faces, and the other one of each."""
    partner = _partners(_edge_keys(patches.mesh.faces, len(patches.mesh.vertices)))
    half = np.flatnonzero(partner >= 0)
    return half, partner[half]


def _divided(patches: Patches, half: NDArray[np.int64], beside: NDArray[np.int64], apart: NDArray[np.bool_]) -> Patches:
    """The patches without those links between two half-edges that are marked; different ones stay apart."""
    kept = ~apart & (patches.patch[half // 3] == patches.patch[beside // 3])
    partner = np.full(3 * len(patches.mesh.faces), -1, np.int64)
    partner[half[kept]] = beside[kept]
    return _assembled(patches.mesh.vertices, patches.mesh.faces, patches.agreement, partner)


def _assembled(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], surplus: NDArray[np.int8], partner: NDArray[np.int64]
) -> Patches:
    """Patches of faces that are linked as `partner` says."""
    flipped, patch, conflict = _propagate(partner, faces)
    turned = np.where(flipped[:, None], faces[:, ::-1], faces)
    agreement = np.where(flipped, -surplus, surplus).astype(np.int8)
    return Patches(Mesh(vertices, turned), patch, agreement, len(conflict), ~conflict)


def _seams(
    found: Patches, faces: NDArray[np.int64], surplus: NDArray[np.int8], partner: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(3F,) half-edges at which the raw winding changes within a patch that is half wound one way, half the other.

    Few such edges between large regions are where two bodies touch and a missing face has made the contact look
    manifold. Many are single flipped faces, which belong to their patch.
    """
    size = areas(found.mesh)
    total = np.bincount(found.patch, weights=size, minlength=found.count)
    lean = np.bincount(found.patch, weights=size * found.agreement, minlength=found.count)
    half = np.flatnonzero(partner >= 0)
    face, beside = half // 3, partner[half] // 3
    parallel = faces[face, half % 3] == faces[beside, partner[half] % 3]
    known = surplus[face] * surplus[beside]
    against = (parallel == (known > 0)) & (known != 0)
    links = np.bincount(found.patch[face], minlength=found.count)
    seams = np.bincount(found.patch[face], weights=against, minlength=found.count)
    split = (np.abs(lean) < DECIDED * total) & (seams <= SEAMS * links)
    # A patch without openings that can be wound alike is one body, however few of its faces are flipped.
    if split.any():
        split &= ~(found.orientable & _balanced(found))
    torn = np.zeros(len(partner), bool)
    torn[half[against & split[found.patch[face]]]] = True
    return torn


def _balanced(found: Patches) -> NDArray[np.bool_]:
    """(count,) patches that travel each of their edges as often one way as the other: those without openings."""
    start, end = found.mesh.faces.reshape(-1), np.roll(found.mesh.faces, -1, axis=1).reshape(-1)
    owner = np.repeat(found.patch, 3)
    low, high = np.minimum(start, end), np.maximum(start, end)
    order = np.lexsort((high, low, owner))
    ranked = np.stack([owner, low, high])[:, order]
    first = np.flatnonzero(np.append(True, (ranked[:, 1:] != ranked[:, :-1]).any(axis=0)))
    surplus = np.add.reduceat(np.where(start < end, 1, -1)[order], first)
    return np.asarray(np.bincount(owner[order[first]], weights=surplus != 0, minlength=found.count) == 0)


def _weld(mesh: Mesh) -> Mesh:
    """Join vertices within `WELD_DISTANCE`, transitively, and drop the faces that this collapses; may refuse."""
    label = _same_position(mesh.vertices)
    distinct = np.zeros((int(label.max()) + 1, 3))
    distinct[label[::-1]] = mesh.vertices[::-1]
    refuse_clustered(distinct, WELD_DISTANCE)
    pairs = cKDTree(distinct).query_pairs(WELD_DISTANCE, output_type="ndarray")
    if len(pairs):
        links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(distinct),) * 2)
        group = connected_components(links, directed=False)[1].astype(np.int64)
        merged = np.zeros((int(group.max()) + 1, 3))
        merged[group[::-1]] = distinct[::-1]
        label, distinct = group[label], merged
    faces = label[mesh.faces]
    kept = (faces != np.roll(faces, 1, axis=1)).all(axis=1)
    return Mesh(distinct, np.ascontiguousarray(faces[kept]))


def _same_position(vertices: NDArray[np.float64]) -> NDArray[np.int64]:
    """(V,) number of the position of each vertex, equal where all three coordinates are."""
    order = np.lexsort(vertices.T)
    ranked = vertices[order]
    new = np.zeros(len(order), np.int64)
    new[1:] = (ranked[1:] != ranked[:-1]).any(axis=1)
    label = np.empty(len(order), np.int64)
    label[order] = np.cumsum(new)
    return label


def _single(mesh: Mesh) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Each face once, and whether the raw faces have its winding more often (+1), less (-1), or equally often (0)."""
    # A rotation that puts the lowest index first keeps the winding; the order of the other two then names it.
    lowest = mesh.faces.argmin(axis=1)
    rows = np.arange(len(lowest))
    a, b, c = (mesh.faces[rows, (lowest + k) % 3] for k in range(3))
    low, high = np.minimum(b, c), np.maximum(b, c)
    order = np.lexsort((high, low, a))
    a, low, high, forward = a[order], low[order], high[order], (b < c)[order]
    new = np.ones(len(order), bool)
    new[1:] = (a[1:] != a[:-1]) | (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    start = np.flatnonzero(new)
    net = np.add.reduceat(np.where(forward, 1, -1), start)
    return np.stack([a[start], low[start], high[start]], axis=1), np.sign(net).astype(np.int8)


def _edge_keys(faces: NDArray[np.int64], vertices: int) -> NDArray[np.int64]:
    """(3F,) the same number for the same two vertices; half-edge 3f + k goes from corner k of face f to the next."""
    after = np.roll(faces, -1, axis=1)
    return np.asarray(np.minimum(faces, after) * vertices + np.maximum(faces, after)).reshape(-1)


def _partners(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3F,) the other half-edge of an edge that has exactly two, else -1."""
    order = np.argsort(keys, kind="stable")
    ranked = keys[order]
    same = ranked[1:] == ranked[:-1]
    alone = np.ones(len(same), bool)
    alone[1:] &= ~same[:-1]
    alone[:-1] &= ~same[1:]
    pair = np.flatnonzero(same & alone)
    partner = np.full(len(keys), -1, np.int64)
    partner[order[pair]] = order[pair + 1]
    partner[order[pair + 1]] = order[pair]
    return partner


@kernel
def _propagate(
    partner: NDArray[np.int64], faces: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.bool_]]:
    """Walk from face to face across shared edges: which to turn round, their patches, and which patches conflict."""
    count = len(faces)
    flipped = np.zeros(count, np.bool_)
    patch = np.full(count, -1, np.int64)
    conflict = np.zeros(count, np.bool_)
    stack = np.empty(count, np.int64)
    patches = 0
    for seed in range(count):
        if patch[seed] >= 0:
            continue
        patch[seed] = patches
        stack[0] = seed
        height = 1
        while height > 0:
            height -= 1
            face = stack[height]
            for side in range(3):
                other = partner[3 * face + side]
                if other < 0:
                    continue
                neighbour = other // 3
                # Faces that agree travel their common edge in opposite directions.
                parallel = faces[face, side] == faces[neighbour, other % 3]
                turned = flipped[face] != parallel
                if patch[neighbour] < 0:
                    patch[neighbour] = patches
                    flipped[neighbour] = turned
                    stack[height] = neighbour
                    height += 1
                elif flipped[neighbour] != turned:
                    conflict[patches] = True
        patches += 1
    return flipped, patch, conflict[:patches]
