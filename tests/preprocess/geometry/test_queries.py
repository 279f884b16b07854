from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.distance import cloud_distance
from shapestore.preprocess.geometry.queries import query_pool

SURFACE = np.random.default_rng(0).normal(size=(400, 3))
SURFACE /= 2 * np.linalg.norm(SURFACE, axis=1, keepdims=True)


def by_row(pool: np.ndarray) -> np.ndarray:
    return pool[np.lexsort(pool.T)]


@given(st.integers(0, 300), st.floats(0, 1), st.floats(0, 3), st.integers(0, 2**32))
def test_shuffling_changes_the_order_only(count: int, ratio: float, sigma: float, seed: int) -> None:
    mixed = query_pool(SURFACE, count, ratio, sigma, np.random.default_rng(seed))
    plain = query_pool(SURFACE, count, ratio, sigma, np.random.default_rng(seed), shuffled=False)
    assert mixed.shape == (count, 3)
    assert mixed.dtype == np.float32
    assert (np.abs(mixed) <= 1).all()
    np.testing.assert_array_equal(by_row(mixed), by_row(plain))


@given(st.integers(0, 500), st.floats(0, 1))
def test_the_uniform_part_comes_first_and_the_rest_is_near(count: int, ratio: float) -> None:
    pool = query_pool(SURFACE, count, ratio, 0.0, np.random.default_rng(1), shuffled=False)
    spread = round((1 - ratio) * count)
    assert count == spread or cloud_distance(SURFACE, pool[spread:]).max() < 1e-7
    assert spread == 0 or cloud_distance(SURFACE, pool[:spread]).min() > 1e-7


def test_the_parts_have_their_distributions() -> None:
    pool = query_pool(np.zeros((1, 3)), 20_000, 0.5, 0.02, np.random.default_rng(2), shuffled=False)
    for axis in range(3):
        assert kstest(pool[:10_000, axis], "uniform", args=(-1, 2)).pvalue > 1e-3
        assert kstest(pool[10_000:, axis], "norm", args=(0, 0.02)).pvalue > 1e-3


def test_noise_beyond_the_cube_is_clipped() -> None:
    pool = query_pool(np.ones((1, 3)), 1000, 1.0, 0.1, np.random.default_rng(3))
    assert 0.4 < (pool == 1).mean() < 0.6


def test_any_slice_of_a_shuffled_pool_is_mixed() -> None:
    pool = query_pool(np.zeros((1, 3)), 4000, 0.5, 1e-4, np.random.default_rng(4))
    for part in np.split(pool, 8):
        assert 0.35 < (np.abs(part) < 0.01).all(axis=1).mean() < 0.65


def test_bad_requests_are_refused() -> None:
    rng = np.random.default_rng(0)
    for ratio, sigma in [(-0.1, 0.1), (1.1, 0.1), (0.5, -1.0), (np.nan, 0.1)]:
        with pytest.raises(ValueError, match="near_ratio"):
            query_pool(SURFACE, 10, ratio, sigma, rng)
    with pytest.raises(InputRefused) as refused:
        query_pool(np.zeros((0, 3)), 10, 0.5, 0.1, rng)
    assert refused.value.reason is Reason.TOO_FEW_POINTS
    assert query_pool(np.zeros((0, 3)), 10, 0.0, 0.1, rng).shape == (10, 3)
