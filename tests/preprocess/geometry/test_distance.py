from __future__ import annotations

import numpy as np
import pytest
import trimesh

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.distance import cloud_distance, sampled_surface_distance, surface_distance
from shapestore.preprocess.geometry.mesh import Mesh


def mesh_of(solid: trimesh.Trimesh) -> Mesh:
    return Mesh(np.array(solid.vertices, np.float64), np.array(solid.faces, np.int64))


def to_segments(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, f) distances from points to segments."""
    edge = b - a
    along = ((points[:, None] - a) * edge).sum(-1) / (edge * edge).sum(-1)
    foot = a + np.clip(along, 0, 1)[..., None] * edge
    return np.asarray(np.linalg.norm(points[:, None] - foot, axis=-1))


def brute_force(mesh: Mesh, points: np.ndarray) -> np.ndarray:
    """The three edges, and the plane where the foot of the perpendicular lies between them."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    height = ((points[:, None] - a) * normal).sum(-1)
    foot = points[:, None] - height[..., None] * normal
    inside = np.ones(height.shape, bool)
    for start, end in ((a, b), (b, c), (c, a)):
        inside &= (np.cross(end - start, foot - start) * normal).sum(-1) >= 0
    edges = np.minimum(np.minimum(to_segments(points, a, b), to_segments(points, b, c)), to_segments(points, c, a))
    return np.asarray(np.where(inside, np.abs(height), edges).min(axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_equals_brute_force_on_random_soups(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = Mesh(rng.uniform(-1, 1, (60, 3)), rng.permuted(np.tile(np.arange(60), (40, 1)), axis=1)[:, :3])
    points = rng.uniform(-1.5, 1.5, (400, 3))
    distance = surface_distance(mesh, points)
    assert distance.dtype == np.float32
    np.testing.assert_allclose(distance, brute_force(mesh, points), rtol=1e-6, atol=1e-9)


def test_a_box_by_its_formula_inside_and_outside() -> None:
    points = np.random.default_rng(1).uniform(-2, 2, (2000, 3))
    beyond = np.abs(points) - [1.0, 0.5, 0.25]
    expected = np.abs(np.linalg.norm(np.maximum(beyond, 0), axis=1) + np.minimum(beyond.max(axis=1), 0))
    box = mesh_of(trimesh.creation.box(extents=[2.0, 1.0, 0.5]))
    np.testing.assert_allclose(surface_distance(box, points), expected, rtol=1e-6, atol=1e-9)


def test_an_open_sheet_has_its_full_distance_on_both_sides() -> None:
    sheet = Mesh(np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]]))
    np.testing.assert_allclose(surface_distance(sheet, [[0.2, 0.1, 0.7], [0.2, 0.1, -0.7]]), 0.7, rtol=1e-7)


def test_distances_survive_a_far_away_origin() -> None:
    offset = np.array([6.65e5, 5.65e6, 0])
    ball = mesh_of(trimesh.creation.icosphere(subdivisions=2))
    points = np.random.default_rng(2).uniform(-1, 1, (300, 3))
    far = surface_distance(Mesh(ball.vertices + offset, ball.faces), points + offset)
    np.testing.assert_allclose(far, surface_distance(ball, points), atol=1e-8)


def test_points_of_the_surface_have_distance_zero() -> None:
    ball = mesh_of(trimesh.creation.icosphere(subdivisions=2))
    assert surface_distance(ball, ball.vertices).max() < 1e-15
    assert surface_distance(ball, ball.vertices[ball.faces].mean(axis=1)).max() < 1e-15
    assert surface_distance(ball, np.zeros((0, 3))).shape == (0,)


def test_the_cloud_distance_equals_brute_force() -> None:
    rng = np.random.default_rng(3)
    cloud, points = rng.normal(size=(200, 3)), rng.normal(size=(300, 3))
    distance = cloud_distance(cloud, points)
    assert distance.dtype == np.float32
    expected = np.linalg.norm(points[:, None] - cloud, axis=2).min(axis=1)
    np.testing.assert_allclose(distance, expected, rtol=1e-6)
    assert cloud_distance(cloud, cloud).max() == 0


def test_the_sampled_distance_bounds_the_exact_one_and_approaches_it() -> None:
    ball = mesh_of(trimesh.creation.icosphere(subdivisions=3))
    points = np.random.default_rng(4).uniform(-1, 1, (500, 3))
    exact = surface_distance(ball, points)
    errors = []
    for samples in (100, 10_000):
        sampled = sampled_surface_distance(ball, points, samples, np.random.default_rng(5))
        assert (sampled >= exact - 1e-6).all()
        errors.append((sampled - exact).mean())
    assert errors[1] < errors[0] / 5


def test_what_would_crash_native_code_is_refused() -> None:
    ball = mesh_of(trimesh.creation.icosphere(subdivisions=1))
    origin = np.zeros((1, 3))
    empty, wild = Mesh(ball.vertices, np.zeros((0, 3), np.int64)), Mesh(ball.vertices, ball.faces + 10**9)
    broken = Mesh(np.where(ball.vertices == ball.vertices.max(), np.nan, ball.vertices), ball.faces)
    for mesh, points, reason in [
        (empty, origin, Reason.NO_FACES),
        (wild, origin, Reason.INDEX_RANGE),
        (broken, origin, Reason.NOT_FINITE),
        (ball, origin * np.nan, Reason.NOT_FINITE),
    ]:
        with pytest.raises(InputRefused) as refused:
            surface_distance(mesh, points)
        assert refused.value.reason is reason
    with pytest.raises(InputRefused, match="empty cloud"):
        cloud_distance(np.zeros((0, 3)), origin)
    with pytest.raises(InputRefused, match="without a distance"):
        cloud_distance(origin, origin * np.nan)
