"""The rims of patches: closed walks along the edges that have a face on one side only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import Patches, unit_normals


@dataclass(frozen=True, eq=False)
class Rims:
    """Rims one after the other; each goes the way that its faces travel its edges.

    Attributes
    ----------
    start, end
        (n,) int64 vertices of each edge; the end of one is the start of the next.
    face
        (n,) int64 the face beside each edge.
    normal
        (n, 3) unit normal of that face; zero for one without area.
    length
        (n,) length of each edge.
    single
        (n,) bool: the edge has no other face, not even one of another patch.
    first
        (count + 1,) int64: the edges of rim r are `first[r]` to `first[r + 1]`.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    face: NDArray[np.int64]
    normal: NDArray[np.float64]
    length: NDArray[np.float64]
    single: NDArray[np.bool_]
    first: NDArray[np.int64]

    @property
    def count(self) -> int:
        """Number of rims."""
        return len(self.first) - 1

    @property
    def edges(self) -> NDArray[np.int64]:
        """(count,) number of edges of each rim."""
        return np.diff(self.first)

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(count, ...) mean of (n, ...) values over the edges of each rim, by their length."""
        weight = self.length.reshape(-1, *(1,) * (values.ndim - 1))
        first = self.first[:-1]
        return np.asarray(np.add.reduceat(weight * values, first) / np.add.reduceat(weight, first))


def rims(patches: Patches) -> Rims | None:
    """Find the rims of all patches; None where there are none.

    Two half-edges of a patch that run along the same edge in opposite directions are a pair; what is left of them makes
    up the rims. So bodies that touch along an edge, which has four faces there, two each, are closed within their
    patch all the same. O(F log F) time.
    """
    faces = patches.mesh.faces
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    owner = np.repeat(patches.patch, 3)
    key = np.minimum(start, end) * len(patches.mesh.vertices) + np.maximum(start, end)
    forward = start < end
    order = np.lexsort((forward, owner, key))
    partner, single = _paired(order, key[order], owner[order], forward[order])
    half, first = _walked(partner)
    if len(half) == 0:
        return None
    vertices = patches.mesh.vertices
    return Rims(
        start=start[half],
        end=end[half],
        face=half // 3,
        normal=unit_normals(Mesh(vertices, faces[half // 3])),
        length=np.asarray(np.linalg.norm(vertices[end[half]] - vertices[start[half]], axis=1)),
        single=single[half],
        first=first,
    )


@kernel
def _paired(
    order: NDArray[np.int64], key: NDArray[np.int64], owner: NDArray[np.int64], forward: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The other half-edge of each, -1 where there is none, and whether its edge has no other face at all.

    Walks the runs of equal edges, and within each the runs of one patch, backward half-edges first.
    """
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
def _walked(partner: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The half-edges without a partner, rim after rim, and where each rim begins.

    From a half-edge the walk turns round the fan of faces at its end, so rims that touch at a corner stay apart.
    """
    alone = 0
    for at in range(len(partner)):
        alone += partner[at] < 0
    half, first = np.empty(alone, np.int64), np.empty(alone + 1, np.int64)
    seen = np.zeros(len(partner), np.bool_)
    filled, count = 0, 0
    for seed in range(len(partner)):
        if partner[seed] >= 0 or seen[seed]:
            continue
        first[count] = filled
        at = seed
        while not seen[at]:
            seen[at] = True
            half[filled] = at
            filled += 1
            at = at - at % 3 + (at + 1) % 3
            while partner[at] >= 0:
                other = partner[at]
                at = other - other % 3 + (other + 1) % 3
        count += 1
    first[count] = filled
    return half, first[: count + 1]
