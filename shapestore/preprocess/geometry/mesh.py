"""The triangle mesh that formats produce and geometry consumes: its areas, and which of its vertices are the same."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.kernel import kernel


@dataclass(frozen=True)
class Mesh:
    """A triangle soup.

    Attributes
    ----------
    vertices
        (V, 3) float64, in the unit of the raw file until normalised.
    faces
        (F, 3) int64, indices into `vertices`.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]


@kernel
def double_areas(vertices: NDArray[np.float64], faces: NDArray[np.int64]) -> NDArray[np.float64]:
    """(F,) float64 twice the area of each triangle."""
    doubled = np.empty(len(faces))
    for face in range(len(faces)):
        a, b, c = vertices[faces[face, 0]], vertices[faces[face, 1]], vertices[faces[face, 2]]
        ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
        vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
        x, y, z = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        doubled[face] = math.sqrt(x * x + y * y + z * z)
    return doubled


def distinct_positions(positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find positions that are equal in every digit; the zeros of both signs are.

    Parameters
    ----------
    positions
        (n, 3) float64; of a NaN, the bits count.

    Returns
    -------
    first
        (k,) int64, rising: where each different position occurs first.
    label
        (n,) int64: which of the k positions each one is, so that `positions[first][label] == positions`.
    """
    positive_zeros = np.ascontiguousarray(positions, np.float64) + 0.0
    first, label = distinct_rows(positive_zeros.view(np.int64))
    return first, label


@kernel
def distinct_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find equal rows of an (n, 3) int64 array; returns as `distinct_positions`.

    An open-addressing hash table of 2 n to 4 n slots of 8 bytes: linear in n.
    """
    slots = 4
    while slots < 2 * len(rows):
        slots *= 2
    table = np.full(slots, -1)  # the label of the row that took the slot
    first = np.empty(len(rows), np.int64)
    label = np.empty(len(rows), np.int64)
    count = 0
    for row in range(len(rows)):
        x, y, z = rows[row, 0], rows[row, 1], rows[row, 2]
        # Multiplication with large odd numbers wraps around, and brings every bit into the upper half.
        mixed = ((x * 0x1E3779B97F4A7C15 + y) * 0x3F58476D1CE4E5B9 + z) * 0x14D049BB133111EB
        slot = (mixed ^ (mixed >> 32)) & (slots - 1)
        while True:
            known = table[slot]
            if known < 0:
                table[slot] = known = count
                first[count] = row
                count += 1
                break
            other = first[known]
            if rows[other, 0] == x and rows[other, 1] == y and rows[other, 2] == z:
                break
            slot = (slot + 1) & (slots - 1)
        label[row] = known
    return first[:count].copy(), label
