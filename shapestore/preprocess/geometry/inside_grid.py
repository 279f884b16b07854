"""Inside or outside at all centres of a grid, asked once for each region that no face divides."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.mesh import Mesh

ROUNDING: Final = 1e-7
"""Around closed patches a face parts two centres if it comes this near to the line between them."""

CRACK: Final = 0.25
"""Around open ones if it comes within this share of a cell: so finer cracks between faces join no regions."""

_VOTES_CLOSED: Final = 3
_VOTES_OPEN: Final = 64


def inside_grid(
    contains: Callable[[NDArray[np.float64]], NDArray[np.bool_]], barriers: Mesh, size: int, closed: bool
) -> NDArray[np.bool_]:
    """Ask `contains` at a few cells of each region, and at all of them where those disagree.

    Two neighbouring centres are in one region if no barrier comes between them. Around closed patches the winding
    number is the same throughout a region. Where patches are open it changes across their openings too, which are
    barriers, but not exactly there, and wide cracks may join regions: so more cells are asked, and as many again of
    those that a barrier parts from a neighbour, for a thin region that hangs on to a large one has mostly such.

    Parameters
    ----------
    contains
        (n, 3) positions to (n,) bool.
    barriers
        What separates inside from outside.
    size
        Cells along each axis, >= 1.
    closed
        Whether the barriers are closed patches only.

    Returns
    -------
    (size, size, size) bool
        Indexed (x, y, z). O(F size^2) in the worst case, about O(F + size^3) for faces of the size of a cell; 60 bytes
        a cell.
    """
    links = _open_links(barriers.vertices, barriers.faces, size, ROUNDING if closed else CRACK * 2 / size)
    region, count = _regions(links)
    # Cells at barriers vote apart from the others of their region.
    group = region if closed else 2 * region + _at_barrier(links)
    groups = count if closed else 2 * count
    order = np.argsort(group, kind="stable")
    cells = np.bincount(group, minlength=groups)
    votes = np.minimum(cells, _VOTES_CLOSED if closed else _VOTES_OPEN)
    owner = np.repeat(np.arange(groups), votes)
    rank = np.arange(len(owner)) - (np.cumsum(votes) - votes)[owner]
    asked = order[(np.cumsum(cells) - cells)[owner] + (2 * rank + 1) * cells[owner] // (2 * votes[owner])]
    yes = np.bincount(region[asked], weights=contains(_centres(asked, size)), minlength=count)
    all_votes = np.bincount(region[asked], minlength=count)
    inside = (yes == all_votes)[region]
    split = np.flatnonzero(((yes > 0) & (yes < all_votes))[region])
    inside[split] = contains(_centres(split, size))
    return np.asarray(inside.reshape(size, size, size))


def _at_barrier(links: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(size^3,) cells that some barrier parts from a neighbour."""
    parted = np.zeros(links.shape[1:], bool)
    for axis in range(3):
        ahead = np.moveaxis(parted, axis, 0)
        closed = ~np.moveaxis(links[axis], axis, 0)[:-1]
        ahead[:-1] |= closed
        ahead[1:] |= closed
    return parted.reshape(-1)


