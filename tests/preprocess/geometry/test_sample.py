from __future__ import annotations

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree
from scipy.stats import chisquare, kstest

from shapestore.errors import InputRefused, Reason
from shapestore.preprocess.geometry.mesh import Mesh
from shapestore.preprocess.geometry.sample import _eliminate, sample_surface

BUMPY = trimesh.creation.icosphere(subdivisions=1)
BUMPY.vertices *= np.random.default_rng(5).uniform(0.5, 1.5, (len(BUMPY.vertices), 1))
MESH = Mesh(np.array(BUMPY.vertices), np.array(BUMPY.faces, np.int64))
TRIANGLE = Mesh(np.array([[1.0, 1, 1], [4, 1, 1], [1, 3, 2]]), np.array([[0, 1, 2]]))


def barycentric(mesh: Mesh, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return trimesh.triangles.points_to_barycentric(mesh.vertices[mesh.faces[faces]], points)


def test_faces_are_drawn_by_area() -> None:
    drawn = sample_surface(MESH, 50_000, np.random.default_rng(1)).faces
    expected = BUMPY.area_faces / BUMPY.area * 50_000
    assert chisquare(np.bincount(drawn, minlength=len(MESH.faces)), expected).pvalue > 1e-3


def test_positions_are_uniform_within_a_face() -> None:
    weights = barycentric(TRIANGLE, *_points_and_faces(TRIANGLE, 20_000))
    for corner in range(3):
        # A uniform point of a triangle has barycentric weights with distribution 1 - (1 - w)^2 each.
        assert kstest(weights[:, corner], lambda w: 1 - (1 - w) ** 2).pvalue > 1e-3


def test_points_lie_on_their_faces_with_the_face_normal() -> None:
    samples = sample_surface(MESH, 3000, np.random.default_rng(2))
    weights = barycentric(MESH, samples.points, samples.faces)
    assert weights.min() >= -1e-9
    rebuilt = (weights[:, :, None] * MESH.vertices[MESH.faces[samples.faces]]).sum(axis=1)
    np.testing.assert_allclose(rebuilt, samples.points, atol=1e-12)
    np.testing.assert_allclose(samples.normals, BUMPY.face_normals[samples.faces], atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(samples.normals, axis=1), 1, atol=1e-14)
    assert (samples.points.dtype, samples.normals.dtype, samples.faces.dtype) == (float, float, np.int64)


def test_a_shorter_draw_is_a_prefix_and_draws_repeat() -> None:
    long = sample_surface(MESH, 100, np.random.default_rng(3))
    short = sample_surface(MESH, 40, np.random.default_rng(3))
    np.testing.assert_array_equal(long.points[:40], short.points)
    np.testing.assert_array_equal(long.faces[:40], short.faces)
    assert len(sample_surface(MESH, 0, np.random.default_rng(3)).points) == 0


def test_faces_without_area_are_never_drawn() -> None:
    faces = np.array([[0, 0, 1], [0, 1, 2], [1, 1, 1], [2, 1, 2]])
    samples = sample_surface(Mesh(TRIANGLE.vertices, faces), 1000, np.random.default_rng(4))
    assert set(samples.faces.tolist()) == {1}

    class Lowest(np.random.Generator):
        def random(self, size: object) -> np.ndarray:  # type: ignore[override]
            return np.zeros(size)  # type: ignore[call-overload, no-any-return]

    edge = sample_surface(Mesh(TRIANGLE.vertices, faces), 3, Lowest(np.random.PCG64(0)))
    assert set(edge.faces.tolist()) == {1}


def test_far_from_the_origin_samples_stay_on_the_surface() -> None:
    offset = np.array([6.65e5, 5.65e6, 0])
    near = sample_surface(MESH, 500, np.random.default_rng(6))
    far = sample_surface(Mesh(MESH.vertices + offset, MESH.faces), 500, np.random.default_rng(6))
    np.testing.assert_allclose(far.points - offset, near.points, atol=1e-8)


def test_blue_noise_is_what_eliminating_one_by_one_leaves() -> None:
    candidates = sample_surface(MESH, 5 * 60, np.random.default_rng(7))
    radius = np.sqrt(BUMPY.area / (2 * np.sqrt(3) * 60))
    floor = 0.65 * radius * (1 - (1 / 5) ** 1.5)
    gaps = np.linalg.norm(candidates.points[:, None] - candidates.points, axis=2)
    weights = np.where(gaps < 2 * radius, (1 - np.maximum(gaps, 2 * floor) / (2 * radius)) ** 8, 0)
    np.fill_diagonal(weights, 0)
    left = np.arange(300)
    while len(left) > 60:
        left = np.delete(left, weights[np.ix_(left, left)].sum(axis=1).argmax())
    samples = sample_surface(MESH, 60, np.random.default_rng(7), blue_noise=True)
    np.testing.assert_array_equal(samples.points, candidates.points[left])
    np.testing.assert_array_equal(samples.normals, candidates.normals[left])
    np.testing.assert_array_equal(samples.faces, candidates.faces[left])


def test_of_equal_points_the_first_is_eliminated() -> None:
    left = _eliminate(np.zeros(7, np.int64), np.empty(0, np.int64), np.empty(0), 4)
    np.testing.assert_array_equal(left, [2, 3, 4, 5])


@pytest.mark.parametrize("count", [1, 2, 50, 2048])
def test_points_of_blue_noise_keep_their_distance(count: int) -> None:
    samples = sample_surface(MESH, count, np.random.default_rng(8), blue_noise=True)
    assert len(samples.points) == len(samples.normals) == len(samples.faces) == count
    again = sample_surface(MESH, count, np.random.default_rng(8), blue_noise=True)
    np.testing.assert_array_equal(samples.points, again.points)
    if count >= 50:
        white = sample_surface(MESH, count, np.random.default_rng(8)).points
        densest = 2 * np.sqrt(BUMPY.area / (2 * np.sqrt(3) * count))
        nearest, nearest_white = (cKDTree(points).query(points, k=2)[0][:, 1] for points in (samples.points, white))
        assert nearest.min() > 0.6 * densest > 3 * nearest_white.min()


def test_blue_noise_covers_areas_alike() -> None:
    drawn = np.bincount(
        sample_surface(MESH, 5000, np.random.default_rng(9), blue_noise=True).faces, minlength=len(MESH.faces)
    )
    expected = BUMPY.area_faces / BUMPY.area * 5000
    # White noise strays from the area by the square root of the number of points.
    assert (np.abs(drawn - expected) < 0.6 * np.sqrt(expected) + 6).all()
    assert len(sample_surface(MESH, 0, np.random.default_rng(9), blue_noise=True).points) == 0


def test_a_mesh_without_area_is_refused() -> None:
    with pytest.raises(InputRefused) as refused:
        sample_surface(Mesh(TRIANGLE.vertices, np.array([[0, 1, 1]])), 5, np.random.default_rng(0))
    assert refused.value.reason is Reason.ZERO_AREA


def _points_and_faces(mesh: Mesh, count: int) -> tuple[np.ndarray, np.ndarray]:
    samples = sample_surface(mesh, count, np.random.default_rng(9))
    return samples.points, samples.faces
