"""The scalar fields whose level sets are the class surfaces of a label map."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from skimage.measure import marching_cubes

from shapestore.kernel import kernel
from shapestore.preprocess.geometry.closed_mesh import signed_volume
from shapestore.preprocess.geometry.label_smoothing import LEVEL, blurred_mask, lost_by_blur, mark_around
from shapestore.preprocess.geometry.label_volume import LabelVolume
from shapestore.preprocess.geometry.mesh import Mesh

VOLUME_TOLERANCE: Final = 0.10
"""A surface whose volume differs by more than this share from that of the class's voxels is not its surface."""

SEVERAL: Final = 255
"""In place of an owner: the surfaces of several classes enclose the voxel."""

_LEVEL_RANGE: Final = (0.05, 0.95)  # levels searched when the volume has to be matched
_LEVEL_STEP: Final = 1e-3


class ClassFields:
    """A field for each class of a label map, above `LEVEL` inside it.

    Away from thin parts it is the blurred mask of the class. In the crisp zone it is 1 at the voxels of the class and
    0 elsewhere, with one exception: where a class is too thin to keep its volume at `LEVEL`, its voxels get another
    value than 1, the peak p, and for all other classes those voxels get 1 - p. So the fields of two classes add up to
    one on either side of the wall between them, and both have the same wall.

    Parameters
    ----------
    volume
        With classes up to 254.
    smoothing
        As of `blurred_mask`; 0 for no blur.
    """

    def __init__(self, volume: LabelVolume, smoothing: float) -> None:
        self._volume = volume
        self._zone = np.full(volume.codes.shape, smoothing == 0)
        self._peaks = np.ones(256, np.float32)
        self._blurred: dict[int, NDArray[np.float32]] = {}
        thin = list(volume.present)
        if smoothing > 0:
            self._blurred = {code: blurred_mask(volume, code, smoothing) for code in volume.present}
            thin = [code for code, field in self._blurred.items() if not self.keeps_volume(code, _above(field))]
            for code, field in self._blurred.items():
                if code not in thin:
                    mark_around(self._zone, lost_by_blur(volume, code, field))
        self.leave_crisp(thin)

    def contour(self, code: int) -> Mesh:
        """The closed surface of a class, outward, in indices of the volume."""
        local = _contour(self._field(code))
        return Mesh(local.vertices + (self._volume.low[code] - 1), local.faces)

    def keeps_volume(self, code: int, volume: float) -> bool:
        """Whether a volume, in voxels, is that of a class within the tolerance."""
        voxels = int(self._volume.voxels[code])
        return abs(volume - voxels) <= VOLUME_TOLERANCE * voxels

    def is_crisp(self, code: int) -> bool:
        """Whether a class is not blurred anywhere."""
        return code not in self._blurred

    def leave_crisp(self, codes: Iterable[int]) -> set[int]:
        """Blur nothing at the voxels of these classes and next to them, and match their volumes.

        Returns
        -------
        set of int
            The classes whose field may be another one now: these, and those whose boxes meet theirs.
        """
        changed: set[int] = set()
        for code in codes:
            self._blurred.pop(code, None)
            mark_around(self._zone, self._voxels(code))
        for code in codes:
            self._peaks[code] = self._matching_peak(code)
            changed |= {other for other in self._volume.present if self._meet(code, other)}
        return changed

    def level(self, code: int) -> float:
        """The level of the 0/1 mask at which a crisp class is taken."""
        return LEVEL / float(self._peaks[code])

    def crisp_shares(self) -> NDArray[np.float64]:
        """(256,) share of the voxels of each class that is in the crisp zone."""
        crisp = np.bincount(self._volume.codes[self._zone], minlength=256)
        return np.asarray(crisp / np.maximum(self._volume.voxels, 1))

    def owners(self) -> NDArray[np.uint8]:
        """(X, Y, Z) the class whose surface encloses each voxel centre, 0 for none, or `SEVERAL`."""
        owners = np.zeros_like(self._volume.codes)
        for code in self._volume.present:
            _stamp(owners[self._volume.box(code)], self._field(code), LEVEL, code)
        return owners

    def _field(self, code: int) -> NDArray[np.float32]:
        """The field of a class in its box."""
        box = self._volume.box(code)
        values = 1 - self._peaks
        values[code] = self._peaks[code]
        if code not in self._blurred:
            return np.asarray(values[self._volume.codes[box]])
        # The zone only grows, so what was written before is written over.
        _write_crisp(self._blurred[code], self._volume.codes[box], self._zone[box], values)
        return self._blurred[code]

    def _voxels(self, code: int) -> NDArray[np.int64]:
        """(n, 3) indices of the voxels of a class."""
        box = self._volume.box(code)
        return np.asarray(np.argwhere(self._volume.codes[box] == code) + [side.start for side in box], np.int64)

    def _meet(self, code: int, other: int) -> bool:
        """Whether the boxes of two classes, each with a voxel around it, have a voxel in common."""
        low, high = self._volume.low, self._volume.high
        return bool(((low[code] - 1 <= high[other]) & (low[other] - 1 <= high[code])).all())

    def _matching_peak(self, code: int) -> float:
        """The peak that gives a class without blur the volume of its voxels, 1 where that is kept anyway."""
        own = self._volume.codes[self._volume.box(code)] == code
        field = self._field(code)
        tried: dict[float, float] = {}

        def excess(level: float) -> float:
            if level not in tried:
                field[own] = LEVEL / level
                tried[level] = signed_volume(_contour(field)) - float(self._volume.voxels[code])
            return tried[level]

        if self.keeps_volume(code, excess(LEVEL) + float(self._volume.voxels[code])):
            return 1.0
        # Between the levels 0 and 1 the surface of a 0/1 mask moves by a voxel: one of them has the right volume,
        # unless neighbours with peaks of their own leave no room.
        low, high = (_LEVEL_RANGE[0], LEVEL) if excess(LEVEL) < 0 else (LEVEL, _LEVEL_RANGE[1])
        if excess(high) < 0 < excess(low):
            brentq(excess, low, high, xtol=_LEVEL_STEP)
        # Where parts of a surface join at a level, the volume leaps: of its two sides one may do.
        return LEVEL / min(tried, key=lambda level: abs(tried[level]))


def _above(field: NDArray[np.float32]) -> int:
    """Number of voxels inside."""
    return int(np.count_nonzero(field > LEVEL))


def _contour(field: NDArray[np.float32]) -> Mesh:
    """The closed surface around the values above `LEVEL`, outward, in indices of the field."""
    vertices, faces, _, _ = marching_cubes(field, LEVEL, gradient_direction="ascent", allow_degenerate=False)
    return Mesh(vertices.astype(np.float64), faces.astype(np.int64))


@kernel
def _write_crisp(
    field: NDArray[np.float32], codes: NDArray[np.uint8], zone: NDArray[np.bool_], values: NDArray[np.float32]
) -> None:
    """Set the field to the value of the voxel's class wherever the zone is."""
    for x in range(field.shape[0]):
        for y in range(field.shape[1]):
            for z in range(field.shape[2]):
                if zone[x, y, z]:
                    field[x, y, z] = values[codes[x, y, z]]


@kernel
def _stamp(owners: NDArray[np.uint8], field: NDArray[np.float32], level: float, code: int) -> None:
    """Give the voxels above the level to a class; those that have an owner get `SEVERAL`."""
    for x in range(field.shape[0]):
        for y in range(field.shape[1]):
            for z in range(field.shape[2]):
                if field[x, y, z] > level:
                    owners[x, y, z] = code if owners[x, y, z] == 0 else SEVERAL
