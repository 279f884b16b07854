from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.fps import farthest_point_order


def brute_force(points: np.ndarray, count: int) -> np.ndarray:
    cloud = np.asarray(points, np.float64)
    offset = cloud - cloud.mean(axis=0)
    chosen = [int(np.argmax((offset * offset).sum(axis=1)))]
    nearest = np.full(len(cloud), np.inf)
    while len(chosen) < count:
        difference = cloud - cloud[chosen[-1]]
        x, y, z = difference.T
        nearest = np.minimum(nearest, x * x + y * y + z * z)
        nearest[chosen] = -1
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen, np.int32)


@st.composite
def clouds(draw: st.DrawFn) -> np.ndarray:
    count = draw(st.integers(1, 200))
    # Lattice points bring equal distances and equal points, floats bring everything else.
    if draw(st.booleans()):
        lattice = draw(arrays(np.int64, (count, 3), elements=st.integers(-2, 2)))
        return lattice * 0.1
    return draw(arrays(np.float32, (count, 3), elements=st.floats(-1, 1, width=32)))


@settings(deadline=None, max_examples=150)
@given(clouds(), st.data())
def test_equals_brute_force(cloud: np.ndarray, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(cloud)))
    order = farthest_point_order(cloud, count)
    assert order.dtype == np.int32
    np.testing.assert_array_equal(order, brute_force(cloud, count))


@settings(deadline=None)
@given(clouds())
def test_the_whole_order_is_a_permutation(cloud: np.ndarray) -> None:
    np.testing.assert_array_equal(np.sort(farthest_point_order(cloud, len(cloud))), np.arange(len(cloud)))


@pytest.mark.parametrize("distinct", [1, 2, 50])
def test_many_copies_of_few_points(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    cloud = rng.normal(size=(distinct, 3))[rng.integers(distinct, size=700)]
    order = farthest_point_order(cloud, 700)
    np.testing.assert_array_equal(order, brute_force(cloud, 700))
    present = len(np.unique(cloud, axis=0))
    assert len(np.unique(cloud[order[:present]], axis=0)) == present


def test_many_blocks_equal_brute_force() -> None:
    rng = np.random.default_rng(0)
    surface = rng.normal(size=(5000, 3))
    surface /= np.linalg.norm(surface, axis=1, keepdims=True)
    for cloud in (surface.astype(np.float32), np.round(surface, 1)):
        np.testing.assert_array_equal(farthest_point_order(cloud, 600), brute_force(cloud, 600))


def test_shorter_orders_are_prefixes() -> None:
    cloud = np.random.default_rng(1).uniform(-1, 1, (1000, 3))
    np.testing.assert_array_equal(farthest_point_order(cloud, 900)[:123], farthest_point_order(cloud, 123))


def test_impossible_orders_are_refused() -> None:
    for cloud, reason in [
        (np.zeros((4, 3)), Reason.TOO_FEW_POINTS),
        (np.zeros((0, 3)), Reason.TOO_FEW_POINTS),
        (np.full((5, 3), np.nan), Reason.NOT_FINITE),
    ]:
        with pytest.raises(InputRefused) as refused:
            farthest_point_order(cloud, 5)
        assert refused.value.reason is reason
    with pytest.raises(ValueError, match="at least one"):
        farthest_point_order(np.zeros((4, 3)), 0)
