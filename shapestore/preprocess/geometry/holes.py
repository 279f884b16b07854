"""The openings of patches: those that a missing face or a torn edge leaves are filled, for they are no way out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import Patches, areas, crosses

CONTINUES: Final = 0.35
"""An opening goes on with the surface around it if its normal and those beside it have at least this mean cosine."""

SMOOTH_SHARE: Final = 0.3
"""An opening that goes on with its surface is a hole if it has at most this share of the patch's area ..."""

ROUGH_SHARE: Final = 0.03
"""... any other one if it has at most this share: the end of a tube is no hole in it, ..."""

LARGEST_HOLE: Final = 0.03
"""... and in no case with more than this share of the area of all patches."""

OUTLINE: Final = 0.75
"""An opening of at least this share of its patch's area is the outline of a sheet."""


@dataclass(frozen=True, eq=False)
class Filled:
    """Patches with their holes filled.

    Attributes
    ----------
    patches
        As before, followed by the faces of the fillings, which belong to the patch around them and have no raw winding.
    closed
        (count,) bool: no opening is left, and the winding is consistent.
    filling
        Area of the fillings as a share of all.
    openings
        Fans over the openings that were left, sheets' outlines excepted; over the same vertices.
    """

    patches: Patches
    closed: NDArray[np.bool_]
    filling: float
    openings: NDArray[np.int64]


def fill_holes(patches: Patches) -> Filled:
    """Close each hole of a patch by a fan around the middle of its edges.

    An opening is a hole if it is small and every edge of it has no other face: where a third face meets the edge the
    surface goes on. O(F log F) time.
    """
    faces = patches.mesh.faces
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    partner, single = _matched(patches, start, end)
    half = np.flatnonzero(partner < 0)
    if len(half) == 0:
        return Filled(patches, patches.orientable, 0.0, faces[:0])
    label, count = _openings(partner)
    loop, owner = label[half], patches.patch[half // 3]
    vertices = np.concatenate([patches.mesh.vertices, _middles(patches.mesh, start[half], end[half], loop, count)])
    fans = np.stack([end[half], start[half], len(patches.mesh.vertices) + loop], axis=1)
    size, opening = areas(patches.mesh), np.bincount(loop, weights=areas(Mesh(vertices, fans)), minlength=count)
    around = np.zeros(count)
    around[loop] = np.bincount(patches.patch, weights=size, minlength=patches.count)[owner]
    smooth = _continues(Mesh(vertices, fans), patches.mesh, half // 3, loop, count)
    limit = np.minimum(np.where(smooth, SMOOTH_SHARE, ROUGH_SHARE) * around, LARGEST_HOLE * size.sum())
    alone = np.bincount(loop, weights=~single[half], minlength=count) == 0
    hole = alone & (opening <= limit)
    filled, left = hole[loop], ~hole[loop] & (opening < OUTLINE * around)[loop]
    closed = patches.orientable.copy()
    closed[owner[~filled]] = False
    grown = Patches(
        Mesh(vertices, np.concatenate([faces, fans[filled]])),
        np.concatenate([patches.patch, owner[filled]]),
        np.pad(patches.agreement, (0, int(filled.sum()))),
        patches.count,
        patches.orientable,
    )
    return Filled(grown, closed, float(opening[hole].sum() / size.sum()), fans[left])


def _middles(
    mesh: Mesh, start: NDArray[np.int64], end: NDArray[np.int64], loop: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """(count, 3) middle of the edges of each opening, weighted by their length."""
    a, b = mesh.vertices[start], mesh.vertices[end]
    length = np.linalg.norm(b - a, axis=1)
    total = np.bincount(loop, weights=length, minlength=count)
    sums = [np.bincount(loop, weights=length * middle, minlength=count) for middle in ((a + b) / 2).T]
    return np.stack(sums, axis=1) / total[:, None]


def _continues(
    fans: Mesh, mesh: Mesh, beside: NDArray[np.int64], loop: NDArray[np.int64], count: int
) -> NDArray[np.bool_]:
    """(count,) whether each opening goes on with the faces `beside` its edges."""
    normal = np.stack([np.bincount(loop, weights=part, minlength=count) for part in crosses(fans).T], axis=1)
    own = crosses(Mesh(mesh.vertices, mesh.faces[beside]))
    sizes = np.linalg.norm(own, axis=1) * np.linalg.norm(normal, axis=1)[loop]
    cosine = np.divide((own * normal[loop]).sum(axis=1), sizes, out=np.zeros(len(own)), where=sizes > 0)
    edge = fans.vertices[fans.faces[:, 1]] - fans.vertices[fans.faces[:, 0]]
    length = np.linalg.norm(edge, axis=1)
    mean = np.bincount(loop, weights=length * cosine, minlength=count)
    return np.asarray(mean >= CONTINUES * np.bincount(loop, weights=length, minlength=count))


def _matched(
    patches: Patches, start: NDArray[np.int64], end: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pair the half-edges of a patch that run along the same edge in opposite directions.

    Returns the other half-edge of each, -1 where there is none, and whether its edge has no other face at all. Bodies
    that touch along an edge have four faces there, two each: within its patch each body is closed all the same.
    """
    owner = np.repeat(patches.patch, 3)
    key = np.minimum(start, end) * len(patches.mesh.vertices) + np.maximum(start, end)
    forward = start < end
    order = np.lexsort((forward, owner, key))
    return _paired(order, key[order], owner[order], forward[order])


@kernel
def _paired(
    order: NDArray[np.int64], key: NDArray[np.int64], owner: NDArray[np.int64], forward: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Walk the runs of equal edges, and within each the runs of one patch, backward half-edges first."""
    count = len(order)
    partner = np.full(count, -1, np.int64)
    single = np.zeros(count, np.bool_)
    first = 0
    while first < count:
        last = first
        while last < count and key[last] == key[first]:
            last += 1
        single[order[first]] = last == first + 1
        while first < last:
            ahead = first
            while ahead < last and owner[ahead] == owner[first] and not forward[ahead]:
                ahead += 1
            stop = ahead
            while stop < last and owner[stop] == owner[first]:
                stop += 1
            for k in range(min(ahead - first, stop - ahead)):
                partner[order[first + k]] = order[ahead + k]
                partner[order[ahead + k]] = order[first + k]
            first = stop
    return partner, single


@kernel
def _openings(partner: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Number of the opening of each half-edge without a partner, -1 for the others, and how many there are.

    From a half-edge the walk turns round the fan of faces at its end, so openings that touch at a corner stay apart.
    """
    label = np.full(len(partner), -1, np.int64)
    count = 0
    for seed in range(len(partner)):
        if partner[seed] >= 0 or label[seed] >= 0:
            continue
        at = seed
        while label[at] < 0:
            label[at] = count
            at = at - at % 3 + (at + 1) % 3
            while partner[at] >= 0:
                other = partner[at]
                at = other - other % 3 + (other + 1) % 3
        count += 1
    return label, count
