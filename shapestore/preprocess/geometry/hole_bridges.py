"""Bridges: the sides of a plate of which only the two faces are left."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.hole_caps import turn, upright
from shapestore.preprocess.geometry.hole_rims import Rims
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.patches import areas, unit_normals


@dataclass(frozen=True, eq=False)
class Bridges:
    """Bands of triangles, each between two rims.

    Attributes
    ----------
    rims
        (b, 2) int64 the two rims of each bridge.
    turned
        (b,) bool: the patch of the second rim has to be turned round to be wound like the first.
    continuity
        (b,) mean cosine of the turn from the faces beside both rims to the band, by the length of the edges.
    area
        (b,) area of each band.
    faces
        (t, 3) int64 vertices, wound like the patch of the first rim.
    bridge
        (t,) int64 the bridge of each face, rising.
    """

    rims: NDArray[np.int64]
    turned: NDArray[np.bool_]
    continuity: NDArray[np.float64]
    area: NDArray[np.float64]
    faces: NDArray[np.int64]
    bridge: NDArray[np.int64]

    def select(self, chosen: NDArray[np.bool_]) -> Bridges:
        """Those of (b,) chosen bridges."""
        kept = chosen[self.bridge]
        number = np.cumsum(chosen) - 1
        return Bridges(
            self.rims[chosen],
            self.turned[chosen],
            self.continuity[chosen],
            self.area[chosen],
            self.faces[kept],
            number[self.bridge[kept]],
        )


def bridges(
    vertices: NDArray[np.float64], rims: Rims, middles: NDArray[np.float64], chosen: NDArray[np.int64]
) -> Bridges:
    """Join those of the chosen rims whose middles are nearest to one another.

    A band starts at the closest corners of its rims and goes round both; each triangle stands on an edge of one and has
    its tip on the other. Least is, as for `caps`, the sum of length times turn, over all edges but the one at which it
    starts; by dynamic programming over the pairs of corners, after Fuchs, Kedem and Uselton, "Optimal surface
    reconstruction from planar contours" (CACM 20, 1977). O(edges^2) time a band.

    Parameters
    ----------
    vertices
        (V, 3) of the mesh.
    rims
        Of the mesh.
    middles
        (count, 3) middle of each rim.
    chosen
        (k,) int64 numbers of rims.
    """
    pairs = chosen[_mutual_nearest(middles[chosen])]
    bridge = np.repeat(np.arange(len(pairs)), rims.edges[pairs].sum(axis=1))
    kept, straight = _joined(vertices, rims, pairs, bridge, turned=False)
    flipped, reverse = _joined(vertices, rims, pairs, bridge, turned=True)
    turned = reverse > straight
    faces = np.where(turned[bridge][:, None], flipped, kept)
    area = np.bincount(bridge, weights=areas(Mesh(vertices, faces)), minlength=len(pairs))
    return Bridges(pairs, turned, np.maximum(straight, reverse), np.asarray(area, np.float64), faces, bridge)


def _joined(
    vertices: NDArray[np.float64], rims: Rims, pairs: NDArray[np.int64], bridge: NDArray[np.int64], turned: bool
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Faces of the tightest bands, and their continuity, if the patches of the second rims are turned round or not."""
    faces, edge = _bands(vertices, rims.start, rims.end, rims.normal, rims.first, pairs, turned)
    on_second = (edge >= rims.first[pairs[bridge, 1]]) & (edge < rims.first[pairs[bridge, 1] + 1])
    cosine = (unit_normals(Mesh(vertices, faces)) * rims.normal[edge]).sum(axis=1)
    cosine[on_second & turned] *= -1
    total = np.bincount(bridge, weights=rims.length[edge], minlength=len(pairs))
    return faces, np.bincount(bridge, weights=rims.length[edge] * cosine, minlength=len(pairs)) / total


def _mutual_nearest(places: NDArray[np.float64]) -> NDArray[np.int64]:
    """(p, 2) pairs, the lower number first, of (k, 3) places each of which is the nearest one to the other."""
    if len(places) < 2:
        return np.empty((0, 2), np.int64)
    nearest = np.asarray(cKDTree(places).query(places, 2)[1], np.int64)
    own = np.arange(len(places))
    # Of two in the same place, either may come first.
    other = np.where(nearest[:, 0] == own, nearest[:, 1], nearest[:, 0])
    lower = np.flatnonzero((other[other] == own) & (own < other))
    return np.stack([lower, other[lower]], axis=1)


