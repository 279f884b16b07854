"""Labels and distances of a raw label map by other means than those of ingest: read by nibabel, measured by voxels.

Ingest measures the distance to smoothed class surfaces. Here it is that to the nearest voxel face between two labels,
which has neither the half voxel of bias that distances between voxel centres have, nor any smoothing.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray
from scipy.ndimage import affine_transform, find_objects
from scipy.spatial import cKDTree

from shapestore.schemas.recipe import LabelsPart

Floats = NDArray[np.float64]
Codes = NDArray[np.uint8]

NEAREST: Final = 8
"""Voxel faces that are looked at for the nearest: the one with the nearest centre need not be the nearest one."""
REACH: Final = 0.25
"""Half the edge of what counts of a voxel face, in voxels: its corners stick out of a smooth surface farthest."""
UNREADABLE: Final = (ValueError, OSError, ImageFileError, HeaderDataError)
"""What `read_label_truth` raises for what it cannot read."""
ENDINGS: Final = (".nii.gz", ".nii", ".img")
"""Ends of the names of volumes, lower case."""


class Nearest(NamedTuple):
    """The field of a label map at n positions."""

    distance: Floats
    """(n,) millimetres, signed: negative where the voxel has a label."""
    gradient: Floats
    """(n, 3) unit, world axes: the direction in which the distance grows; NaN at distance 0."""
    labels: Codes
    """(n,) label of the voxel; 0 outside the map."""


class LabelTruth:
    """A label map in world RAS+ millimetres.

    Parameters
    ----------
    codes
        (X, Y, Z) class of each voxel, 0 for background, at least one other.
    affine
        (4, 4) voxel index to world.

    Notes
    -----
    Memory: some 100 bytes a voxel face between two labels.
    """

    def __init__(self, codes: Codes, affine: Floats) -> None:
        (box,) = find_objects(codes > 0, max_label=1)
        assert box is not None, "some voxel has a label"  # noqa: S101
        start = np.array([side.start - 1 for side in box])
        self.codes: Codes = np.pad(codes[box], 1)
        self.axes = affine[:3, :3]
        self.origin = affine[:3, 3] + self.axes @ start
        self._ends = -start, np.array(codes.shape) - 1 - start

    @property
    def voxel(self) -> float:
        """Root mean square of a voxel's edges, millimetres."""
        return float(np.sqrt((self.axes**2).sum() / 3))

    @property
    def voxel_volume(self) -> float:
        """Cubed millimetres."""
        return float(abs(np.linalg.det(self.axes)))

    @cached_property
    def voxels(self) -> NDArray[np.int64]:
        """(256,) number of voxels of each class; the first entry means nothing."""
        return np.bincount(self.codes.ravel(), minlength=256)

    @cached_property
    def boxes(self) -> list[tuple[slice, ...] | None]:
        """Where each class from 1 to 255 is in `codes`; None for one that is absent."""
        return list(find_objects(self.codes, max_label=255))

    def face_area(self, code: int) -> float:
        """Area of the voxel faces of a class, square millimetres."""
        box = self.boxes[code - 1]
        if box is None:
            return 0.0
        mask = np.pad(self.codes[box] == code, 1)
        sides = [np.cross(self.axes[:, (axis + 1) % 3], self.axes[:, (axis + 2) % 3]) for axis in range(3)]
        counts = [np.count_nonzero(np.diff(mask, axis=axis)) for axis in range(3)]
        return float(np.dot(counts, np.linalg.norm(sides, axis=1)))

    def at(self, world: Floats) -> Nearest:
        """Label, signed distance to the nearest voxel face between two labels, and its gradient at (n, 3) positions."""
        index = self._index(world)
        centres, halves, tree = self._faces
        _, near = tree.query(world, k=min(NEAREST, len(centres)))
        near = near.reshape(len(world), -1)
        # The face's own point nearest to the position; exact for axes at right angles, as those of scanners are.
        offset = index[:, None] - centres[near]
        offset -= np.clip(offset, -halves[near], halves[near])
        ways = offset @ self.axes.T
        lengths = np.linalg.norm(ways, axis=2)
        best = lengths.argmin(axis=1)
        rows = np.arange(len(world))
        length, way, labels = lengths[rows, best], ways[rows, best], self.labels(world)
        side = np.where(labels > 0, -1.0, 1.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            gradient = side[:, None] * way / length[:, None]
        return Nearest(side * length, gradient, labels)

    def labels(self, world: Floats) -> Codes:
        """(n,) label of the voxel at each of (n, 3) positions; 0 outside the map."""
        return self._codes_at(np.rint(self._index(world)))

    def within(self, world: Floats) -> NDArray[np.bool_]:
        """(n,) whether positions lie between the centres of the map's outermost voxels."""
        index = self._index(world)
        low, high = self._ends
        return np.asarray(((index >= low) & (index <= high)).all(axis=1))

    def touches(self, world: Floats, labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """(n,) whether one of the eight voxel centres around a position has the given label, as at its surface."""
        corner = np.floor(self._index(world))
        found = np.zeros(len(world), bool)
        for step in np.ndindex(2, 2, 2):
            found |= self._codes_at(corner + step) == labels
        return found

    def _index(self, world: Floats) -> Floats:
        return np.asarray((world - self.origin) @ np.linalg.inv(self.axes).T)

    def _codes_at(self, voxel: Floats) -> Codes:
        """(n,) label of voxels, 0 outside the map; (n, 3) whole numbers, which int64 need not hold."""
        held = ((voxel >= 0) & (voxel < self.codes.shape)).all(axis=1)
        found = np.zeros(len(voxel), np.uint8)
        found[held] = self.codes[tuple(voxel[held].astype(np.int64).T)]
        return found

    @cached_property
    def _faces(self) -> tuple[Floats, Floats, cKDTree]:
        """(f, 3) middles and half lengths, in indices, of all voxel faces between labels, and a tree of them in mm."""
        middles, halves = [], []
        for axis in range(3):
            turned = np.moveaxis(self.codes, axis, 0)
            found = np.argwhere(np.moveaxis(turned[1:] != turned[:-1], 0, axis)).astype(np.float64)
            found[:, axis] += 0.5
            half = np.full(3, REACH)
            half[axis] = 0
            middles.append(found)
            halves.append(np.broadcast_to(half, found.shape))
        centres = np.concatenate(middles)
        return centres, np.concatenate(halves), cKDTree(centres @ self.axes.T + self.origin, balanced_tree=False)


def read_label_truth(path: Path, part: LabelsPart) -> LabelTruth:
    """Read a label map, or a folder of masks, with nibabel.

    Raises
    ------
    One of `UNREADABLE`
        It cannot be read, or no voxel has a declared label.
    """
    codes, affine = _map(path, part) if part.layout == "file" else _masks(path, part)
    if not codes.any():
        raise ValueError(f"{path.name} holds none of {', '.join(part.names)}")
    return LabelTruth(codes, affine)


def _map(path: Path, part: LabelsPart) -> tuple[Codes, Floats]:
    voxels, affine = _volume(path)
    if part.scheme == "single":
        return (voxels != 0).astype(np.uint8), affine
    values = [int(value) for value in part.class_values.values()]
    # Values below and above those that are declared count as the first and the last entry, which are background.
    codes = np.zeros(max(values) + 2, np.uint8)
    codes[values] = range(1, len(values) + 1)
    return codes.take(voxels.T, mode="clip").T, affine  # in the order of the file, whose first axis is the fastest


def _masks(path: Path, part: LabelsPart) -> tuple[Codes, Floats]:
    """Masks on the grid of the finest of them, around all; the class that is declared first keeps a voxel."""
    asked = [str(value).casefold() for value in part.class_values.values()]
    files = {_stem(file): file for file in sorted(path.iterdir()) if _stem(file)}
    order = list(files) if part.scheme == "single" else [name for name in asked if name in files]
    masks = [(1 if part.scheme == "single" else asked.index(name) + 1, *_volume(files[name])) for name in order]
    masks = [mask for mask in masks if mask[1].any()]
    if not masks:
        raise ValueError(f"{path.name} holds no mask with a voxel")
    _, _, finest = min(masks, key=lambda mask: abs(np.linalg.det(mask[2])))
    to_index = np.linalg.inv(finest)
    corners = np.concatenate([_corners(voxels.shape) @ (to_index @ affine).T for _, voxels, affine in masks])[:, :3]
    low, high = np.floor(corners.min(axis=0) + 0.5), np.ceil(corners.max(axis=0) - 0.5)
    grid = finest.copy()
    grid[:3, 3] += finest[:3, :3] @ low
    codes = np.zeros((high - low).astype(int) + 1, np.uint8)
    for code, voxels, affine in masks:
        to_own = np.linalg.inv(affine) @ grid
        # "grid-constant" knows the outer halves of the outermost voxels, where rounding may put one.
        mask = affine_transform(
            (voxels != 0).astype(np.uint8), to_own, output_shape=codes.shape, order=0, mode="grid-constant"
        )
        codes[(codes == 0) & (mask > 0)] = code
    return codes, grid


def _volume(path: Path) -> tuple[NDArray[np.integer[Any]], Floats]:
    """(X, Y, Z) whole values of one volume, and its affine."""
    image = nib.load(path)
    values = np.asarray(image.dataobj)
    whole = values if values.dtype.kind in "iu" else np.rint(values).astype(np.int32)
    return whole.reshape(whole.shape[:3]), np.asarray(image.affine, np.float64)


def _corners(shape: tuple[int, ...]) -> Floats:
    """(8, 4) homogeneous indices of the centres of the outermost voxels."""
    ends = np.array(np.meshgrid(*([0, size - 1] for size in shape), [1], indexing="ij"), np.float64)
    return ends.reshape(4, -1).T


def _stem(file: Path) -> str:
    """Name of a volume without its ending, in the form in which names are compared; empty for another file."""
    name = file.name.casefold()
    return next((name.removesuffix(ending) for ending in ENDINGS if name.endswith(ending)), "")
