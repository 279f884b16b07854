"""Pairs of shapes that two samplings of one surface could have given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shapestore.quality.clusters import Pairs
from shapestore.quality.descriptor import AXES, HARMONICS, turned
from shapestore.quality.surface_pair import Surface, fit, gap

ROUGHNESS_SHARE: Final = 0.5
"""What another sampling of a shape adds to its offset from itself, as a share of its roughness."""

EXTENT_SHARE: Final = 0.025
"""How much a difference of extents counts beside an offset: so that another sampling adds as much to either."""

_BLOCK_BYTES: Final = 32 * 2**20
"""Distances between descriptors that are in memory at once."""

_ANGLES: Final = np.arange(0, 2 * np.pi, np.pi / 180)

_PEAKS: Final = 3
"""Turns that are tried for a pair: a shape of some symmetry has nearly equal best ones."""


@dataclass(frozen=True)
class Limits:
    """Up to where two shapes are alike."""

    reach: float
    """Euclidean distance of the moduli of their coefficients."""
    nearest: int
    """A shape is compared with so many of those after it, the nearest by their moduli, for each axis."""
    gap: float
    """`gap` in units of the spacing of their points."""
    misfit: float
    """Offset beyond `ROUGHNESS_SHARE` of their roughness, and `EXTENT_SHARE` of the difference of their extents."""


@dataclass(frozen=True)
class Shapes:
    """What is known of m shapes; NaN where nothing is."""

    points: NDArray[np.float16]
    """(m, k, 3) evenly spread points in their `own_frame`."""
    coefficients: NDArray[np.float16]
    """(m, axes, knots, 2 harmonics) `cylinder_coefficients` about each of `AXES`, real and imaginary part in turn."""
    spacing: NDArray[np.float64]
    """(m,) `spacing` of the points."""
    normals: NDArray[np.int8]
    """(m, k, 3) unit normals at the points, times 127."""
    roughness: NDArray[np.float64]
    """(m,) `roughness` of the points and normals."""


def alike(shapes: Shapes, limits: Limits) -> Pairs:
    """All pairs that two samplings of one shape could be, turned about an axis.

    Pairs with similar moduli about the axis are compared by their points, at the turns that fit best, then by their
    points and normals.

    Returns
    -------
    (p, 2) int64
        Positions of the two shapes of each pair, ascending.
    """
    known = np.flatnonzero(np.isfinite(shapes.spacing))
    tried: dict[tuple[int, int], bool] = {}
    for position, axis in enumerate(AXES):
        coefficients = shapes.coefficients[known, position].astype(np.float32).view(np.complex64)
        for pairs in _candidates(np.abs(coefficients), limits):
            angles = _best_turns(coefficients[pairs[:, 0]], coefficients[pairs[:, 1]])
            for (first, second), turns in zip(known[pairs].tolist(), angles.tolist(), strict=True):
                if not tried.get((first, second)):
                    tried[first, second] = any(_are_one(shapes, first, second, axis, turn, limits) for turn in turns)
    found = sorted(pair for pair, fits in tried.items() if fits)
    return np.array(found, np.int64).reshape(-1, 2)


def _are_one(shapes: Shapes, first: int, second: int, axis: int, angle: float, limits: Limits) -> bool:
    """Whether two shapes are alike when the first is turned by an angle."""
    points = turned(shapes.points[first].astype(np.float64), axis, angle)
    others = shapes.points[second].astype(np.float64)
    if gap(points, others) > limits.gap * shapes.spacing[[first, second]].mean():
        return False
    normals = shapes.normals[[first, second]] / 127.0
    left = fit(Surface(points, turned(normals[0], axis, angle)), Surface(others, normals[1]), axis)
    offset = max(0.0, left.offset - ROUGHNESS_SHARE * float(shapes.roughness[[first, second]].mean()))
    return offset + EXTENT_SHARE * left.extent <= limits.misfit


def _candidates(moduli: NDArray[np.float32], limits: Limits) -> Iterator[NDArray[np.int64]]:
    """Pairs (p, 2) of rows with moduli within reach, the second after the first; block by block of first rows."""
    rows = moduli.reshape(len(moduli), -1)
    squares = np.einsum("ij,ij->i", rows, rows)
    size = max(1, _BLOCK_BYTES // (4 * max(1, len(rows))))
    for start in range(0, len(rows), size):
        block = slice(start, start + size)
        distance = squares[block, np.newaxis] + squares[start:] - 2 * (rows[block] @ rows[start:].T)
        first, second = np.nonzero(distance <= limits.reach**2)
        later = second > first
        first, second = first[later], second[later]
        order = np.lexsort((distance[first, second], first))
        first, second = first[order], second[order]
        rank = np.arange(len(first)) - np.searchsorted(first, first)
        kept = rank < limits.nearest
        yield start + np.stack([first[kept], second[kept]], axis=1)


def _best_turns(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> NDArray[np.float64]:
    """(p, peaks) angles by which the first of each pair is to be turned: the highest peaks of their correlation.

    Parameters
    ----------
    first, second
        (p, knots, harmonics) coefficients about the axis of the turn.
    """
    correlation = np.einsum("pkm,pkm->pm", first.conj(), second)
    correlation[:, 0] /= 2  # every other harmonic has a twin of negative frequency
    waves = np.exp(-1j * np.outer(np.arange(HARMONICS + 1), _ANGLES)).astype(np.complex64)
    height = (correlation @ waves).real
    peak = (height >= np.roll(height, 1, axis=1)) & (height > np.roll(height, -1, axis=1))
    return np.asarray(_ANGLES[np.argsort(np.where(peak, -height, np.inf), axis=1)[:, :_PEAKS]])