@kernel
def _bands(
    vertices: NDArray[np.float64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    normal: NDArray[np.float64],
    first: NDArray[np.int64],
    pairs: NDArray[np.int64],
    turned: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Faces of the tightest band of each pair, one after the other, and the edge of a rim on which each stands."""
    total = 0
    for one, two in pairs:
        total += first[one + 1] - first[one] + first[two + 1] - first[two]
    faces, edge = np.empty((total, 3), np.int64), np.empty(total, np.int64)
    count = 0
    for one, two in pairs:
        at, to = _closest(vertices, start, first[one], first[one + 1], first[two], first[two + 1])
        left, left_edge = _walk(start, end, first[one], first[one + 1], at, True)
        # Side by side, two rims that are wound alike run in opposite directions.
        right, right_edge = _walk(start, end, first[two], first[two + 1], to, turned)
        size = len(left_edge) + len(right_edge)
        sense = -1.0 if turned else 1.0
        _band(vertices, normal, sense, left, left_edge, right, right_edge, faces[count : count + size], edge[count:])
        count += size
    return faces, edge


@kernel
def _closest(
    vertices: NDArray[np.float64], start: NDArray[np.int64], one: int, one_end: int, two: int, two_end: int
) -> tuple[int, int]:
    """Of the edges from `one` and from `two` on, the two that start closest to one another."""
    at, to, least = one, two, np.inf
    for i in range(one, one_end):
        for j in range(two, two_end):
            a, b = vertices[start[i]], vertices[start[j]]
            x, y, z = a[0] - b[0], a[1] - b[1], a[2] - b[2]
            apart = x * x + y * y + z * z
            if apart < least:
                at, to, least = i, j, apart
    return at, to


@kernel
def _walk(
    start: NDArray[np.int64], end: NDArray[np.int64], first: int, last: int, begin: int, ahead: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners on the way round a rim, from where edge `begin` starts until there again, and the edges between them."""
    count = last - first
    corner, edge = np.empty(count + 1, np.int64), np.empty(count, np.int64)
    corner[0] = start[begin]
    for k in range(count):
        step = begin - first + k if ahead else begin - first + count - 1 - k
        edge[k] = first + step % count
        corner[k + 1] = end[edge[k]] if ahead else start[edge[k]]
    return corner, edge


@kernel
def _band(
    vertices: NDArray[np.float64],
    normal: NDArray[np.float64],
    sense: float,
    left: NDArray[np.int64],
    left_edge: NDArray[np.int64],
    right: NDArray[np.int64],
    right_edge: NDArray[np.int64],
    faces: NDArray[np.int64],
    edge: NDArray[np.int64],
) -> None:
    """Write the n + m faces of the tightest band between two walks, and the edge on which each stands.

    They travel the left walk backwards; `sense` is -1 if the normals beside the right one have to be turned round.
    """
    n, m = len(left_edge), len(right_edge)
    # By how far the band has come on either side, and on which side its last triangle stands.
    cost = np.full((n + 1, m + 1, 2), np.inf)
    before = np.zeros((n + 1, m + 1, 2), np.int64)
    facing = np.zeros((n + 1, m + 1, 2, 3))
    beside = np.empty(3)
    for i in range(n + 1):
        for j in range(m + 1):
            a, b = vertices[left[i]], vertices[right[j]]
            for side in range(2):
                if (i if side == 0 else j) == 0:
                    continue
                if side == 0:
                    p, q = i - 1, j
                    upward = upright(a, vertices[left[p]], b)
                    bend = turn(vertices[left[p]], a, normal[left_edge[p]], upward)
                else:
                    p, q = i, j - 1
                    upward = upright(vertices[right[q]], b, a)
                    for axis in range(3):
                        beside[axis] = sense * normal[right_edge[q], axis]
                    bend = turn(vertices[right[q]], b, beside, upward)
                for axis in range(3):
                    facing[i, j, side, axis] = upward[axis]
                if p == 0 and q == 0:
                    cost[i, j, side] = bend
                for last in range(2):
                    if cost[p, q, last] == np.inf:
                        continue
                    fold = turn(vertices[left[p]], vertices[right[q]], facing[p, q, last], upward)
                    if cost[p, q, last] + fold + bend < cost[i, j, side]:
                        cost[i, j, side], before[i, j, side] = cost[p, q, last] + fold + bend, last
    i, j, side = n, m, 0 if cost[n, m, 0] <= cost[n, m, 1] else 1
    for count in range(n + m):
        last = before[i, j, side]
        if side == 0:
            i -= 1
            faces[count, 0], faces[count, 1], faces[count, 2] = left[i + 1], left[i], right[j]
            edge[count] = left_edge[i]
        else:
            j -= 1
            faces[count, 0], faces[count, 1], faces[count, 2] = right[j], right[j + 1], left[i]
            edge[count] = right_edge[j]
        side = last
