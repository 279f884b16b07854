from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.distance import cdist

from shapestore.errors import UsageError
from shapestore.evaluate.metrics.nearest import nearest_pairs

CLOUDS = npst.arrays(np.float64, st.tuples(st.integers(1, 12), st.just(3)), elements=st.floats(-1e3, 1e3, width=32))
POINTS = np.arange(6.0).reshape(2, 3)


@given(CLOUDS, CLOUDS)
def test_distances_are_the_least_of_all_pairs(prediction: np.ndarray, truth: np.ndarray) -> None:
    pairs, every = nearest_pairs(prediction, truth), cdist(prediction, truth)
    np.testing.assert_allclose(pairs.to_truth, every.min(axis=1), rtol=1e-12)
    np.testing.assert_allclose(pairs.to_prediction, every.min(axis=0), rtol=1e-12)
    # Of equally near points any may be named, but it must be one of them.
    np.testing.assert_allclose(every[np.arange(len(prediction)), pairs.in_truth], pairs.to_truth, rtol=1e-12)
    np.testing.assert_allclose(every[pairs.in_prediction, np.arange(len(truth))], pairs.to_prediction, rtol=1e-12)


def test_float32_and_any_layout_are_taken() -> None:
    pairs = nearest_pairs(np.asfortranarray(POINTS, np.float32), POINTS[::-1])
    assert pairs.in_truth.tolist() == pairs.in_prediction.tolist() == [1, 0]
    assert (pairs.to_truth.dtype, pairs.in_truth.dtype) == (np.float64, np.int64)


def test_what_has_no_distance_is_refused_with_a_remedy() -> None:
    with pytest.raises(UsageError, match=r"prediction has no points.*report the case"):
        nearest_pairs(POINTS[:0], POINTS)
    with pytest.raises(UsageError, match="truth has no points"):
        nearest_pairs(POINTS, POINTS[:0])
    with pytest.raises(UsageError, match=r"truth has shape \(3, 2\), not \(n, 3\)"):
        nearest_pairs(POINTS, POINTS.T)
    for bad in (np.nan, np.inf, -1e200):
        spoilt = POINTS.copy()
        spoilt[1, 2] = bad
        with pytest.raises(UsageError, match="1 of 2 points of prediction have a coordinate that is NaN or beyond"):
            nearest_pairs(spoilt, POINTS)
