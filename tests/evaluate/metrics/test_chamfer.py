from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy.spatial.transform import Rotation

from judges.solids import box, sphere
from shapestore.errors import UsageError
from shapestore.evaluate.metrics.chamfer import chamfer_l1, chamfer_l2, f_score, normal_consistency
from shapestore.evaluate.metrics.nearest import nearest_pairs
from shapestore.preprocess.geometry.sample import SurfaceSamples, sample_surface
from shapestore.schemas.seeding import generator

CLOUDS = npst.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(3)), elements=st.floats(-100, 100, width=32))
DIRECTIONS = np.random.default_rng(1).normal(size=(2000, 3))
DIRECTIONS /= np.linalg.norm(DIRECTIONS, axis=1, keepdims=True)
LATTICE = np.stack(np.meshgrid(*[np.arange(6.0)] * 3), axis=-1).reshape(-1, 3)


def sampled(surface: SurfaceSamples, other: SurfaceSamples) -> tuple[float, float]:
    pairs = nearest_pairs(surface.points, other.points)
    return chamfer_l1(pairs), normal_consistency(pairs, surface.normals, other.normals)


@given(CLOUDS, CLOUDS, st.floats(0.01, 200))
def test_all_agree_with_loops_over_every_pair(prediction: np.ndarray, truth: np.ndarray, threshold: float) -> None:
    there = [min(math.dist(a, b) for b in truth.tolist()) for a in prediction.tolist()]
    back = [min(math.dist(a, b) for a in prediction.tolist()) for b in truth.tolist()]
    pairs = nearest_pairs(prediction, truth)
    assert chamfer_l1(pairs) == pytest.approx((sum(there) / len(there) + sum(back) / len(back)) / 2)
    squares = [sum(d * d for d in gaps) / len(gaps) for gaps in (there, back)]
    assert chamfer_l2(pairs) == pytest.approx(sum(squares) / 2)
    assert chamfer_l1(pairs) ** 2 <= chamfer_l2(pairs) * (1 + 1e-12)
    if any(math.isclose(d, threshold) for d in there + back):
        return
    precision = sum(d < threshold for d in there) / len(there)
    recall = sum(d < threshold for d in back) / len(back)
    expected = 2 / (1 / precision + 1 / recall) if precision and recall else 0
    assert f_score(pairs, threshold) == pytest.approx(expected)


@given(CLOUDS, CLOUDS)
def test_they_are_symmetric_and_a_surface_fits_itself(prediction: np.ndarray, truth: np.ndarray) -> None:
    there, back = nearest_pairs(prediction, truth), nearest_pairs(truth, prediction)
    assert chamfer_l1(there) == pytest.approx(chamfer_l1(back))
    assert chamfer_l2(there) == pytest.approx(chamfer_l2(back))
    scores = [f_score(there, threshold) for threshold in (0.1, 1, 10, 100, 1000)]
    assert scores == [f_score(back, threshold) for threshold in (0.1, 1, 10, 100, 1000)]
    assert scores == sorted(scores)
    assert scores[-1] == 1
    same = nearest_pairs(prediction, prediction)
    assert (chamfer_l1(same), chamfer_l2(same), f_score(same, 1e-9)) == (0, 0, 1)


def test_a_rigid_motion_changes_nothing_and_a_scale_the_unit() -> None:
    rng = np.random.default_rng(2)
    prediction, truth = rng.normal(size=(300, 3)), rng.normal(size=(200, 3))
    turn, shift, scale = Rotation.from_rotvec([1, -2, 0.5]).as_matrix(), np.array([5.0, -7, 11]), 2.5
    before = nearest_pairs(prediction, truth)
    after = nearest_pairs(scale * prediction @ turn.T + shift, scale * truth @ turn.T + shift)
    assert chamfer_l1(after) == pytest.approx(scale * chamfer_l1(before))
    assert chamfer_l2(after) == pytest.approx(scale**2 * chamfer_l2(before))
    assert f_score(after, 0.3 * scale) == pytest.approx(f_score(before, 0.3))
    first, second = DIRECTIONS[:300], DIRECTIONS[300:500]
    consistency = normal_consistency(before, first, second)
    assert normal_consistency(after, first @ turn.T, second @ turn.T) == pytest.approx(consistency)


