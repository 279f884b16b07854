from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from shapestore.preprocess.geometry.label_grid import label_grid
from shapestore.preprocess.geometry.label_volume import label_volume
from shapestore.preprocess.geometry.normalise import Frame


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**31), st.integers(1, 9))
def test_each_cell_has_the_class_of_the_nearest_voxel_in_the_world(seed: int, size: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 4, rng.integers(1, 8, 3)).astype(np.uint8)
    codes.flat[0] = 1
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed % 2**31).as_matrix() @ np.diag(rng.uniform(0.5, 3, 3))
    affine[:3, 3] = rng.normal(0, 100, 3)
    frame = Frame(affine[:3, :3] @ (np.array(codes.shape) / 2) + affine[:3, 3], float(rng.uniform(0.02, 0.5)))
    found = label_grid(label_volume(codes, affine), frame, size)
    assert (found.shape, found.dtype) == ((size,) * 3, np.int8)
    centres = -1 + (np.indices(found.shape).reshape(3, -1).T + 0.5) * 2 / size
    index = np.linalg.solve(affine[:3, :3], (frame.invert(centres) - affine[:3, 3]).T).T
    nearest = np.floor(index + 0.5).astype(int)
    inside = ((nearest >= 0) & (nearest < codes.shape)).all(axis=1)
    wanted = np.zeros(len(centres), np.int8)
    wanted[inside] = codes[tuple(nearest[inside].T)]
    tied = (np.abs(index - np.floor(index) - 0.5) < 1e-9).any(axis=1)
    np.testing.assert_array_equal(found.reshape(-1)[~tied], wanted[~tied])
