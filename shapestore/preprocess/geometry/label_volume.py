"""The part of a label map that holds classes, and where in it each class is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shapestore.errors import InputRefused, Reason
from shapestore.kernel import kernel


@dataclass(frozen=True, eq=False)
class LabelVolume:
    """A label map cut down to its classes, with one voxel of background all around.

    Attributes
    ----------
    codes
        (X, Y, Z) uint8, C order: class of each voxel, 0 for background and throughout the border.
    affine
        (4, 4) float64, index of `codes` to world RAS+ millimetres; voxel centres have integer indices.
    voxels
        (256,) int64: number of voxels of each class; the first entry is 0.
    low, high
        (256, 3) int64: the first index of each class, and one past its last; both 0 for an absent class.
    """

    codes: NDArray[np.uint8]
    affine: NDArray[np.float64]
    voxels: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]

    @property
    def present(self) -> tuple[int, ...]:
        """The classes with at least one voxel, ascending."""
        return tuple(np.flatnonzero(self.voxels).tolist())

    @property
    def edges(self) -> NDArray[np.float64]:
        """(3,) edge lengths of a voxel, millimetres."""
        return np.asarray(np.linalg.norm(self.affine[:3, :3], axis=0))

    def box(self, code: int) -> tuple[slice, slice, slice]:
        """Where a class is, with one voxel around it."""
        x, y, z = (slice(a - 1, b + 1) for a, b in zip(self.low[code].tolist(), self.high[code].tolist(), strict=True))
        return x, y, z


def label_volume(codes: NDArray[np.uint8], affine: NDArray[np.float64]) -> LabelVolume:
    """Find all classes of a label map in one pass, and cut out the box around them.

    Parameters
    ----------
    codes
        (X, Y, Z) uint8 class of each voxel, 0 for background, in any memory order.
    affine
        (4, 4) float64, voxel index to world RAS+ millimetres.

    Returns
    -------
    LabelVolume
        A copy; memory: one byte a voxel of the box.

    Raises
    ------
    InputRefused
        EMPTY_LABELS where no voxel has a class; BAD_AFFINE for an affine that is not finite, not invertible or not
        affine.
    ValueError
        Not a volume of uint8.
    """
    if codes.ndim != 3 or codes.dtype != np.uint8:
        raise ValueError(f"codes must be a volume of uint8, got {codes.dtype} of shape {codes.shape}")
    _refuse_affine(affine)
    # Files have their first axis fastest: in that order they are read once, in the other they would be copied.
    turned = codes.flags.f_contiguous and not codes.flags.c_contiguous
    voxels, low, high = _extents(codes.T if turned else np.ascontiguousarray(codes))
    if not voxels.any():
        raise InputRefused(Reason.EMPTY_LABELS, "no voxel of the map has a class")
    if turned:
        low, high = low[:, ::-1], high[:, ::-1]
    present = voxels > 0
    first = low[present].min(axis=0)
    last = high[present].max(axis=0)
    cut = np.zeros(last - first + 2, np.uint8)
    cut[1:-1, 1:-1, 1:-1] = codes[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
    placed = affine.astype(np.float64)
    placed[:3, 3] += affine[:3, :3] @ (first - 1)
    shift = np.where(present[:, None], first - 1, 0)
    return LabelVolume(cut, placed, voxels, low - shift, high - shift)


def voxels_by_class(volume: LabelVolume) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort the voxels of all classes by class, in one pass.

    Returns
    -------
    starts
        (257,) int64: the voxels of class c are those from `starts[c]` up to `starts[c + 1]`.
    voxels
        (n,) int64: flat indices into `volume.codes`, ascending within a class; 8 bytes a voxel that has one.
    """
    starts = np.concatenate([[0], np.cumsum(volume.voxels)])
    return starts, np.asarray(_sorted_voxels(volume.codes.ravel(), starts))


def _refuse_affine(affine: NDArray[np.float64]) -> None:
    """Refuse what places the voxels nowhere, or all in one plane."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or (affine[3] != (0, 0, 0, 1)).any():
        raise InputRefused(Reason.BAD_AFFINE, f"a finite (4, 4) affine was expected, got {affine.tolist()}")
    if np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise InputRefused(Reason.BAD_AFFINE, f"it is not invertible: {affine.tolist()}")


@kernel
def _extents(
    codes: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Number of voxels, first index, and one past the last index of every code but 0."""
    voxels = np.zeros(256, np.int64)
    low = np.zeros((256, 3), np.int64)
    high = np.zeros((256, 3), np.int64)
    for i in range(codes.shape[0]):
        for j in range(codes.shape[1]):
            for k in range(codes.shape[2]):
                code = codes[i, j, k]
                if code == 0:
                    continue
                if voxels[code] == 0:
                    low[code, 0], low[code, 1], low[code, 2] = i, j, k
                voxels[code] += 1
                low[code, 1] = min(low[code, 1], j)
                low[code, 2] = min(low[code, 2], k)
                high[code, 0] = i + 1
                high[code, 1] = max(high[code, 1], j + 1)
                high[code, 2] = max(high[code, 2], k + 1)
    return voxels, low, high


@kernel
def _sorted_voxels(codes: NDArray[np.uint8], starts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counting sort of the positions of all codes but 0."""
    voxels = np.empty(starts[256], np.int64)
    filled = starts[:256].copy()
    for position in range(len(codes)):
        code = codes[position]
        if code > 0:
            voxels[filled[code]] = position
            filled[code] += 1
    return voxels