def test_a_lattice_moved_by_less_than_half_its_spacing() -> None:
    shift = np.array([0.1, -0.2, 0.2])
    pairs = nearest_pairs(LATTICE + shift, LATTICE)
    assert chamfer_l1(pairs) == pytest.approx(0.3)
    assert chamfer_l2(pairs) == pytest.approx(0.09)
    assert (f_score(pairs, 0.29), f_score(pairs, 0.31)) == (0, 1)


def test_concentric_spheres() -> None:
    pairs = nearest_pairs(1.25 * DIRECTIONS, DIRECTIONS)
    assert chamfer_l1(pairs) == pytest.approx(0.25)
    assert chamfer_l2(pairs) == pytest.approx(0.0625)
    assert normal_consistency(pairs, DIRECTIONS, DIRECTIONS) == pytest.approx(1)


def test_independent_samples_of_one_surface_are_as_far_apart_as_points_on_it() -> None:
    mesh, count = box((2, 1, 1)).mesh, 20_000
    first, second = (sample_surface(mesh, count, generator(seed, "chamfer")) for seed in (1, 2))
    distance, consistency = sampled(first, second)
    assert distance == pytest.approx(0.5 * math.sqrt(10 / count), rel=0.05)
    assert consistency > 0.98


def test_sampled_spheres_of_two_radii() -> None:
    # The meshes lie within their spheres, hence the tolerance.
    first, second = (sample_surface(sphere(radius, 64).mesh, 20_000, generator(3, str(radius))) for radius in (1, 1.25))
    distance, consistency = sampled(first, second)
    assert distance == pytest.approx(0.25, rel=0.02)
    assert consistency == pytest.approx(1, abs=2e-3)


def test_f_score_of_half_a_prediction() -> None:
    # Every predicted point is right, and half of the truth is found.
    half = nearest_pairs(LATTICE[LATTICE[:, 0] < 3], LATTICE)
    assert f_score(half, 0.5) == pytest.approx(2 / 3)
    # A distance equal to the threshold is not closer than it.
    for touching in (
        nearest_pairs([[0, 0, 0], [0, 0, 2]], [[0, 0, 0]]),
        nearest_pairs([[0, 0, 0]], [[0, 0, 0], [0, 0, 2]]),
    ):
        assert (f_score(touching, 2), f_score(touching, 2.001)) == (2 / 3, 1)


def test_normals_count_by_their_angle_and_not_their_sign() -> None:
    plane = LATTICE[LATTICE[:, 2] == 0]
    pairs = nearest_pairs(plane, plane)
    flat = np.tile([0.0, 0, 1], (len(plane), 1))
    tilted = np.tile([0.0, math.sin(0.7), math.cos(0.7)], (len(plane), 1))
    assert normal_consistency(pairs, flat, tilted) == pytest.approx(math.cos(0.7))
    assert normal_consistency(pairs, flat, -tilted) == pytest.approx(math.cos(0.7))
    assert normal_consistency(pairs, tilted, flat) == pytest.approx(math.cos(0.7))


def test_each_direction_of_normals_has_the_same_weight() -> None:
    pairs = nearest_pairs([[0, 0, 0], [1, 0, 0], [2, 0, 0]], [[0, 0, 0]])
    # Nearest to the one true point is the first predicted one: (1 + 0 + 0) / 3 there, 1 back.
    normals = [[0, 0, 1], [0, 1, 0], [0, 1, 0]]
    assert normal_consistency(pairs, normals, [[0, 0, 1]]) == pytest.approx((1 / 3 + 1) / 2)


def test_unrelated_normals_score_a_half() -> None:
    pairs = nearest_pairs(DIRECTIONS, DIRECTIONS)
    assert normal_consistency(pairs, DIRECTIONS, DIRECTIONS[::-1]) == pytest.approx(0.5, abs=0.02)


def test_what_is_no_threshold_or_normal_is_refused_with_a_remedy() -> None:
    pairs = nearest_pairs(LATTICE[:3], LATTICE[:2])
    for threshold in (0, -1, np.nan, np.inf):
        with pytest.raises(UsageError, match="finite distance above 0"):
            f_score(pairs, threshold)
    unit = np.eye(3)
    with pytest.raises(UsageError, match=r"prediction have shape \(2, 3\), its points \(3, 3\)"):
        normal_consistency(pairs, unit[:2], unit[:2])
    for length in (np.nan, 0, 1.01):
        with pytest.raises(UsageError, match="2 of 2 normals of truth have no length of 1: normalise"):
            normal_consistency(pairs, unit, length * unit[:2])
