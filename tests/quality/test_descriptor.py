"""Descriptors, distances and hashes of sampled surfaces: what they must not see, and what they must."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.furniture import chair
from judges.solids import box, cylinder
from shapestore.preprocess.geometry.fps import farthest_point_order
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.sample import sample_surface
from shapestore.quality.clusters import component_labels, equal_pairs, members_of_shared
from shapestore.quality.descriptor import AXES, cylinder_coefficients, own_frame, spacing, turned
from shapestore.quality.multiset_hash import multiset_hashes
from shapestore.quality.surface_pair import Surface, estimated_normals, fit, gap, roughness

angles = st.floats(-10.0, 10.0)
seeds = st.integers(0, 1000)


def surface(mesh: Mesh, seed: int, axis: int = 1, angle: float = 0.0) -> Surface:
    """512 of 2048 samples of a mesh that is turned before it is sampled."""
    mesh = Mesh(turned(mesh.vertices, axis, angle), mesh.faces)
    samples = sample_surface(mesh, 2048, np.random.default_rng(seed))
    even = farthest_point_order(samples.points, 512)
    return Surface(own_frame(samples.points[even]), samples.normals[even])


@pytest.mark.parametrize("axis", AXES)
@given(angle=angles, seed=seeds)
def test_a_turn_changes_the_phases_of_coefficients_and_nothing_else(axis: int, angle: float, seed: int) -> None:
    points = own_frame(np.random.default_rng(seed).normal(size=(64, 3)))
    before, after = cylinder_coefficients(points, axis), cylinder_coefficients(turned(points, axis, angle), axis)
    np.testing.assert_allclose(after, before * np.exp(1j * angle * np.arange(before.shape[1])), atol=1e-12)


def test_coefficients_about_one_axis_see_a_turn_about_the_other() -> None:
    points = surface(chair().mesh, 0).points
    for axis, other in (AXES, AXES[::-1]):
        moduli = [np.abs(cylinder_coefficients(each, axis)) for each in (points, turned(points, other, 1.0))]
        assert np.linalg.norm(moduli[0] - moduli[1]) > 0.1


@given(seed=seeds, scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3))
def test_the_own_frame_knows_neither_place_nor_size(seed: int, scale: float, shift: float) -> None:
    points = np.random.default_rng(seed).normal(size=(64, 3))
    np.testing.assert_allclose(own_frame(points * scale + shift), own_frame(points), atol=1e-6)


def test_points_that_coincide_have_no_frame_and_no_distances() -> None:
    points = own_frame(np.ones((8, 3)))
    assert np.isnan(points).all()
    assert np.isnan(spacing(points))
    assert np.isnan(roughness(Surface(points, np.ones((8, 3)))))


def test_a_turn_is_right_handed() -> None:
    for axis in range(3):
        first, second = np.eye(3)[(axis + 1) % 3], np.eye(3)[(axis + 2) % 3]
        np.testing.assert_allclose(turned(first[np.newaxis], axis, np.pi / 2)[0], second, atol=1e-15)


def test_the_gap_is_that_of_the_side_with_more_to_miss() -> None:
    first = np.array([[0.0, 0, 0], [1, 0, 0]])
    second = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 3]])
    assert gap(first, second) == gap(second, first) == pytest.approx(1.0)


def test_spacing_is_the_mean_distance_to_the_nearest_other_point() -> None:
    assert spacing(np.array([[0.0, 0, 0], [1, 0, 0], [4, 0, 0]])) == pytest.approx((1 + 1 + 3) / 3)


def test_two_samplings_of_a_box_have_no_offset_and_another_box_has_one() -> None:
    size = np.array([1.0, 0.6, 0.3])
    same = fit(surface(box(size).mesh, 1), surface(box(size).mesh, 2), 1).offset
    other = fit(surface(box(size).mesh, 1), surface(box(size * [1, 1, 1.1]).mesh, 2), 1).offset
    assert same < 0.003
    assert other > 0.008


def test_an_offset_is_measured_after_a_small_turn_shift_and_growth() -> None:
    first, second = surface(chair().mesh, 1), surface(chair().mesh, 2)
    moved = Surface(turned(first.points, 1, 0.05) * 1.02 + [0.01, -0.02, 0.01], turned(first.normals, 1, 0.05))
    assert fit(moved, second, 1).offset == pytest.approx(fit(first, second, 1).offset, abs=1e-3)


def test_an_even_curve_has_no_offset_however_coarse_its_samples() -> None:
    tube = [surface(cylinder(1.0, 2.0, sides=200).mesh, seed) for seed in (1, 2)]
    assert gap(tube[0].points, tube[1].points) > 0.05
    assert fit(*tube, 1).offset < 0.001


def test_a_longer_tube_has_no_offset_but_another_extent() -> None:
    first, second = surface(cylinder(1.0, 4.0, sides=100).mesh, 1), surface(cylinder(1.0, 4.4, sides=100).mesh, 2)
    assert fit(first, second, 2).extent > 0.12
    again = surface(cylinder(1.0, 4.0, sides=100).mesh, 2)
    assert fit(first, again, 2).extent < 0.05


def test_estimated_normals_are_those_of_the_surface_and_point_outwards() -> None:
    cloud = np.random.default_rng(0).normal(size=(2000, 3))
    cloud /= np.linalg.norm(cloud, axis=1, keepdims=True)
    places = np.arange(0, 2000, 10)
    assert (estimated_normals(cloud + 5, places) * cloud[places]).sum(axis=1).min() > 0.97


@given(seed=seeds)
def test_hashes_do_not_depend_on_the_order_of_points_and_do_on_every_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cloud = rng.normal(size=(50, 3)).astype(np.float32)
    changed = cloud.copy()
    place = tuple(rng.integers(0, cloud.shape))
    changed[place] = np.nextafter(changed[place], np.float32(9))
    swapped = cloud[:, [1, 0, 2]]
    hashes = multiset_hashes(np.stack([cloud, rng.permutation(cloud), changed, swapped]), np.ones((4, 50), bool))
    assert hashes[0] == hashes[1]
    assert len(set(hashes.tolist())) == 3


def test_hashes_ignore_what_does_not_count_and_rows_that_are_not_finite() -> None:
    clouds = np.random.default_rng(0).normal(size=(4, 10, 3)).astype(np.float32)
    clouds[1, :5] = clouds[0, :5]
    clouds[2, 7] = np.nan
    clouds[3, 2] = np.inf
    has = np.zeros((4, 10), bool)
    has[:, :5] = True
    hashes = multiset_hashes(clouds, has)
    assert hashes[0] == hashes[1] != hashes[2] != 0
    assert hashes[3] == 0
    assert multiset_hashes(clouds, np.zeros((4, 10), bool)).tolist() == [0, 0, 0, 0]


@given(keys=st.lists(st.integers(0, 6), max_size=20), seed=seeds)
def test_equal_keys_among_those_that_count_make_components(keys: list[int], seed: int) -> None:
    counts = np.random.default_rng(seed).random(len(keys)) < 0.7
    labels = component_labels(len(keys), equal_pairs(np.array(keys), counts))
    for i in range(len(keys)):
        for j in range(i):
            assert (labels[i] == labels[j]) == (keys[i] == keys[j] and counts[i] and counts[j])
    shared = [members.tolist() for members in members_of_shared(labels)]
    assert all(len(members) > 1 and len(set(labels[members])) == 1 and members == sorted(members) for members in shared)
    assert len(np.unique(labels)) == len(keys) - sum(len(members) - 1 for members in shared)