def _centres(cells: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """(n, 3) centres of cells numbered with z fastest."""
    index = np.stack(np.unravel_index(cells, (size, size, size)), axis=1)
    return np.asarray(-1 + (index + 0.5) * (2 / size))


@kernel
def _open_links(vertices: NDArray[np.float64], faces: NDArray[np.int64], size: int, near: float) -> NDArray[np.bool_]:
    """(3, size, size, size): [axis, x, y, z] whether no face comes between a centre and the next one along the axis.

    A link is closed too where a face comes nearer than `near`: that may split a region, but never join two.
    """
    links = np.ones((3, size, size, size), np.bool_)
    cell = 2.0 / size
    where = np.empty(3, np.int64)
    for face in faces:
        corners = vertices[face]
        for axis in range(3):
            u, v = (axis + 1) % 3, (axis + 2) % 3
            area = (corners[1, u] - corners[0, u]) * (corners[2, v] - corners[0, v]) - (
                corners[2, u] - corners[0, u]
            ) * (corners[1, v] - corners[0, v])
            low, high = corners[:, axis].min(), corners[:, axis].max()
            first_u, last_u = _within(corners[:, u].min(), corners[:, u].max(), size, near)
            first_v, last_v = _within(corners[:, v].min(), corners[:, v].max(), size, near)
            for i in range(first_u, last_u):
                for j in range(first_v, last_v):
                    at_u, at_v = -1 + (i + 0.5) * cell, -1 + (j + 0.5) * cell
                    if not _covers(corners, u, v, at_u, at_v, area, near):
                        continue
                    enter, leave = low, high
                    if abs(area) > 1e-9:
                        depth = _depth(corners, axis, u, v, at_u, at_v, area)
                        enter = leave = min(max(depth, low), high)
                    begin = max(math.ceil((enter - near + 1) / cell - 0.5) - 1, 0)
                    end = min(math.floor((leave + near + 1) / cell - 0.5) + 1, size)
                    where[u], where[v] = i, j
                    for k in range(begin, end):
                        where[axis] = k
                        links[axis, where[0], where[1], where[2]] = False
    return links


@kernel
def _within(low: float, high: float, size: int, near: float) -> tuple[int, int]:
    """Range of the indices whose centres are from low to high, or nearer than `near` to that."""
    first = math.ceil((low - near + 1) * size / 2 - 0.5)
    last = math.floor((high + near + 1) * size / 2 - 0.5)
    return max(first, 0), min(last + 1, size)


@kernel
def _covers(corners: NDArray[np.float64], u: int, v: int, at_u: float, at_v: float, area: float, near: float) -> bool:
    """Whether a triangle, seen along the third axis, covers a position or nearly does."""
    turn = 1.0 if area >= 0 else -1.0
    for k in range(3):
        after = (k + 1) % 3
        along_u, along_v = corners[after, u] - corners[k, u], corners[after, v] - corners[k, v]
        beside = along_u * (at_v - corners[k, v]) - along_v * (at_u - corners[k, u])
        if turn * beside < -near * (abs(along_u) + abs(along_v)):
            return False
    return True


@kernel
def _depth(corners: NDArray[np.float64], axis: int, u: int, v: int, at_u: float, at_v: float, area: float) -> float:
    """Coordinate along the axis at which the plane of a triangle is met."""
    to_u, to_v = at_u - corners[0, u], at_v - corners[0, v]
    one_u, one_v = corners[1, u] - corners[0, u], corners[1, v] - corners[0, v]
    two_u, two_v = corners[2, u] - corners[0, u], corners[2, v] - corners[0, v]
    one, two = (to_u * two_v - to_v * two_u) / area, (one_u * to_v - one_v * to_u) / area
    base = corners[0, axis]
    return base + one * (corners[1, axis] - base) + two * (corners[2, axis] - base)  # type: ignore[no-any-return]


@kernel
def _regions(links: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """(size^3,) number of the region of each cell, z fastest, and how many regions there are."""
    size = links.shape[1]
    region = np.full(size**3, -1, np.int64)
    stack = np.empty(size**3, np.int64)
    step = np.array([size * size, size, 1])
    count = 0
    for seed in range(size**3):
        if region[seed] >= 0:
            continue
        region[seed] = count
        stack[0] = seed
        height = 1
        while height > 0:
            height -= 1
            cell = stack[height]
            x, y, z = cell // step[0], cell // size % size, cell % size
            for axis in range(3):
                at = x if axis == 0 else (y if axis == 1 else z)
                ahead, behind = cell + step[axis], cell - step[axis]
                if at + 1 < size and links[axis, x, y, z] and region[ahead] < 0:
                    region[ahead] = count
                    stack[height] = ahead
                    height += 1
                if at > 0 and region[behind] < 0:
                    px, py, pz = behind // step[0], behind // size % size, behind % size
                    if links[axis, px, py, pz]:
                        region[behind] = count
                        stack[height] = behind
                        height += 1
        count += 1
    return region, count
