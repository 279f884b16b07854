"""Ways to spoil a mesh while the solid that it stands for stays the same; all are drawn from a seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from judges.solids import joined
from shapestore.preprocess.geometry.mesh import Mesh


def flip(mesh: Mesh, share: float, seed: int) -> Mesh:
    """Wind a random share of the faces the other way."""
    return _turned(mesh, np.random.default_rng(seed).random(len(mesh.faces)) < share)


def double_sided(mesh: Mesh) -> Mesh:
    """Add every face once more with the other winding."""
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[:, ::-1]]))


def duplicate(mesh: Mesh, share: float, seed: int) -> Mesh:
    """Add a random share of the faces once more, with the same winding."""
    chosen = np.random.default_rng(seed).random(len(mesh.faces)) < share
    return Mesh(mesh.vertices, np.concatenate([mesh.faces, mesh.faces[chosen]]))


def invert(mesh: Mesh) -> Mesh:
    """Wind every face the other way."""
    return _turned(mesh, np.ones(len(mesh.faces), bool))


def invert_parts(mesh: Mesh, share: float, seed: int) -> Mesh:
    """Wind a random share of the connected parts the other way, at least one and not all if there are several."""
    part = parts(mesh)
    count = int(part.max()) + 1
    turned = min(max(round(share * count), 1), max(count - 1, 1))
    chosen = np.random.default_rng(seed).permutation(count)[:turned]
    return _turned(mesh, np.isin(part, chosen))


def holes(mesh: Mesh, area_share: float, seed: int) -> Mesh:
    """Take random faces out, as many as fit into a share of the area: of large and small faces, mostly small ones."""
    order = np.random.default_rng(seed).permutation(len(mesh.faces))
    return _without(mesh, order, area_share)


def missing_faces(mesh: Mesh, share: float, seed: int) -> Mesh:
    """Take random faces out: a share of their number, rounded up, that has at most this share of the area too."""
    order = np.random.default_rng(seed).permutation(len(mesh.faces))
    return _without(mesh, order, share, int(np.ceil(share * len(order))))


def missing_patch(mesh: Mesh, area_share: float, seed: int) -> Mesh:
    """Take out the faces around a random one: one large opening in one part.

    As many as fit into a share of the area of the mesh and into half of the part's, so that no part is lost.
    """
    start = int(np.random.default_rng(seed).integers(len(mesh.faces)))
    part = parts(mesh)
    area, same = _areas(mesh), part == part[start]
    centres = mesh.vertices[mesh.faces].mean(axis=1)
    order = np.argsort(np.linalg.norm(centres - centres[start], axis=1), kind="stable")
    share = min(area_share, 0.5 * area[same].sum() / area.sum())
    return _without(mesh, order[same[order]], share)


def cracks(mesh: Mesh, area_share: float, seed: int) -> Mesh:
    """Pull random faces away from their neighbours: half of them shrink, which opens a gap at every edge.

    The gaps have `area_share` of the area of all faces.
    """
    rng = np.random.default_rng(seed)
    area = _areas(mesh)
    chosen = rng.random(len(mesh.faces)) < 0.5
    chosen[np.argmax(area)] = True
    shrink = np.sqrt(max(1 - area_share * area.sum() / area[chosen].sum(), 0.0))
    corners = mesh.vertices[mesh.faces]
    centres = corners[chosen].mean(axis=1, keepdims=True)
    smaller = centres + shrink * (corners[chosen] - centres)
    torn = Mesh(smaller.reshape(-1, 3), np.arange(3 * len(smaller)).reshape(-1, 3))
    return joined([torn, Mesh(mesh.vertices, mesh.faces[~chosen])])


def unwelded(mesh: Mesh) -> Mesh:
    """Give every face three vertices of its own."""
    return Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(3 * len(mesh.faces)).reshape(-1, 3))


def parts(mesh: Mesh) -> NDArray[np.int64]:
    """(F,) number of the connected part of each face; parts share no vertex index."""
    a, b, c = mesh.faces.T
    ends = np.concatenate([a, b]), np.concatenate([b, c])
    links = coo_array((np.ones(2 * len(a), np.int8), ends), shape=(len(mesh.vertices), len(mesh.vertices)))
    label = connected_components(links, directed=False)[1][a]
    return np.unique(label, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _turned(mesh: Mesh, chosen: NDArray[np.bool_]) -> Mesh:
    """Wind the chosen faces the other way."""
    return Mesh(mesh.vertices, np.where(chosen[:, None], mesh.faces[:, ::-1], mesh.faces))


def _without(mesh: Mesh, order: NDArray[np.int64], area_share: float, most: int | None = None) -> Mesh:
    """Drop faces, `most` at most, in the given order, skipping those that do not fit into what is left of the area."""
    area = _areas(mesh)
    left = area_share * area.sum()
    kept = np.ones(len(mesh.faces), bool)
    for face in order:
        if area[face] <= left and (most is None or len(kept) - kept.sum() < most):
            left -= area[face]
            kept[face] = False
    return Mesh(mesh.vertices, mesh.faces[kept])


def _areas(mesh: Mesh) -> NDArray[np.float64]:
    """(F,) area of each face."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)
