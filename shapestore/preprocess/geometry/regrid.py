"""Masks on different grids in one world frame, brought onto one grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import affine_transform

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.formats.label_image import LabelImage

SAME_GRID: Final = 1e-3
"""Grids are equal if no corner of them differs by more than this share of a voxel's edge."""

MOST_VOXELS: Final = 1 << 30
"""Voxels of the common grid, each a byte a mask."""

_TIE: Final = 1e-6
"""Share of a voxel by which samples are moved, so that rounding does not decide between two equally near voxels."""


def same_grid(
    images: Sequence[LabelImage], spacing: tuple[float, float, float] | None = None
) -> tuple[list[NDArray[np.bool_]], NDArray[np.float64]]:
    """Bring masks that share a world frame onto one grid.

    Masks on equal grids stay as they are. Otherwise the common grid runs along the axes of the finest mask (of the
    smallest voxel volume, the first of several), covers the boxes of all masks, and every voxel takes the nearest
    voxel of each mask, False outside it. With the finest mask's own spacing its voxels are voxels of the common
    grid, so it is not resampled.

    Parameters
    ----------
    images
        One mask or more; what is not 0 is foreground.
    spacing
        Edges of the common grid's voxels in mm, along the axes of the finest mask; its own if None.

    Returns
    -------
    masks
        (X, Y, Z) bool, one an image, in their order.
    affine
        (4, 4) float64 of the common grid, to world millimetres.

    Raises
    ------
    InputRefused
        GRID_MISMATCH if the world box of a mask overlaps that of no other, or the common grid would have more than
        `MOST_VOXELS`.
    ValueError
        Without images, or for a spacing that is not positive.
    """
    if not images:
        raise ValueError("at least one mask is needed")
    if spacing is not None and not (np.isfinite(spacing).all() and min(spacing) > 0):
        raise ValueError(f"a spacing is positive, not {spacing}")
    _refuse_strangers(images)
    finest = min(images, key=lambda image: abs(np.linalg.det(image.affine[:3, :3])))
    own = np.linalg.norm(finest.affine[:3, :3], axis=0)
    wanted = own if spacing is None else np.asarray(spacing, np.float64)
    if np.allclose(wanted, own, rtol=SAME_GRID, atol=0) and all(_equal(images[0], other) for other in images[1:]):
        return [image.voxels != 0 for image in images], images[0].affine.copy()
    affine, shape = _common_grid(images, finest, wanted / own)
    return [_resample(image, affine, shape) for image in images], affine


def _corners(image: LabelImage) -> NDArray[np.float64]:
    """(8, 4) homogeneous voxel indices of the corners of the outermost voxels."""
    ends = [(-0.5, length - 0.5) for length in image.voxels.shape]
    return np.array([(*corner, 1.0) for corner in itertools.product(*ends)])


def _refuse_strangers(images: Sequence[LabelImage]) -> None:
    """Refuse masks of which one lies away from all others."""
    boxes = []
    for image in images:
        world = (_corners(image) @ image.affine.T)[:, :3]
        boxes.append((world.min(axis=0), world.max(axis=0)))
    for index, (low, high) in enumerate(boxes):
        others = [box for number, box in enumerate(boxes) if number != index]
        if others and not any(((low < top) & (bottom < high)).all() for bottom, top in others):
            raise InputRefused(
                Reason.GRID_MISMATCH,
                f"mask {index} (from 0) covers {low.round(1).tolist()} to {high.round(1).tolist()} mm, "
                "where no other mask is",
            )


def _equal(first: LabelImage, other: LabelImage) -> bool:
    """Whether two grids are the same."""
    if first.voxels.shape != other.voxels.shape:
        return False
    shift = _corners(first) @ (other.affine - first.affine).T
    edge = np.linalg.norm(first.affine[:3, :3], axis=0).min()
    return bool(np.abs(shift).max() <= SAME_GRID * edge)


def _common_grid(
    images: Sequence[LabelImage], finest: LabelImage, ratio: NDArray[np.float64]
) -> tuple[NDArray[np.float64], tuple[int, int, int]]:
    """Affine and shape of the grid whose voxels are `ratio` times the finest mask's, around all masks."""
    to_finest = np.linalg.inv(finest.affine)
    indices = np.concatenate([_corners(image) @ (to_finest @ image.affine).T for image in images])[:, :3]
    # In voxels of the common grid, from the corner of the finest mask's first voxel.
    edges = (indices + 0.5) / ratio
    low = np.floor(edges.min(axis=0) + SAME_GRID)
    high = np.ceil(edges.max(axis=0) - SAME_GRID)
    counts = np.maximum(high - low, 1)
    if counts.prod() > MOST_VOXELS:
        raise InputRefused(
            Reason.GRID_MISMATCH,
            f"a common grid of the finest spacing would have {'x'.join(f'{count:.0f}' for count in counts)} voxels",
        )
    to_index = np.eye(4)
    to_index[:3, :3] = np.diag(ratio)
    to_index[:3, 3] = (low + 0.5) * ratio - 0.5
    x, y, z = counts.astype(int).tolist()
    return finest.affine @ to_index, (x, y, z)


def _resample(image: LabelImage, affine: NDArray[np.float64], shape: tuple[int, int, int]) -> NDArray[np.bool_]:
    """The mask's nearest voxel at every voxel of a grid, False where that is outside."""
    matrix = np.linalg.inv(image.affine) @ affine
    matrix[:3, 3] += _TIE
    mask = (image.voxels != 0).view(np.uint8)
    # "grid-constant" knows the outer half of the border voxels, which "constant" takes for outside.
    sampled = affine_transform(mask, matrix, output_shape=shape, order=0, mode="grid-constant", cval=0)
    return np.asarray(sampled).view(np.bool_)
