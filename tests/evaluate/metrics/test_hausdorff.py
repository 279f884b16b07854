from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from judges.solids import box, sphere
from shapestore.evaluate.metrics.hausdorff import hausdorff95
from shapestore.evaluate.metrics.nearest import nearest_pairs
from shapestore.preprocess.geometry.normalise import box_frame
from shapestore.preprocess.geometry.sample import sample_surface
from shapestore.schemas.seeding import generator

CLOUDS = npst.arrays(np.float64, st.tuples(st.integers(1, 30), st.just(3)), elements=st.floats(-100, 100, width=32))


def ranked(distances: np.ndarray) -> float:
    """95th percentile by hand: the place 0.95 (n - 1) of the sorted list, between two entries by their line."""
    ordered = sorted(distances.tolist())
    place = 0.95 * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@given(CLOUDS, CLOUDS)
def test_it_agrees_with_an_independent_one(prediction: np.ndarray, truth: np.ndarray) -> None:
    pairs, every = nearest_pairs(prediction, truth), cdist(prediction, truth)
    assert hausdorff95(pairs) == pytest.approx(max(ranked(every.min(axis=1)), ranked(every.min(axis=0))))


@given(CLOUDS, CLOUDS)
def test_it_is_symmetric_and_zero_of_the_same(first: np.ndarray, second: np.ndarray) -> None:
    assert hausdorff95(nearest_pairs(first, first)) == 0
    assert hausdorff95(nearest_pairs(first, second)) == hausdorff95(nearest_pairs(second, first))


def test_a_rigid_motion_changes_nothing_and_a_scale_the_unit() -> None:
    rng = np.random.default_rng(2)
    prediction, truth = rng.normal(size=(300, 3)), rng.normal(size=(200, 3))
    turn = Rotation.from_rotvec([1, -2, 0.5]).as_matrix()
    before = nearest_pairs(prediction, truth)
    after = nearest_pairs(3 * prediction @ turn.T + 7, 3 * truth @ turn.T + 7)
    assert hausdorff95(after) == pytest.approx(3 * hausdorff95(before))


def test_balls_in_millimetres() -> None:
    # Two spheres of 20 mm, 6 mm apart: the farthest poles are 6 mm away, and the poles alone. At the polar angle t a
    # point is sqrt(20^2 + 6^2 + 2 * 20 * 6 cos t) - 20 beyond the other one, and cos t is even on a sphere.
    points = sample_surface(sphere(20, 96).mesh, 20_000, generator(1, "hausdorff")).points
    frame = box_frame(points)
    moved = points + np.array([6, 0, 0])
    predicted, true = frame.apply(moved), frame.apply(points)
    pairs = nearest_pairs(frame.invert(predicted), frame.invert(true))
    gaps = np.abs(np.sqrt(436 + 240 * np.linspace(-1, 1, 100_001)) - 20)
    assert hausdorff95(pairs) == pytest.approx(np.percentile(gaps, 95), abs=0.1)
    assert hausdorff95(nearest_pairs(predicted, true)) == pytest.approx(hausdorff95(pairs) * frame.scale)


def test_independent_samples_of_one_surface_are_as_far_apart_as_points_on_it() -> None:
    mesh, count = box((2, 1, 1)).mesh, 20_000
    first, second = (sample_surface(mesh, count, generator(seed, "hausdorff")).points for seed in (1, 2))
    expected = math.sqrt(math.log(20) / math.pi * 10 / count)
    assert expected == pytest.approx(0.98 * math.sqrt(10 / count), rel=0.01)
    assert hausdorff95(nearest_pairs(first, second)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("stray", "expected"), [(40, 0), (80, 50)])
def test_a_stray_piece_counts_from_a_twentieth_of_its_own_surface_on(stray: int, expected: float) -> None:
    surface = np.arange(1000.0)[:, None] * [1, 0, 0]
    pairs = nearest_pairs(np.concatenate([surface, surface[:stray] + np.array([0, 50, 0])]), surface)
    assert hausdorff95(pairs) == expected
    # Ranked over both directions together, 80 of 2080 are too few.
    assert np.percentile(np.concatenate([pairs.to_truth, pairs.to_prediction]), 95) == 0
