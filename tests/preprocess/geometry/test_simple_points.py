"""Simple voxels, against counts of objects, cavities and handles before and after the flip."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from shapestore.preprocess.geometry.simple_points import is_simple

CORNERS = np.ones((3, 3, 3))


def topology(mask: np.ndarray) -> tuple[int, int, int]:
    """Objects (26), pieces of background (6) and Euler characteristic of the closed voxels of a mask."""
    cells = np.zeros(2 * np.array(mask.shape) + 1, bool)  # voxels, faces, edges and corners of the cubical complex
    for x, y, z in np.argwhere(mask):
        cells[2 * x : 2 * x + 3, 2 * y : 2 * y + 3, 2 * z : 2 * z + 3] = True
    dimension = np.indices(cells.shape).sum(axis=0, where=np.ones(1, bool)) % 2
    parity = sum(np.indices(cells.shape)[axis] % 2 for axis in range(3))
    assert dimension.shape == cells.shape
    euler = int((np.where(parity % 2 == 0, 1, -1) * cells).sum())
    return label(mask, CORNERS)[1], label(np.pad(1 - mask, 1, constant_values=1))[1], euler


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 0.9))
def test_flipping_a_simple_voxel_changes_no_count_and_another_one_does(seed: int, share: float) -> None:
    mask = np.zeros((5, 5, 5), np.uint8)
    mask[1:4, 1:4, 1:4] = np.random.default_rng(seed).random((3, 3, 3)) < share
    flipped = mask.copy()
    flipped[2, 2, 2] ^= 1
    simple = is_simple(mask, 2, 2, 2)
    assert simple == is_simple(flipped, 2, 2, 2)
    if simple:
        assert topology(mask) == topology(flipped)


def test_known_voxels() -> None:
    solid = np.zeros((7, 7, 7), np.uint8)
    solid[1:6, 1:6, 1:6] = 1
    assert is_simple(solid, 1, 1, 1)  # a corner
    assert is_simple(solid, 1, 3, 3)  # of a face
    assert not is_simple(solid, 3, 3, 3)  # would make a cavity
    line = np.zeros((7, 7, 7), np.uint8)
    line[1:6, 3, 3] = 1
    assert is_simple(line, 1, 3, 3)  # an end
    assert not is_simple(line, 3, 3, 3)  # would part it
    line[3, 3, 3] = 0
    assert not is_simple(line, 3, 3, 3)  # would join both parts
    ring = np.zeros((7, 7, 7), np.uint8)
    ring[2:5, 2:5, 3] = 1
    assert not is_simple(ring, 3, 3, 3)  # would make a handle
    ring[3, 3, 3] = 0
    assert not is_simple(ring, 3, 3, 3)
    assert not is_simple(np.zeros((3, 3, 3), np.uint8), 1, 1, 1)  # would make an object
