"""The signed distance of all classes of a label map, and the class at each position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import igl
import numpy as np
from numpy.typing import ArrayLike, NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.hygiene import refuse_unsafe
from shapestore.preprocess.geometry.label_surface import ClassSurface
from shapestore.preprocess.geometry.normalise import Frame

_BATCH: Final = 32_768  # positions at a time; bounds the memory of a query, whatever its length
_CELL_BITS: Final = 5  # cells along an axis of the cube, as a power of two
_ROUNDING: Final = 1e-12  # above the error of a distance in float64, in normalised units


class FieldValues(NamedTuple):
    """What the field is at n positions: `labels > 0` holds exactly where `sdf < 0`."""

    sdf: NDArray[np.float32]
    """(n,) signed distance to the nearest class, normalised units, negative inside."""
    labels: NDArray[np.int8]
    """(n,) code of the class inside which the position lies deepest, 0 outside all."""


class LabelField:
    """The union of class surfaces as a signed distance field.

    Each class has its exact signed distance, negative inside; the field is the least of them. On a wall that two
    classes share it is therefore 0, and it does not measure the distance to the outer surface of the union.

    Parameters
    ----------
    surfaces
        Closed, outward class surfaces, world millimetres, at least one; codes 1..127, ascending.
    frame
        Brings world positions into normalised coordinates.

    Raises
    ------
    InputRefused
        EMPTY_LABELS without surfaces; as `refuse_unsafe` for a mesh that native code must not see.
    ValueError
        The codes are not ascending, or not codes of int8 labels.
    """

    def __init__(self, surfaces: Sequence[ClassSurface], frame: Frame) -> None:
        codes = [surface.code for surface in surfaces]
        if not codes:
            raise InputRefused(Reason.EMPTY_LABELS, "a field needs the surface of at least one class")
        if codes != sorted(set(codes)) or codes[0] < 1 or codes[-1] > 127:
            raise ValueError(f"class codes must ascend within 1 to 127, got {codes}")
        self._classes = tuple(_ClassField(surface, frame) for surface in surfaces)
        self.codes: tuple[int, ...] = tuple(codes)

    def signed(self, points: ArrayLike) -> FieldValues:
        """Signed distance and class at each position.

        Parameters
        ----------
        points
            (n, 3) finite positions, normalised coordinates.

        Returns
        -------
        FieldValues
            Distances in normalised units; of classes at one distance, the lowest code.

        Raises
        ------
        InputRefused
            NOT_FINITE for a NaN or infinite position.
        """
        positions = np.ascontiguousarray(points, dtype=np.float64)
        if not np.isfinite(positions).all():
            raise InputRefused(Reason.NOT_FINITE, "positions without a distance")
        sdf = np.empty(len(positions), np.float32)
        labels = np.empty(len(positions), np.int8)
        order = np.argsort(_cell_codes(positions), kind="stable")
        for start in range(0, len(positions), _BATCH):
            rows = order[start : start + _BATCH]
            distance, nearest = self._nearest(positions[rows])
            sdf[rows], labels[rows] = distance, nearest
        # The sign that is kept decides: a distance may round to zero.
        labels[~(sdf < 0)] = 0
        return FieldValues(sdf, labels)

    def _nearest(self, points: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Least signed distance over all classes, and the code of its class.

        A class lies within its box, so its signed distance is nowhere less than that of the box. The classes are
        asked in the order of that bound, each only where its bound does not exceed the best distance so far; and
        a position inside one class needs no distance to a class that it is outside of.
        """
        bounds = np.stack([part.lower_bound(points) for part in self._classes]) - _ROUNDING
        order = np.argsort(bounds, axis=0, kind="stable")
        best = np.full(len(points), np.inf)
        owner = np.full(len(points), 128, np.int64)
        for place in range(len(self._classes)):
            for number, part in enumerate(self._classes):
                rows = np.flatnonzero((order[place] == number) & (bounds[number] <= best))
                inside = part.contains(points[rows])
                asked = inside | (best[rows] >= 0)
                rows, inside = rows[asked], inside[asked]
                distance = part.distance(points[rows]) * np.where(inside, -1.0, 1.0)
                tie = (distance == best[rows]) & (part.code < owner[rows])
                closer = (distance < best[rows]) | tie
                best[rows[closer]] = distance[closer]
                owner[rows[closer]] = part.code
        return best, owner


class _ClassField:
    """Exact signed distance to one closed surface, in normalised coordinates."""

    def __init__(self, surface: ClassSurface, frame: Frame) -> None:
        refuse_unsafe(surface.mesh)
        self.code = surface.code
        self._vertices = np.ascontiguousarray(frame.apply(surface.mesh.vertices))
        self._faces = np.ascontiguousarray(surface.mesh.faces, dtype=np.int64)
        self._low, self._high = self._vertices.min(axis=0), self._vertices.max(axis=0)
        self._tree = igl.AABB()
        self._tree.init(self._vertices, self._faces)
        self._winding = igl.FastWindingNumberBVH()
        self._winding.init(self._vertices, self._faces)

    def lower_bound(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) signed distance to the bounding box, negative inside."""
        beyond = np.maximum(self._low - points, points - self._high)
        outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
        return np.asarray(outside + np.minimum(beyond.max(axis=1), 0))

    def contains(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """(n,) whether each position is inside, by the winding number; outside the box it need not be asked."""
        inside = ((points > self._low) & (points < self._high)).all(axis=1)
        boxed = np.flatnonzero(inside)
        if len(boxed) > 0:  # native code is not asked about nothing
            inside[boxed] = self._winding.winding_number(points[boxed]) > 0.5
        return np.asarray(inside)

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) exact unsigned distance to the surface."""
        if len(points) == 0:
            return np.empty(0)
        squared, _, _ = self._tree.squared_distance(self._vertices, self._faces, points)
        return np.asarray(np.sqrt(squared))


def _cell_codes(points: NDArray[np.float64]) -> NDArray[np.int64]:
    """(n,) Morton code of the cell of the cube that each position is in (Morton, IBM technical report, 1966).

    Neighbouring queries walk the same branches of the trees: in this order they take about half the time.
    """
    cells = 2**_CELL_BITS
    index = np.clip(np.floor((points + 1) * (cells / 2)), 0, cells - 1).astype(np.int64)
    codes = np.zeros(len(points), np.int64)
    for bit in range(_CELL_BITS):
        for axis in range(3):
            codes |= ((index[:, axis] >> bit) & 1) << (3 * bit + axis)
    return codes
