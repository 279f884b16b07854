from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapestore.errors import UsageError
from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.train.models.latents import FarthestLatents, farthest_points, farthest_points_by_torch


@given(st.integers(1, 30), st.integers(0, 2**32 - 1), st.booleans(), st.data())
def test_farthest_points_are_those_of_the_kernel(size: int, seed: int, lattice: bool, data: st.DataObject) -> None:
    """Lattices bring equal distances and equal points; both take the lowest index, and each index once."""
    rng = np.random.default_rng(seed)
    clouds = rng.uniform(-1, 1, (2, size, 3))
    if lattice:
        # Mirrored, so that the centroid is 0 exactly, however it is summed up.
        clouds = np.concatenate([np.round(clouds), -np.round(clouds)], axis=1)
    count = data.draw(st.integers(1, clouds.shape[1]))
    for choose in (farthest_points, farthest_points_by_torch):
        chosen = choose(torch.from_numpy(clouds), count)
        for found, cloud in zip(chosen.numpy(), clouds, strict=True):
            np.testing.assert_array_equal(found, farthest_point_order(cloud, count))


def test_latents_are_the_embeddings_of_the_chosen_points() -> None:
    positions = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0.1, 0, 0], [-0.9, 0, 0]]])
    embedded = torch.arange(8.0).reshape(1, 4, 2)
    assert FarthestLatents(2)(positions, embedded).tolist() == [[[2, 3], [6, 7]]]


def test_too_few_points_are_refused() -> None:
    with pytest.raises(UsageError, match=r"3 points, but the model starts from 4"):
        farthest_points(torch.zeros(1, 3, 3), 4)
