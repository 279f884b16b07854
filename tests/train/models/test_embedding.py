from __future__ import annotations

import numpy as np
import pytest
import torch

from shapestore.train.models.embedding import PointEmbedding, one_hot


def test_the_linear_map_sees_each_wave_of_each_coordinate_once() -> None:
    """Up to the order of the 48 waves, which the map learns anyway."""
    embedding = PointEmbedding(48 + 3 + 2, features=2).double()
    with torch.no_grad():
        embedding.linear.weight.copy_(torch.eye(53))
        embedding.linear.bias.zero_()
    rng = np.random.default_rng(0)
    position, beside = rng.uniform(-1, 1, 3), rng.uniform(-1, 1, 2)
    waves = [
        wave(coordinate * frequency * np.pi)
        for coordinate in position
        for frequency in (1, 2, 4, 8, 16, 32, 64, 128)
        for wave in (np.sin, np.cos)
    ]
    found = embedding(torch.from_numpy(position), torch.from_numpy(beside)).detach().numpy()
    np.testing.assert_allclose(np.sort(found[:48]), np.sort(waves), atol=1e-12)
    np.testing.assert_array_equal(found[48:], [*position, *beside])


def test_each_wave_starts_with_the_same_share_of_the_slope() -> None:
    """An eighth of all that the 48 waves have, whatever their frequency."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = PointEmbedding(512).linear.weight[:, :48].detach()
    slopes = weights.reshape(512, 6, 8).mul(2.0 ** torch.arange(8)).square().sum((0, 1))
    torch.testing.assert_close(slopes / slopes.sum(), torch.full((8,), 1 / 8), rtol=0.1, atol=0)


def test_one_that_begins_as_another_embeds_positions_alike_and_keeps_its_own_features() -> None:
    other, one = PointEmbedding(16, features=2), PointEmbedding(16, features=3)
    own = one.linear.weight[:, 51:].clone()
    one.begin_as(other)
    positions = torch.rand(7, 3) * 2 - 1
    torch.testing.assert_close(one(positions, torch.zeros(7, 3)), other(positions, torch.zeros(7, 2)))
    torch.testing.assert_close(one.linear.weight[:, 51:], own, rtol=0, atol=0)


def test_sizes_are_read_from_the_map() -> None:
    embedding = PointEmbedding(16, features=10)
    assert (embedding.width, embedding.features) == (16, 10)


def test_background_is_no_class() -> None:
    codes = torch.tensor([[0, 1], [3, 2]], dtype=torch.int8)
    assert one_hot(codes, 3).tolist() == [[[0, 0, 0], [1, 0, 0]], [[0, 0, 1], [0, 1, 0]]]


@pytest.mark.parametrize("code", [-1, 4])
def test_a_code_without_a_class_is_refused(code: int) -> None:
    with pytest.raises(RuntimeError, match="Class values"):
        one_hot(torch.tensor([code], dtype=torch.int8), 3)
